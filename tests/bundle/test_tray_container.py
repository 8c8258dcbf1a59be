"""The container: one canonical zip per set of members, and no other zip is accepted."""

import hashlib
import io
import shutil
import struct
import subprocess
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest

from penjing.bundle import Limits, read_container, read_tray, write_container
from penjing.bundle.zip_records import Entry, metadata
from penjing.core.errors import BundleError, CorruptBundle, InvalidInput, UnsupportedBundle

MEMBERS = {"manifest.json": b"{}\n", "src/a.c": b"int a;\n", "weights/0": bytes(range(200)), "empty": b""}
CENTRAL = struct.Struct("<4s6H3I5H2I")


def seal(manifest: bytes) -> bytes:
    return f"penjing-tray-1 sha256:{hashlib.sha256(manifest).hexdigest()}".encode()


def foreign(fill, manifest: bytes = b"{}\n") -> bytes:
    """A zip that another program wrote, with the end comment of a tray."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of duplicate names
        archive.writestr(zipfile.ZipInfo("manifest.json"), manifest)
        fill(archive)
        archive.comment = seal(manifest)
    return stream.getvalue()


def forged(*members: tuple[str, bytes], sort: bool = True, crc_mask: int = 0) -> bytes:
    """What an attacker makes who knows the format: our own records around members that our writer would refuse."""
    if sort:
        members = tuple(sorted(members, key=lambda member: (member[0] != "manifest.json", member[0])))
    entries = [Entry(name, len(data), zlib.crc32(data) ^ crc_mask) for name, data in members]
    manifest = next(data for name, data in members if name == "manifest.json")
    pieces = [piece for _, piece in metadata(entries, hashlib.sha256(manifest).hexdigest())]
    return b"".join(piece + data for piece, (_, data) in zip(pieces, members, strict=False)) + pieces[-1]


def test_forged_trays_differ_from_ours_only_in_their_members():
    assert forged(*MEMBERS.items()) == write_container(MEMBERS)


def patched(data: bytes, marker: bytes, offset: int, value: bytes, nth: int = 0) -> bytes:
    """`data` with `value` written `offset` bytes after the nth occurrence of `marker`."""
    at = -1
    for _ in range(nth + 1):
        at = data.index(marker, at + 1)
    return data[: at + offset] + value + data[at + offset + len(value) :]


def test_members_come_back_with_the_manifest_first_and_the_rest_sorted():
    members = read_container(write_container(MEMBERS))
    assert list(members) == ["manifest.json", "empty", "src/a.c", "weights/0"]
    assert {name: bytes(data) for name, data in members.items()} == MEMBERS


def test_members_are_read_only_views_of_the_file():
    data = bytearray(write_container(MEMBERS))
    view = read_container(memoryview(data))["weights/0"]
    assert view.readonly
    assert view.obj is data


def test_the_order_of_insertion_does_not_change_a_byte():
    assert write_container(dict(reversed(MEMBERS.items()))) == write_container(MEMBERS)


def test_the_zip_module_opens_a_tray():
    with zipfile.ZipFile(io.BytesIO(write_container(MEMBERS))) as archive:
        assert archive.testzip() is None
        assert {info.filename: archive.read(info) for info in archive.infolist()} == MEMBERS
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.comment == seal(b"{}\n")


def test_unzip_opens_a_tray(tmp_path: Path):
    if shutil.which("unzip") is None:
        pytest.skip("no unzip on this machine")
    (tmp_path / "m.tray").write_bytes(write_container(MEMBERS))
    subprocess.run(["unzip", "-q", "m.tray", "-d", "out"], cwd=tmp_path, check=True)
    for name, data in MEMBERS.items():
        assert (tmp_path / "out" / name).read_bytes() == data


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../up",
        "src/../../up",
        "src/./a",
        "src//a",
        "src/",
        "C:/a",
        "src\\a",
        "a\0b",
        ".hidden",
        "-rf",
        "dot.",
        "a b",
        "tab\t",
        "\x1b[2J",
        "n" * 201,
        "MANIFEST.JSON",  # the same file as manifest.json where case is ignored
        "manifest.json/a",
        "EMPTY",
    ],
)
def test_an_unsafe_name_is_neither_written_nor_read(name):
    with pytest.raises(InvalidInput):
        write_container({**MEMBERS, name: b""})
    with pytest.raises(CorruptBundle, match=r"name|folder") as caught:
        read_container(forged(*MEMBERS.items(), (name, b"")))
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("a", b""), ("manifest.json", b"{}")], "first member"),
        ([("manifest.json", b"{}"), ("b", b""), ("a", b"")], "order"),
        ([("manifest.json", b"{}"), ("a", b"1"), ("a", b"2")], "same name"),
        ([("manifest.json", b"{}"), ("manifest.json", b"[]")], "same name"),
        ([("manifest.json", b"{}"), ("a", b""), ("a/b", b"")], "folder"),
    ],
)
def test_members_out_of_order_or_twice_are_refused(members, reason):
    with pytest.raises(CorruptBundle, match=reason):
        read_container(forged(*members, sort=False))


def test_a_checksum_that_is_wrong_in_both_headers_is_refused():
    """Our digests would still hold, but every unzip program would call the file broken."""
    with pytest.raises(CorruptBundle, match="checksum"):
        read_container(forged(*MEMBERS.items(), crc_mask=1))


def test_a_tray_without_manifest_is_not_written():
    with pytest.raises(InvalidInput, match=r"manifest\.json"):
        write_container({"a": b""})


def add(name="a", data=b"x" * 100, **fields):
    """A step that writes one member with the given fields of ZipInfo."""

    def fill(archive):
        info = zipfile.ZipInfo(name)
        for key, value in fields.items():
            setattr(info, key, value)
        archive.writestr(info, data)

    return fill


def twice(archive):
    add(data=b"one")(archive)
    add(data=b"two")(archive)


def zip64(archive):
    with archive.open(zipfile.ZipInfo("a"), "w", force_zip64=True) as stream:
        stream.write(b"x")


STORED = foreign(add())
HOSTILE = {
    "compressed": (foreign(add(compress_type=zipfile.ZIP_DEFLATED)), "compressed"),
    "bomb of 8 MB": (foreign(add(data=bytes(8 << 20), compress_type=zipfile.ZIP_DEFLATED)), "compressed"),
    "lzma": (foreign(add(compress_type=zipfile.ZIP_LZMA)), "flagged"),
    "twice the same name": (foreign(twice), "same name"),
    "local zip64 fields": (foreign(zip64), "belong to no member"),
    "an extra field": (foreign(add(extra=b"\x01\x02\x01\x00x")), "extra field"),
    "a member comment": (foreign(add(comment=b"hello")), "comment"),
    "the wrong order": (foreign(lambda archive: (add("b")(archive), add("a")(archive))), "order"),
    "the headers of another program": (STORED, "one form"),
    "an encrypted member": (patched(STORED, b"PK\x01\x02", 8, b"\x01\x00", nth=1), "encrypted"),
    "a data descriptor": (patched(STORED, b"PK\x01\x02", 8, b"\x08\x00", nth=1), "flagged"),
    "a huge stored size": (patched(STORED, b"PK\x01\x02", 20, b"\xfe\xff\xff\xff" * 2, nth=1), "does not fit"),
    "a zip64 size": (patched(STORED, b"PK\x01\x02", 20, b"\xff\xff\xff\xff" * 2, nth=1), "zip64"),
    "a zip64 count": (patched(STORED, b"PK\x05\x06", 8, b"\xff\xff\xff\xff"), "zip64"),
    "a split archive": (patched(STORED, b"PK\x05\x06", 4, b"\x01\x00"), "split"),
    "no members": (patched(STORED, b"PK\x05\x06", 8, b"\x00\x00\x00\x00"), "not between"),
    "more entries than it has": (patched(STORED, b"PK\x05\x06", 8, b"\x03\x00\x03\x00"), "cut short"),
    "fewer entries than it has": (patched(STORED, b"PK\x05\x06", 8, b"\x01\x00\x01\x00"), "longer than"),
    "a directory elsewhere": (patched(STORED, b"PK\x05\x06", 16, b"\x00\x00\x00\x00"), "not where"),
    "a broken signature": (patched(STORED, b"PK\x01\x02", 0, b"PK\x09\x09", nth=1), "wrong signature"),
    "a name past the end": (patched(STORED, b"PK\x01\x02", 28, b"\xb0\x00", nth=1), "too long"),
    "a name that is not ASCII": (patched(STORED, b"PK\x01\x02", 46, b"\xff", nth=1), "ASCII"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_zip_with_the_comment_of_a_tray_is_refused(case):
    data, reason = HOSTILE[case]
    with pytest.raises(CorruptBundle, match=reason):
        read_container(data, where="evil.tray")


def test_another_manifest_under_the_same_end_comment_is_refused():
    stream = io.BytesIO(write_container({"manifest.json": b"{'a': 1}"}))
    data = stream.getvalue()
    other = write_container({"manifest.json": b"{'a': 2}"})
    with pytest.raises(CorruptBundle, match="digest"):
        read_container(other[:-64] + data[-64:])


def overlapped() -> bytes:
    """Two members that claim the same bytes: the classic bomb without recursion."""
    data = write_container({"manifest.json": b"{}\n", "a": b"a" * 64, "b": b"b" * 64})
    first = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    second = data.index(b"PK\x01\x02", first + 1)
    return data[: second + 42] + data[first + 42 : first + 46] + data[second + 46 :]


def test_overlapping_members_are_refused():
    with pytest.raises(CorruptBundle):
        read_container(overlapped())


def test_data_hidden_between_members_is_refused():
    data = write_container(MEMBERS)
    end = data.index(b"PK\x01\x02")
    grown = data[:end] + b"hidden" + data[end:]
    at = grown.index(b"PK\x05\x06") + 16
    moved = grown[:at] + struct.pack("<I", end + 6) + grown[at + 4 :]
    with pytest.raises(CorruptBundle, match="belong to no member"):
        read_container(moved)


def test_a_second_zip_before_or_after_a_tray_is_refused():
    """Polyglots: a reader from the front and a reader from the back would see two archives."""
    tray = write_container(MEMBERS)
    with pytest.raises(CorruptBundle):
        read_container(STORED + tray)
    with pytest.raises(CorruptBundle):
        read_container(tray + STORED)
    with pytest.raises(CorruptBundle):
        read_container(tray + tray)


def test_a_tray_inside_a_zip_is_not_a_tray():
    with pytest.raises(BundleError):
        read_tray(foreign(add("inner.tray", write_container(MEMBERS))))


def test_a_newer_container_asks_for_an_upgrade():
    data = write_container(MEMBERS).replace(b"penjing-tray-1 ", b"penjing-tray-2 ")
    with pytest.raises(UnsupportedBundle, match="version 2") as caught:
        read_container(data)
    assert caught.value.hint == "upgrade penjing"


@pytest.mark.parametrize(
    "limits",
    [Limits(file_bytes=500), Limits(n_members=3), Limits(name_bytes=8), Limits(manifest_bytes=2)],
    ids=["file_bytes", "n_members", "name_bytes", "manifest_bytes"],
)
def test_limits_hold_for_reader_and_writer(limits):
    data = write_container(MEMBERS)
    with pytest.raises(CorruptBundle):
        read_container(data, limits=limits)
    with pytest.raises(InvalidInput):
        write_container(MEMBERS, limits=limits)


@pytest.mark.parametrize(
    ("data", "what", "hint"),
    [
        (b"", "empty", "damaged"),
        (b"hello, world\n" * 50, "is text", r"\.tray"),
        (b"<!doctype html><title>404</title>", "is text", r"\.tray"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is text", "git lfs pull"),
        (b"\x7fELF\x02\x01\x01" + bytes(200), "no zip", r"\.tray"),
        (b"PK\x05\x06" + bytes(18), "starts with", r"\.tray"),
        (b"PK\x03\x04" + bytes(300), "truncated", "copy it again"),
    ],
    ids=["empty", "text", "web page", "lfs pointer", "elf", "empty zip", "cut zip"],
)
def test_a_file_that_is_no_tray_says_what_it_looks_like(data, what, hint):
    with pytest.raises(CorruptBundle, match=what) as caught:
        read_container(data, where="x.tray")
    assert caught.value.where.startswith("x.tray")
    with pytest.raises(CorruptBundle, match=hint):
        raise CorruptBundle(caught.value.hint)


def test_a_tray_that_was_zipped_again_says_so():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    with pytest.raises(CorruptBundle, match="penjing did not write") as caught:
        read_container(stream.getvalue())
    assert "zipped again" in caught.value.hint
