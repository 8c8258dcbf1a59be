"""Opening a tray. Nothing of a tray is looked at before what vouches for it was checked, in this order:

1. the size of the file, before it is read;
2. the container: its canonical form, and the digest of `manifest.json` in its end comment;
3. the manifest, which is parsed within bounds;
4. the SHA-256 of every other member against the manifest, and that none is missing or extra;
5. only then, and only when asked for, programs, tensors and libraries.

The file is read into memory once, not mapped: a mapped file can be changed by another process after its digests were
checked.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from penjing.bundle.coding.deflate import DeflateFault
from penjing.bundle.coding.tensors import PackDecoder, read_pack
from penjing.bundle.container import DEFAULT_LIMITS, MANIFEST, Limits, read_container
from penjing.bundle.golden import Golden, golden_fault, golden_of
from penjing.bundle.manifest import parse_manifest
from penjing.bundle.program_text import ProgramFault, read_program
from penjing.bundle.schema import Manifest, Variant
from penjing.core.digests import digest_bytes
from penjing.core.errors import CorruptBundle, InvalidInput, UnsupportedBundle

_COPY_AGAIN = "the file is damaged or was changed: copy it again from its source, or pack it again"


@dataclass(frozen=True)
class Tray:
    """A verified tray.

    Attributes:
        manifest: what the tray holds.
        members: name -> read-only bytes of every member, `manifest.json` first.
        manifest_digest: SHA-256 of `manifest.json`, 64 hex digits: the identity of the tray.
        n_bytes: size of the file.
        where: name of the file, for errors.
    """

    manifest: Manifest = field(repr=False)
    members: Mapping[str, memoryview] = field(repr=False)
    manifest_digest: str
    n_bytes: int
    where: str

    def variant(self, name: str) -> Variant:
        """The manifest entry of one variant.

        Raises:
            InvalidInput: there is no such variant.
        """
        found = self.manifest.variants.get(name)
        if found is None:
            raise InvalidInput(
                f"the tray has no variant {name!a}",
                where=self.where,
                hint=f"choose one of: {', '.join(sorted(self.manifest.variants))}",
            )
        return found

    def program_text(self, variant: str) -> str:
        """The integer program of a variant in its text form."""
        return self.program(variant)[0]

    def weights(self, variant: str, decode: PackDecoder | None = None) -> dict[str, np.ndarray]:
        """Tensor name in the program -> read-only array, decoded anew by each call; by `decode` instead of numpy."""
        return self._tensors(self.variant(variant).weights, decode)

    def program(self, variant: str, decode: PackDecoder | None = None) -> tuple[str, dict[str, np.ndarray]]:
        """The text of a variant's program and its `weights`, which the text needs too: both for one decoding."""
        member, weights = self.variant(variant).program, self.weights(variant, decode)
        try:
            return read_program(self.members[member], weights), weights
        except UnicodeDecodeError as error:
            raise CorruptBundle(f"a program is not UTF-8 at byte {error.start}", where=self._place(member)) from None
        except (DeflateFault, ProgramFault) as fault:
            raise CorruptBundle(f"a program is refused: {fault}", where=self._place(member)) from None

    def golden(self, variant: str) -> Golden:
        """The codes of the self-test of a variant; shapes and dtypes fit the manifest."""
        member, inputs, outputs = self.variant(variant).golden, self.manifest.inputs, self.manifest.outputs
        golden = golden_of(self._tensors(member), len(inputs), len(outputs))
        if golden is None:
            raise CorruptBundle("golden vectors are not those of the inputs and outputs", where=self._place(member))
        fault = golden_fault(golden, inputs, outputs)
        if fault is not None:
            raise CorruptBundle(fault, where=self._place(member))
        return golden

    def library(self, target: str, variant: str) -> bytes | None:
        """The compiled library of a variant for `target`, or None where the tray has none."""
        self.variant(variant)
        build = self.manifest.targets.get(target, {}).get(variant)
        return None if build is None else bytes(self.members[build.library])

    def source(self) -> dict[str, bytes]:
        """The members under `src/`, by their full names; empty in a tray without debug parts."""
        return {name: bytes(data) for name, data in self.members.items() if name.startswith("src/")}

    def _tensors(self, member: str, decode: PackDecoder | None = None) -> dict[str, np.ndarray]:
        return read_pack(self.members[member], where=self._place(member), decode=decode)

    def _place(self, member: str) -> str:
        return f"{self.where}, member {member}"


def open_tray(path: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> Tray:
    """Read and verify the tray at `path`.

    Raises:
        InvalidInput: no such file, a folder, or a file that cannot be read.
        CorruptBundle: not a tray, truncated, or altered anywhere.
        UnsupportedBundle: written by a newer penjing.
    """
    return read_tray(_read_file(Path(path), limits), where=str(path), limits=limits)


def read_tray(data: bytes | memoryview, *, where: str = "tray", limits: Limits = DEFAULT_LIMITS) -> Tray:
    """Verify a tray in memory; `data` must not change while the tray is in use. Errors as `open_tray`."""
    members = read_container(data, where=where, limits=limits)
    manifest = parse_manifest(members[MANIFEST], where=where)
    _check_members(manifest, members, where)
    return Tray(
        manifest=manifest,
        members=members,
        manifest_digest=digest_bytes(members[MANIFEST]),
        n_bytes=memoryview(data).nbytes,
        where=where,
    )


def _check_members(manifest: Manifest, members: Mapping[str, memoryview], where: str) -> None:
    listed, found = manifest.members.keys(), members.keys() - {MANIFEST}
    missing = sorted(listed - found)
    if missing:
        raise CorruptBundle(f"member {missing[0][:200]!a} is missing", where=where, hint=_COPY_AGAIN)
    extra = sorted(found - listed)
    if extra and extra[0].startswith("signatures/"):
        what = "the tray is signed, and this release cannot verify signatures"
        raise UnsupportedBundle(what, where=where, hint="upgrade penjing")
    if extra:
        raise CorruptBundle(f"member {extra[0]!a} is not listed in the manifest", where=where, hint=_COPY_AGAIN)
    for name, info in manifest.members.items():
        data = members[name]
        if len(data) != info.bytes or digest_bytes(data) != info.sha256:
            raise CorruptBundle(
                "its contents do not match their digest in the manifest",
                where=f"{where}, member {name}",
                hint=_COPY_AGAIN,
            )


def _read_file(path: Path, limits: Limits) -> memoryview:
    hint = "check the path; `penjing build` makes a tray"
    try:
        # Before opening: a pipe or a device would block or never end.
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise InvalidInput(f"{path} is a folder, not a tray", where=str(path), hint=hint)
        if not stat.S_ISREG(kind):
            raise InvalidInput(f"{path} is not a regular file", where=str(path), hint="copy the tray to a file first")
        with path.open("rb", buffering=0) as stream:
            n_bytes = os.fstat(stream.fileno()).st_size
            if n_bytes > limits.file_bytes:
                what = f"{n_bytes} bytes are more than a tray may have ({limits.file_bytes})"
                raise CorruptBundle(what, where=str(path), hint="this is no tray of this release")
            data = memoryview(bytearray(n_bytes))
            filled = 0
            while filled < n_bytes and (count := stream.readinto(data[filled:])):
                filled += count
            if filled < n_bytes or stream.read(1):
                raise CorruptBundle("the file changed while it was read", where=str(path), hint="try again")
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}", where=str(path), hint=hint) from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidInput(f"cannot read {path}: {reason}", where=str(path), hint=hint) from error
    return data.toreadonly()
