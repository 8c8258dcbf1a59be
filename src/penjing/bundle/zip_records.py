"""The bytes of a tray around its members' data: zip records in the one form that penjing writes.

All of them are a function of the members' names, sizes and CRC-32s and of the manifest's SHA-256. Writer and reader
share this module, so that the reader can compare what it finds with what the writer would have written.
`docs/spec/bundle.md` lists every field.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CONTAINER_VERSION = 1
ALIGNMENT_BYTES = 64

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
LOCAL_MAGIC, CENTRAL_MAGIC, END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION_NEEDED = 10  # 1.0: stored files only
_MADE_BY = 3 << 8 | _VERSION_NEEDED  # Unix, so that the file mode below is honoured
_MODE = 0o100644 << 16  # a regular file, never a link, a folder or a program
_DATE = 1 << 5 | 1  # 1980-01-01, the first date of the format: no clock enters the file
# Extra block: id, size of what follows, alignment, zeros. Android's zip tools write the same one; unlike bare padding,
# it is well-formed, so that every unzip program can step over it.
_ALIGN_BLOCK = struct.Struct("<3H")
_ALIGN_ID = 0xD935
COMMENT = f"penjing-tray-{CONTAINER_VERSION} sha256:{{}}"
END_BYTES = END.size + len(COMMENT.format("0" * 64))


@dataclass(frozen=True)
class Entry:
    """What the records say of one member: its name (ASCII), its size and the CRC-32 of its contents."""

    name: str
    n_bytes: int
    crc32: int


def metadata(entries: Sequence[Entry], manifest_digest: str) -> Iterator[tuple[int, bytes]]:
    """(file offset, bytes) of each local header in order, then of the central directory with the end record."""
    central = bytearray()
    cursor = 0
    for entry in entries:
        head = _local_header(entry, cursor)
        yield cursor, head
        central += _central_header(entry, cursor)
        cursor += len(head) + entry.n_bytes
    yield cursor, bytes(central) + _end_record(len(entries), len(central), cursor, manifest_digest)


def extra_bytes(name: str, offset: int) -> int:
    """Length of the extra block that moves the data of a header at `offset` to the next aligned byte."""
    smallest = offset + LOCAL.size + len(name) + _ALIGN_BLOCK.size
    return _ALIGN_BLOCK.size + -smallest % ALIGNMENT_BYTES


def _local_header(entry: Entry, offset: int) -> bytes:
    extra = extra_bytes(entry.name, offset)
    size = entry.n_bytes
    head = LOCAL.pack(
        LOCAL_MAGIC, _VERSION_NEEDED, 0, 0, 0, _DATE, entry.crc32, size, size, len(entry.name), extra
    )  # fmt: skip
    padding = bytes(extra - _ALIGN_BLOCK.size)
    return head + entry.name.encode("ascii") + _ALIGN_BLOCK.pack(_ALIGN_ID, extra - 4, ALIGNMENT_BYTES) + padding


def _central_header(entry: Entry, offset: int) -> bytes:
    size = entry.n_bytes
    head = CENTRAL.pack(
        CENTRAL_MAGIC, _MADE_BY, _VERSION_NEEDED, 0, 0, 0, _DATE, entry.crc32, size, size,
        len(entry.name), 0, 0, 0, 0, _MODE, offset,
    )  # fmt: skip
    return head + entry.name.encode("ascii")


def _end_record(n_members: int, central_bytes: int, central_offset: int, manifest_digest: str) -> bytes:
    comment = COMMENT.format(manifest_digest).encode("ascii")
    return END.pack(END_MAGIC, 0, 0, n_members, n_members, central_bytes, central_offset, len(comment)) + comment
