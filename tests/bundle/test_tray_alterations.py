"""No damage to a tray goes unseen, and none causes anything but a BundleError."""

import hashlib
import io
import json
import zipfile

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from penjing.bundle import read_container, read_tray, write_container
from penjing.core.errors import BundleError

FAST = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def use(data: bytes) -> None:
    """Open a tray and look at everything in it."""
    tray = read_tray(data)
    for variant in tray.manifest.variants:
        tray.program_text(variant)
        tray.weights(variant)
        tray.golden(variant)
        for target in tray.manifest.targets:
            tray.library(target, variant)
    tray.source()


def accepted(data: bytes) -> bool:
    """Whether `data` is taken for a tray; anything raised but a BundleError fails the test."""
    try:
        use(data)
    except BundleError:
        return False
    return True


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF])
def test_every_altered_byte_is_refused(smallest, mask):
    data = bytearray(smallest)
    for offset in range(len(data)):
        data[offset] ^= mask
        assert not accepted(bytes(data)), f"repro: byte {offset} ^ {mask:#04x} of {len(data)}"
        data[offset] ^= mask
    assert accepted(bytes(data))


def test_every_truncation_is_refused(smallest):
    for length in range(len(smallest)):
        assert not accepted(smallest[:length]), f"repro: the first {length} bytes of {len(smallest)}"


def test_every_missing_head_is_refused(smallest):
    for start in range(1, len(smallest)):
        assert not accepted(smallest[start:]), f"repro: without the first {start} bytes"


@pytest.mark.parametrize("extra", [b"\0", b"\n", b"x" * 64, b"PK\x05\x06" + bytes(18)], ids=repr)
def test_bytes_before_or_after_are_refused(smallest, extra):
    assert not accepted(smallest + extra)
    assert not accepted(extra + smallest)


def test_every_deleted_and_every_doubled_byte_is_refused(smallest):
    for offset in range(len(smallest)):
        assert not accepted(smallest[:offset] + smallest[offset + 1 :]), f"repro: byte {offset} deleted"
        assert not accepted(smallest[:offset] + smallest[offset : offset + 1] + smallest[offset:]), f"byte {offset}"


def test_a_cut_tray_says_how_much_is_missing(smallest):
    with pytest.raises(BundleError, match="its last 3 bytes are missing"):
        read_tray(smallest[:-3])
    with pytest.raises(BundleError, match="5 bytes follow its end"):
        read_tray(smallest + b"12345")


@FAST
@given(st.binary(max_size=400))
@example(b"PK\x05\x06" + bytes(18) + b"penjing-tray-1 sha256:" + b"0" * 64)
@example(b"PK\x05\x06" + bytes(8) + b"\x01\x00\x01\x00" + bytes(6) + b"penjing-tray-1 sha256:" + b"0" * 64)
def test_random_bytes_are_refused(data):
    assert not accepted(data)


@FAST
@given(st.binary(max_size=300), st.binary(min_size=22, max_size=22))
def test_random_bytes_with_the_end_of_a_tray_are_refused(body, numbers):
    assert not accepted(body + b"PK\x05\x06" + numbers[4:] + b"penjing-tray-1 sha256:" + b"0" * 64)


@FAST
@given(st.data())
def test_spliced_trays_are_refused(smallest, packed, data):
    """A head of one tray, a tail of another: mix and match."""
    head = data.draw(st.integers(0, len(packed)))
    tail = data.draw(st.integers(0, len(smallest)))
    spliced = packed[:head] + smallest[tail:]
    assert spliced in (packed, smallest) or not accepted(spliced)


@FAST
@given(st.data())
def test_several_altered_bytes_are_refused(smallest, data):
    altered = bytearray(smallest)
    for _ in range(data.draw(st.integers(1, 8))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    assert bytes(altered) == smallest or not accepted(bytes(altered))


# --- an attacker who can compute digests: every checksum fits, the contents do not ---

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.just(2**53), st.floats(), st.text(max_size=8),
    st.just([]), st.just({}), st.just("program/w8a8"), st.lists(st.integers(-2, 5), max_size=9),
)  # fmt: skip


def places(value, path=()):
    """Paths of all values inside a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def altered_document(document, path, value):
    """A copy of `document` with `value` at `path`."""
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = altered_document(copy[path[0]], path[1:], value)
    return copy


def resealed(members: dict[str, bytes], document: object) -> bytes:
    manifest = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False) + "\n"
    return write_container({**members, "manifest.json": manifest.encode("utf-8", "surrogatepass")})


@settings(FAST, max_examples=400)
@given(st.data())
def test_an_altered_manifest_with_right_digests_never_breaks_a_reader(packed, data):
    members = {name: bytes(view) for name, view in read_container(packed).items()}
    document = json.loads(members["manifest.json"])
    path = data.draw(st.sampled_from(list(places(document))))
    accepted(resealed(members, altered_document(document, path, data.draw(VALUES))))


@settings(FAST, max_examples=300)
@given(st.data())
def test_altered_tensors_with_right_digests_never_break_a_reader(smallest, data):
    members = {name: bytes(view) for name, view in read_container(smallest).items()}
    name = data.draw(st.sampled_from([name for name in members if name.startswith(("weights/", "golden/"))]))
    tensor = bytearray(members[name])
    for _ in range(data.draw(st.integers(1, 4))):
        tensor[data.draw(st.integers(0, len(tensor) - 1))] = data.draw(st.sampled_from([0, 1, 2, 5, 8, 255]))
    tensor = tensor[: data.draw(st.integers(0, len(tensor)))] if data.draw(st.booleans()) else tensor
    accepted(replaced(members, name, bytes(tensor)))


def replaced(members: dict[str, bytes], name: str, contents: bytes) -> bytes:
    """A tray in which a content-addressed member was replaced and every mention of it follows."""
    folder, digest = name.split("/")[0], hashlib.sha256(contents).hexdigest()
    new = f"{folder}/{digest[:16]}"
    document = json.loads(members["manifest.json"].decode().replace(name, new))
    document["members"][new] = {"bytes": len(contents), "sha256": digest}
    others = {other: data for other, data in members.items() if other != name}
    return resealed({**others, new: contents}, document)


def test_a_tray_rebuilt_with_zipfile_from_its_own_members_is_refused(packed):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, view in read_container(packed).items():
            archive.writestr(zipfile.ZipInfo(name), bytes(view))
        archive.comment = packed[-86:]
    assert not accepted(stream.getvalue())
