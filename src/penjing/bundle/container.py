"""The canonical zip of a tray: one set of members has exactly one file, byte for byte.

The reader takes names and sizes from the central directory, computes every byte around the data again (`zip_records`)
and compares: an altered header, a hole, an overlap, hidden data or a second archive in the padding cannot survive.

This module refuses compression, encryption, data descriptors, zip64, comments other than its own, and names that are
not safe on every system. It knows nothing about what the members mean, except that `manifest.json` comes first.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from penjing.bundle.names import collision_fault, member_name_fault
from penjing.bundle.zip_records import (
    CENTRAL,
    CENTRAL_MAGIC,
    COMMENT,
    CONTAINER_VERSION,
    END,
    END_BYTES,
    END_MAGIC,
    LOCAL,
    LOCAL_MAGIC,
    Entry,
    metadata,
)
from penjing.core.digests import digest_bytes
from penjing.core.errors import CorruptBundle, InvalidInput, UnsupportedBundle

MANIFEST = "manifest.json"
Buffer = bytes | memoryview

_ANY_END = re.compile(rb"PK\x05\x06[\s\S]{18}penjing-tray-(\d{1,9}) ")
_ZIP64 = 0xFFFFFFFF
_DAMAGED = "the file is damaged or was changed: copy it again from its source, or pack it again"


@dataclass(frozen=True)
class Limits:
    """What a reader accepts before it looks at anything: a hostile file costs no more than this.

    Attributes:
        file_bytes: of the whole file. Members are stored, so this bounds their sum too; zip64 starts far above it.
        n_members: members in one tray.
        name_bytes: of one member's name.
        manifest_bytes: of `manifest.json`, the only member that is parsed before its digest is known to be right.
    """

    file_bytes: int = 1 << 30
    n_members: int = 4096
    name_bytes: int = 200
    manifest_bytes: int = 4 << 20


DEFAULT_LIMITS = Limits()


def write_container(members: Mapping[str, Buffer], *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The one canonical zip of `members`.

    Raises:
        InvalidInput: no `manifest.json`, a name that is refused, or more than `limits` allows.
    """
    if MANIFEST not in members:
        raise InvalidInput(f"a tray needs a member {MANIFEST}")
    names = _in_order(members)
    fault = _set_fault(names, len(members[MANIFEST]), limits)
    if fault is not None:
        raise InvalidInput(fault)
    _refuse_too_large(sum(len(data) for data in members.values()), limits)  # before the fields of a header overflow
    entries = [Entry(name, len(members[name]), zlib.crc32(members[name])) for name in names]
    pieces = list(metadata(entries, digest_bytes(members[MANIFEST])))
    _refuse_too_large(pieces[-1][0] + len(pieces[-1][1]), limits)
    heads = [head for _, head in pieces[:-1]]
    body = (part for head, name in zip(heads, names, strict=True) for part in (head, members[name]))
    return b"".join((*body, pieces[-1][1]))


def read_container(data: Buffer, *, where: str = "tray", limits: Limits = DEFAULT_LIMITS) -> dict[str, memoryview]:
    """The members of a canonical zip as read-only views into `data`, `manifest.json` first, then by name.

    Args:
        data: the whole file.
        where: its name, for errors.
        limits: bounds that are checked before anything is allocated.

    Raises:
        CorruptBundle: `data` is not, byte for byte, the canonical zip of any set of members.
        UnsupportedBundle: the file says that a newer version wrote it.
    """
    if memoryview(data).nbytes == 0:
        raise _corrupt("the file is empty", where)
    view = memoryview(data).toreadonly().cast("B")
    if len(view) > limits.file_bytes:
        raise _corrupt(f"{len(view)} bytes are more than a tray may have ({limits.file_bytes})", where)
    n_members, central_offset = _read_end(view, where, limits)
    entries = _read_central(view, central_offset, n_members, where, limits)
    members = _slice_members(view, entries, central_offset, where)
    _compare_metadata(view, entries, members, where)
    return members


