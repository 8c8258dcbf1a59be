"""The `.tray` file: packed, opened, verified. `docs/spec/bundle.md` is its specification."""

from penjing.bundle.container import Limits, read_container, write_container
from penjing.bundle.golden import Golden
from penjing.bundle.manifest import FORMAT, dump_manifest, parse_manifest
from penjing.bundle.pack import LibraryParts, TrayParts, VariantParts, pack_tray, save_tray, without_debug
from penjing.bundle.schema import (
    Accuracy,
    GoldenMembers,
    InputSpec,
    Manifest,
    MemberInfo,
    OutputSpec,
    TargetBuild,
    Variant,
)
from penjing.bundle.tensors import pack_tensor, read_tensor
from penjing.bundle.tray import Tray, open_tray, read_tray

__all__ = [
    "FORMAT",
    "Accuracy",
    "Golden",
    "GoldenMembers",
    "InputSpec",
    "LibraryParts",
    "Limits",
    "Manifest",
    "MemberInfo",
    "OutputSpec",
    "TargetBuild",
    "Tray",
    "TrayParts",
    "Variant",
    "VariantParts",
    "dump_manifest",
    "open_tray",
    "pack_tensor",
    "pack_tray",
    "parse_manifest",
    "read_container",
    "read_tensor",
    "read_tray",
    "save_tray",
    "without_debug",
    "write_container",
]
