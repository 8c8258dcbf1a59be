"""The bytes of a tray around its members' data: zip records in the one form that penjing writes.

All of them are a function of the members' names, sizes and CRC-32s and of the manifest's SHA-256. Writer and reader
share this module, so that the reader can compare what it finds with what the writer would have written.
`docs/spec/bundle.md` lists every field.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CONTAINER_VERSION = 1

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
LOCAL_MAGIC, CENTRAL_MAGIC, END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION_NEEDED = 10  # 1.0: stored files only
_MADE_BY = 3 << 8 | _VERSION_NEEDED  # Unix, so that the file mode below is honoured
_MODE = 0o100644 << 16  # a regular file, never a link, a folder or a program
_DATE = 1 << 5 | 1  # 1980-01-01, the first date of the format: no clock enters the file
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
        head = _local_header(entry)
        yield cursor, head
        central += _central_header(entry, cursor)
        cursor += len(head) + entry.n_bytes
    yield cursor, bytes(central) + _end_record(len(entries), len(central), cursor, manifest_digest)


def _local_header(entry: Entry) -> bytes:
    size = entry.n_bytes
    head = LOCAL.pack(LOCAL_MAGIC, _VERSION_NEEDED, 0, 0, 0, _DATE, entry.crc32, size, size, len(entry.name), 0)
    return head + entry.name.encode("ascii")


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