def _refuse_too_large(n_bytes: int, limits: Limits) -> None:
    if n_bytes > limits.file_bytes:
        raise InvalidInput(
            f"the tray would have {n_bytes} bytes, more than {limits.file_bytes}",
            hint="pack fewer targets or variants into one tray",
        )


def _in_order(members: Mapping[str, Buffer]) -> list[str]:
    return sorted(members, key=_order)


def _order(name: str) -> tuple[bool, str]:
    return (name != MANIFEST, name)


def _set_fault(names: Sequence[str], manifest_bytes: int, limits: Limits) -> str | None:
    if len(names) > limits.n_members:
        return f"{len(names)} members are more than a tray may have ({limits.n_members})"
    if manifest_bytes > limits.manifest_bytes:
        return f"{MANIFEST} has {manifest_bytes} bytes, more than {limits.manifest_bytes}"
    faults = (member_name_fault(name, limits.name_bytes) for name in names)
    return next((fault for fault in faults if fault is not None), None) or collision_fault(names)


# --- reading: every number is checked before it is used ---


def _read_end(view: memoryview, where: str, limits: Limits) -> tuple[int, int]:
    """(number of members, offset of the central directory), from the end record at its fixed place."""
    start = len(view) - END_BYTES
    prefix = COMMENT.format("").encode("ascii")
    comment_at = start + END.size
    if (
        start < 0
        or bytes(view[start : start + 4]) != END_MAGIC
        or bytes(view[comment_at : comment_at + len(prefix)]) != prefix
    ):
        raise _not_a_tray(view, where)
    _, disk, central_disk, n_here, n_members, central_bytes, offset, _ = END.unpack_from(view, start)
    if 0xFFFF in (n_here, n_members) or _ZIP64 in (central_bytes, offset):
        raise _corrupt("it asks for zip64, which a tray never needs", where, start)
    if disk or central_disk or n_here != n_members:
        raise _corrupt("it is one part of a split archive", where, start)
    if not 1 <= n_members <= limits.n_members:
        raise _corrupt(f"{n_members} members are not between 1 and {limits.n_members}", where, start)
    if offset + central_bytes != start:
        raise _corrupt("its central directory is not where the end record says", where, start)
    return n_members, offset


def _read_central(view: memoryview, offset: int, n_members: int, where: str, limits: Limits) -> list[Entry]:
    """The entries as the central directory declares them, safe names only, in canonical order."""
    end = len(view) - END_BYTES
    entries: list[Entry] = []
    for _ in range(n_members):
        if offset + CENTRAL.size > end:
            raise _corrupt("its central directory is cut short", where, offset)
        fields = CENTRAL.unpack_from(view, offset)
        magic, _, _, flags, method, _, _, crc32, packed, n_bytes, name_bytes, extra, comment, _, _, _, local = fields
        if magic != CENTRAL_MAGIC:
            raise _corrupt("an entry of its central directory has a wrong signature", where, offset)
        if name_bytes > limits.name_bytes or offset + CENTRAL.size + name_bytes > end:
            raise _corrupt(f"a member name of {name_bytes} bytes is too long", where, offset)
        name = _read_name(view[offset + CENTRAL.size : offset + CENTRAL.size + name_bytes], where, offset)
        if flags:
            raise _corrupt(f"member {name!a} is encrypted, streamed or flagged ({flags:#06x})", where, offset)
        if method or packed != n_bytes:
            raise _corrupt(f"member {name!a} is compressed; members of a tray are stored", where, offset)
        if _ZIP64 in (n_bytes, local):
            raise _corrupt(f"member {name!a} asks for zip64, which a tray never needs", where, offset)
        if extra or comment:
            raise _corrupt(f"member {name!a} carries an extra field or a comment", where, offset)
        entries.append(Entry(name, n_bytes, crc32))
        offset += CENTRAL.size + name_bytes
    if offset != end:
        raise _corrupt("its central directory is longer than its entries", where, offset)
    names = [entry.name for entry in entries]
    if names[0] != MANIFEST:
        raise _corrupt(f"its first member is {names[0]!a}, not {MANIFEST}", where)
    fault = _set_fault(names, entries[0].n_bytes, limits)
    if fault is None and any(_order(a) >= _order(b) for a, b in pairwise(names)):
        fault = "its members are not in order"
    if fault is not None:
        raise _corrupt(fault, where)
    return entries


