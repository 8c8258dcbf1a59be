"""Packing a tray: the parts of a model in, the bytes of one file out. The same parts give the same bytes anywhere.

Tensors are coded as small as they get, each variant's in one pack; equal packs are stored once. No clock, path, user or
host name enters.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from penjing.bundle.coding.tensors import pack_tensors
from penjing.bundle.container import MANIFEST, write_container
from penjing.bundle.golden import Golden, golden_fault, golden_tensors
from penjing.bundle.manifest import FORMAT, dump_manifest
from penjing.bundle.manifest_rules import ADDRESS_DIGITS, REPORTS
from penjing.bundle.program_text import pack_program
from penjing.bundle.schema import (
    Accuracy,
    InputSpec,
    Manifest,
    MemberInfo,
    OutputSpec,
    TargetBuild,
    Variant,
)
from penjing.bundle.tray import Tray
from penjing.core.digests import digest_bytes
from penjing.core.errors import InvalidInput, PenjingError
from penjing.core.files import write_atomically


@dataclass(frozen=True)
class VariantParts:
    """One integer form of the model. `weights`: constant -> u8, s8, s16, s32 or f32 array, in the program's order."""

    program: str
    weights: Mapping[str, np.ndarray]
    golden: Golden
    arena_bytes: int
    weights_bytes: int
    macs: int
    n_ops: int
    accuracy: Accuracy | None = None
    session_bytes: int = 0


@dataclass(frozen=True)
class LibraryParts:
    """One compiled library; it becomes the member `lib/<target>/<file_name>`. Fields as in `TargetBuild`."""

    file_name: str
    data: bytes
    standalone: bool
    flash_bytes: int
    compiler: str
    abi: int
    arena_bytes: int
    packed_bytes: int
    packed_digest: str
    threads: int = 1
    tiles: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict)
    stack_bytes: int | None = None


@dataclass(frozen=True)
class TrayParts:
    """Everything that goes into a tray.

    Attributes:
        name: of the model, a plain name.
        card: the model card, text to text.
        inputs, outputs: as the manifest has them.
        variants: by name.
        libraries: target -> variant -> library.
        sources: path below `src/` -> bytes of generated C.
        reports: `report.html` and `record.json`, where there are any.
    """

    name: str
    card: Mapping[str, str]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    variants: Mapping[str, VariantParts]
    libraries: Mapping[str, Mapping[str, LibraryParts]] = field(default_factory=dict)
    sources: Mapping[str, bytes] = field(default_factory=dict)
    reports: Mapping[str, bytes] = field(default_factory=dict)


def pack_tray(parts: TrayParts, *, with_debug: bool = True) -> bytes:
    """The bytes of a tray.

    Args:
        parts: what goes in.
        with_debug: keep what only people need: `sources` and `reports`.

    Raises:
        InvalidInput: parts that contradict each other or that the format cannot hold.
    """
    members: dict[str, bytes | memoryview] = {}
    variants = {name: _add_variant(members, name, parts) for name in sorted(parts.variants)}
    targets = {
        target: {variant: _add_library(members, target, library) for variant, library in builds.items()}
        for target, builds in parts.libraries.items()
    }
    if with_debug:
        for path, data in parts.sources.items():
            _add(members, f"src/{path}", data)
        for name, data in parts.reports.items():
            _add(members, name, data)
    manifest = Manifest(
        format=FORMAT,
        name=parts.name,
        requires=(),
        card=parts.card,
        inputs=parts.inputs,
        outputs=parts.outputs,
        variants=variants,
        targets=targets,
        members={},
    )
    # Golden vectors last: their check relies on shapes and dtypes that the manifest's rules have passed.
    packed = _write(manifest, members)
    for name, variant in parts.variants.items():
        fault = golden_fault(variant.golden, parts.inputs, parts.outputs)
        if fault is not None:
            raise InvalidInput(fault, where=f"variant {name}")
    return packed


def without_debug(tray: Tray) -> bytes:
    """The bytes of the same tray without `src/` and reports: what a device needs, and no more."""
    kept = {name: tray.members[name] for name in tray.manifest.members if not _is_debug(name)}
    return _write(tray.manifest, kept)


def without_libraries(tray: Tray) -> bytes:
    """The same without compiled libraries too: the model alone, which any machine can interpret or compile."""
    kept = {name: tray.members[name] for name in tray.manifest.members if not _is_debug(name)}
    return _write(replace(tray.manifest, targets={}), {n: data for n, data in kept.items() if not n.startswith("lib/")})


def save_tray(data: bytes, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a tray whole or not at all; an existing file stays as it is until the new one is complete.

    Raises:
        OutputExists: `path` exists and `force` is false.
        WriteFailed: the disk is full, read-only, or the folder is missing.
    """
    write_atomically(Path(path), data, force=force)


def _write(manifest: Manifest, members: Mapping[str, bytes | memoryview]) -> bytes:
    infos = {name: MemberInfo(digest_bytes(data), len(data)) for name, data in members.items()}
    document = dump_manifest(replace(manifest, members=infos))
    return write_container({MANIFEST: document, **members})


def _add_variant(members: dict[str, bytes | memoryview], name: str, parts: TrayParts) -> Variant:
    variant = parts.variants[name]
    program = f"program/{name}"
    weights = _add_tensors(members, "weights", variant.weights, f"variant {name}")
    try:
        _add(members, program, pack_program(variant.program, variant.weights))
    except UnicodeEncodeError as error:
        raise InvalidInput(f"the program is not text at character {error.start}", where=f"variant {name}") from None
    return Variant(
        program=program,
        weights=weights,
        golden=_add_tensors(members, "golden", golden_tensors(variant.golden), f"variant {name}, golden"),
        arena_bytes=variant.arena_bytes,
        session_bytes=variant.session_bytes,
        weights_bytes=variant.weights_bytes,
        macs=variant.macs,
        n_ops=variant.n_ops,
        accuracy=variant.accuracy,
    )


def _add_library(members: dict[str, bytes | memoryview], target: str, library: LibraryParts) -> TargetBuild:
    member = f"lib/{target}/{library.file_name}"
    _add(members, member, library.data)
    return TargetBuild(
        library=member,
        standalone=library.standalone,
        flash_bytes=library.flash_bytes,
        stack_bytes=library.stack_bytes,
        arena_bytes=library.arena_bytes,
        packed_bytes=library.packed_bytes,
        packed_digest=library.packed_digest,
        threads=library.threads,
        tiles=library.tiles,
        compiler=library.compiler,
        abi=library.abi,
    )


def _add_tensors(
    members: dict[str, bytes | memoryview], folder: str, tensors: Mapping[str, np.ndarray], where: str
) -> str:
    try:
        data = pack_tensors(tensors)
    except PenjingError as error:
        place = where if error.where is None else f"{where}, tensor {error.where}"
        raise InvalidInput(error.what, where=place, hint=error.hint) from error
    name = f"{folder}/{digest_bytes(data)[:ADDRESS_DIGITS]}"
    _add(members, name, data)
    return name


def _add(members: dict[str, bytes | memoryview], name: str, data: bytes) -> None:
    if members.setdefault(name, data) != data:
        raise InvalidInput(f"two different parts are both named {name!a}", hint="give each its own file name")


def _is_debug(name: str) -> bool:
    return name.startswith("src/") or name in REPORTS
