"""The `.tray` file: opened, verified, packed. `docs/spec/bundle.md` is its specification.

Packing is in `penjing.bundle.pack`, which a device that only opens trays never imports.
"""

from penjing.bundle.container import Limits, read_container, write_container
from penjing.bundle.golden import Golden
from penjing.bundle.manifest import FORMAT, dump_manifest, parse_manifest
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
    "Limits",
    "Manifest",
    "MemberInfo",
    "OutputSpec",
    "TargetBuild",
    "Tray",
    "Variant",
    "dump_manifest",
    "open_tray",
    "pack_tensor",
    "parse_manifest",
    "read_container",
    "read_tensor",
    "read_tray",
    "write_container",
]
