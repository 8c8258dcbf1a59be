"""The `.tray` file: opened, verified, packed. `docs/spec/bundle.md` is its specification.

Packing is in `penjing.bundle.pack`, which a device that only opens trays never imports.
"""

from penjing.bundle.coding.generated import generated
from penjing.bundle.coding.tensors import pack_tensors, read_pack
from penjing.bundle.container import Limits, read_container, write_container
from penjing.bundle.golden import Golden
from penjing.bundle.manifest import FORMAT, dump_manifest, parse_manifest
from penjing.bundle.schema import (
    Accuracy,
    InputSpec,
    Manifest,
    MemberInfo,
    OutputSpec,
    TargetBuild,
    Variant,
)
from penjing.bundle.tray import Tray, open_tray, read_tray

__all__ = [
    "FORMAT",
    "Accuracy",
    "Golden",
    "InputSpec",
    "Limits",
    "Manifest",
    "MemberInfo",
    "OutputSpec",
    "TargetBuild",
    "Tray",
    "Variant",
    "dump_manifest",
    "generated",
    "open_tray",
    "pack_tensors",
    "parse_manifest",
    "read_container",
    "read_pack",
    "read_tray",
    "write_container",
]