def _read_name(raw: memoryview, where: str, offset: int) -> str:
    try:
        return bytes(raw).decode("ascii")
    except UnicodeDecodeError:
        raise _corrupt(f"member name {bytes(raw)!r} is not ASCII", where, offset) from None


def _slice_members(view: memoryview, entries: Sequence[Entry], central: int, where: str) -> dict[str, memoryview]:
    """Views of the members' data, each where the sizes of those before it put it, and all inside the file."""
    members: dict[str, memoryview] = {}
    cursor = 0
    for entry in entries:
        start = cursor + LOCAL.size + len(entry.name)
        cursor = start + entry.n_bytes
        if cursor > central:
            raise _corrupt(f"member {entry.name} of {entry.n_bytes} bytes does not fit into the file", where)
        members[entry.name] = view[start:cursor]
    if cursor != central:
        raise _corrupt(f"{central - cursor} bytes belong to no member", where, cursor)
    return members


def _compare_metadata(
    view: memoryview, entries: Sequence[Entry], members: Mapping[str, memoryview], where: str
) -> None:
    """Refuse the file unless every byte around the data is the one that the writer would have written."""
    for entry in entries:
        if zlib.crc32(members[entry.name]) != entry.crc32:
            raise _corrupt("its contents do not match their checksum", f"{where}, member {entry.name}")
    digest = digest_bytes(members[MANIFEST])
    if bytes(view[-64:]) != digest.encode("ascii"):
        raise _corrupt("it does not match the digest at the end of the file", f"{where}, member {MANIFEST}")
    for offset, expected in metadata(entries, digest):
        if bytes(view[offset : offset + len(expected)]) != expected:
            raise _corrupt("a header differs from the one form that penjing writes", where, offset)


# --- telling the user which of many wrong files this is ---


def _not_a_tray(view: memoryview, where: str) -> CorruptBundle | UnsupportedBundle:
    tail = bytes(view[-4096:])
    last = next(reversed(list(_ANY_END.finditer(tail))), None)
    if last is not None and int(last[1]) != CONTAINER_VERSION:
        return UnsupportedBundle(
            f"the tray has container version {int(last[1])}; this release reads version {CONTAINER_VERSION}",
            where=where,
            hint="upgrade penjing",
        )
    if last is not None:
        surplus = len(tail) - last.start() - END_BYTES
        state = f"{surplus} bytes follow its end" if surplus > 0 else f"its last {-surplus} bytes are missing"
        return _corrupt(f"the tray is damaged: {state}" if surplus else "the tray's end record is damaged", where)
    if bytes(view[:4]) != LOCAL_MAGIC:
        return _corrupt(f"not a tray: the file {_looks_like(view)}", where, hint=_hint_for(view))
    if tail.find(END_MAGIC) >= 0:
        return _corrupt(
            "not a tray: a zip file that penjing did not write",
            where,
            hint="a tray that was unpacked and zipped again is no longer a tray; pack it with penjing",
        )
    return _corrupt("the tray is truncated: its end record is missing", where)


def _looks_like(view: memoryview) -> str:
    head = bytes(view[:512])
    if all(byte >= 0x20 or byte in b"\t\n\r\f" for byte in head):
        return f"is text and starts with {head[:24].decode('latin-1')!a}"
    return f"starts with {head[:8].hex(' ')}, which is no zip"


def _hint_for(view: memoryview) -> str:
    if bytes(view[:40]).startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer: fetch the file itself with `git lfs pull`"
    return "give the path of a .tray file; `penjing build` makes one"


def _corrupt(what: str, where: str, offset: int | None = None, *, hint: str = _DAMAGED) -> CorruptBundle:
    place = where if offset is None else f"{where}, byte {offset}"
    return CorruptBundle(what, where=place, hint=hint)
