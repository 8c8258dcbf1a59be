"""The manifest: one spelling, bounded, typed, and consistent with the members."""

import copy
import dataclasses
import json
import re

import numpy as np
import pytest

from penjing.bundle import dump_manifest, parse_manifest, read_container, read_tray, write_container
from penjing.bundle.schema import MemberInfo
from penjing.core.errors import CorruptBundle, InvalidInput, UnsupportedBundle


@pytest.fixture(scope="module")
def document(packed):
    return json.loads(bytes(read_container(packed)["manifest.json"]))


def text(document) -> bytes:
    spelled = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return spelled.encode("utf-8", "surrogatepass") + b"\n"


def changed(document, path, value) -> bytes:
    """The manifest with `value` at a dotted path; list items are numbers."""
    result = copy.deepcopy(document)
    *parents, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place = result
    for step in parents:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return text(result)


def test_a_manifest_comes_back_as_it_was(packed):
    manifest = read_tray(packed).manifest
    data = dump_manifest(manifest)
    assert parse_manifest(data) == manifest
    assert dump_manifest(parse_manifest(data)) == data
    assert bytes(read_container(packed)["manifest.json"]) == data


def test_a_manifest_is_readable_text(packed):
    data = bytes(read_container(packed)["manifest.json"]).decode()
    assert data.startswith('{"card":{"')
    assert "数字" in data
    assert data.endswith("}\n")


def test_numpy_numbers_become_plain_ones(packed):
    manifest = read_tray(packed).manifest
    spec = dataclasses.replace(manifest.outputs[0], scale=np.float32(0.1), zero_point=np.uint8(3))
    again = parse_manifest(dump_manifest(dataclasses.replace(manifest, outputs=(spec,))))
    assert again.outputs[0].scale == float(np.float32(0.1))
    assert type(again.outputs[0].zero_point) is int


NOT_A_MANIFEST = {
    "empty": (b"", "not JSON"),
    "text": (b"hello", "not JSON"),
    "a list": (b"[]\n", "not an object"),
    "a number": (b"1\n", "not an object"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "not JSON"),
    "UTF-16": ("{}".encode("utf-16"), "not UTF-8"),
    "an open string": (b'{"' + b'\\"' * 100_000, "not JSON"),
    "deep lists": (b"[" * 100_000 + b"]" * 100_000, "nested deeper"),
    "deep objects": (b'{"a":' * 100_000, "nested deeper"),
    "many values": (b"[" + b"0," * (1 << 18) + b"0]", "more than 262144 values"),
    "many strings": (b"[" + b'"",' * (1 << 18) + b'""]', "more than 262144 values"),
    "a huge integer": (b'{"format": ' + b"9" * 100_000 + b"}", "beyond 2^53"),
    "a huge negative integer": (b'{"format": -' + b"9" * 5000 + b"}", "beyond 2^53"),
    "an integer past 2^53": (b'{"format": 9007199254740992}', "beyond 2^53"),
    "a long float": (b'{"format": 0.' + b"1" * 100_000 + b"}", "100002 characters"),
    "an overflowing float": (b'{"format": 1e999}', "infinite"),
    "NaN": (b'{"format": NaN}', "NaN is not JSON"),
    "Infinity": (b'{"format": -Infinity}', "-Infinity is not JSON"),
    "a key twice": (b'{"format": 1, "format": 1}', "occurs twice"),
    "a control character": (b'{"format": "\x1b[2J"}', "not JSON"),
    "an escaped control character": (b'{"format": "\\u001b[2J"}', "version of the format"),
    "format 0": (b'{"format": 0}', "version of the format"),
    "format true": (b'{"format": true}', "version of the format"),
    "format 1.0": (b'{"format": 1.0}', "version of the format"),
    "no format": (b'{"requires": []}', "version of the format"),
    "no requires": (b'{"format": 1}', "list of strings"),
    "requires of numbers": (b'{"format": 1, "requires": [1]}', "list of strings"),
    "requires of lists": (b'{"format": 1, "requires": [[]]}', "list of strings"),
}


@pytest.mark.parametrize("case", NOT_A_MANIFEST)
def test_hostile_json_is_refused(case):
    data, reason = NOT_A_MANIFEST[case]
    with pytest.raises(CorruptBundle, match=re.escape(reason)) as caught:
        parse_manifest(data, where="evil.tray")
    assert caught.value.where.startswith("evil.tray, member manifest.json")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "data",
    [
        b'{"format": 2}',
        b'{"format": 9000, "new": [{}], "requires": 3}',
        b'{"format": 1, "requires": ["encryption"]}',
        b'{"format": 1, "requires": ["a", "b"], "unknown": 1}',
    ],
)
def test_a_newer_format_or_an_unknown_feature_asks_for_an_upgrade(data):
    with pytest.raises(UnsupportedBundle) as caught:
        parse_manifest(data)
    assert caught.value.hint == "upgrade penjing"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("unknown", 1),
        ("card", ...),
        ("card/license", 3),
        ("card/license", None),
        ("card/license", "\ud800"),
        ("card/license", "\x00"),
        ("card/a\nb", "key of two lines"),
        ("name", ""),
        ("name", "a/b"),
        ("name", "../a"),
        ("requires", {}),
        ("inputs", []),
        ("inputs", {}),
        ("inputs/0/extra", 1),
        ("inputs/0/scale", ...),
        ("inputs/0/scale", 1),
        ("inputs/0/scale", 0.0),
        ("inputs/0/scale", -1.0),
        ("inputs/0/scale", 1e-50),
        ("inputs/0/scale", 1e39),
        ("inputs/0/scale", "0.5"),
        ("inputs/0/zero_point", 256),
        ("inputs/0/zero_point", -1),
        ("inputs/0/zero_point", True),
        ("inputs/0/zero_point", 0.0),
        ("inputs/0/code_dtype", "f32"),
        ("inputs/0/dtype", "u8"),
        ("inputs/0/name", ""),
        ("inputs/0/name", "a\nb"),
        ("inputs/0/shape", []),
        ("inputs/0/shape", [2, 1, 4, 4]),
        ("inputs/0/shape", [1, 1, 0, 4]),
        ("inputs/0/shape", [1, 1, -4, 4]),
        ("inputs/0/shape", [1, 1, 4.0, 4]),
        ("inputs/0/shape", [1, 1, 2**31, 2**31]),
        ("inputs/0/shape", [1] * 9),
        ("inputs/0/layout", "NCH"),
        ("inputs/0/layout", "CNHW"),
        ("inputs/0/layout", "NCHH"),
        ("inputs/0/layout", "nchw"),
        ("inputs/0/mean", [0.5, 0.5]),
        ("inputs/0/mean", 0.5),
        ("inputs/0/mean", [1e39]),
        ("inputs/0/std", [0.0]),
        ("inputs/0/std", [-1.0]),
        ("inputs/0/value_range", [1.0, 0.0]),
        ("inputs/0/value_range", [0.0]),
        ("inputs/0/value_range", [0.0, 1.0, 2.0]),
        ("inputs/0/color", "rgb"),
        ("inputs/0/color", "cmyk"),
        ("outputs", []),
        ("outputs/0/labels", ["a"]),
        ("outputs/0/labels", ["a", "b", "c\n"]),
        ("variants", {}),
        ("variants/w8a8/program", "program/w4a8"),
        ("variants/w8a8/program", "program/none"),
        ("variants/w8a8/weights", []),
        ("variants/w8a8/weights", "weights/none"),
        ("variants/w8a8/weights", "program/w8a8"),
        ("variants/w8a8/weights", ...),
        ("variants/w8a8/golden", ["golden/none"]),
        ("variants/w8a8/golden", "program/w8a8"),
        ("variants/w8a8/arena_bytes", -1),
        ("variants/w8a8/macs", 1.5),
        ("variants/w8a8/accuracy/low", 0.95),
        ("variants/w8a8/accuracy/n", 0),
        ("variants/w8a8/accuracy/value", ...),
        ("targets/wasm32/w4a8", {}),
        ("targets/wasm32", {}),
        ("targets/wasm32", ...),
        ("targets/wasm32/w8a8/library", "lib/x86_64-linux/tiny.so"),
        ("targets/wasm32/w8a8/library", "lib/wasm32/none"),
        ("targets/wasm32/w8a8/standalone", 1),
        ("targets/wasm32/w8a8/abi", 0),
        ("targets/wasm32/w8a8/flash_bytes", -1),
        ("targets/wasm32/w8a8/stack_bytes", -1),
        ("targets/wasm32/w8a8/arena_bytes", -1),
        ("targets/wasm32/w8a8/arena_bytes", ...),
        ("targets/wasm32/w8a8/packed_bytes", -1),
        ("targets/wasm32/w8a8/packed_bytes", 1.0),
        ("targets/wasm32/w8a8/packed_digest", "0" * 63),
        ("targets/wasm32/w8a8/packed_digest", "A" * 64),
        ("targets/wasm32/w8a8/packed_digest", "0" * 64 + "\n"),
        ("targets/wasm32/w8a8/packed_digest", None),
        ("targets/wasm32/w8a8/threads", 0),
        ("targets/wasm32/w8a8/threads", 9),
        ("targets/wasm32/w8a8/threads", None),
        ("targets/wasm32/w8a8/tiles", None),
        ("targets/wasm32/w8a8/tiles", {"conv": [16, 12, 1]}),
        ("targets/wasm32/w8a8/tiles", {"conv": [0, 12, 1, 1]}),
        ("targets/wasm32/w8a8/tiles", {"conv": [16, -1, 1, 1]}),
        ("targets/wasm32/w8a8/tiles", {"conv": [16, 12, 1, 0]}),
        ("targets/wasm32/w8a8/tiles", {"con\nv": [16, 12, 1, 1]}),
        ("members/program~w8a8", {"bytes": 0, "sha256": "0" * 64}),
        ("members/record.json/bytes", -1),
        ("members/record.json/sha256", "0" * 63),
        ("members/record.json/sha256", "A" * 64),
        ("members/record.json/sha256", "0" * 64 + "\n"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(document, path, value):
    with pytest.raises(CorruptBundle) as caught:
        parse_manifest(changed(document, path, value))
    assert "not in the one form" not in caught.value.what


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        ("variants/w8a8/n_ops", True, "must be an integer, not true or false"),
        ("variants/w8a8/n_ops", 1.0, "must be an integer, not a number with a point"),
        ("variants/w8a8/n_ops", None, "must be an integer, not null"),
        ("inputs/0/scale", 1, "must be a number with a point, not an integer"),
        ("targets/wasm32/w8a8/standalone", 1, "must be true or false, not an integer"),
        ("inputs/0/shape", "1", "must be a list, not a string"),
        ("card", [], "must be an object, not a list"),
    ],
)
def test_a_wrong_type_is_named_with_its_place(document, path, value, what):
    with pytest.raises(CorruptBundle, match=what) as caught:
        parse_manifest(changed(document, path, value), where="m.tray")
    assert caught.value.where == "m.tray, member manifest.json, " + path.replace("/0", "[0]").replace("/", ".")


@pytest.mark.parametrize(
    "member",
    ["weights/" + "0" * 16, "golden/" + "0" * 16, "program/other", "lib/wasm32/other", "evil", "evil/a", "src", "lib/"],
)
def test_a_member_that_nothing_names_or_that_has_no_place_is_refused(document, member):
    listed = copy.deepcopy(document)
    listed["members"][member] = {"bytes": 0, "sha256": "0" * 64}
    with pytest.raises(CorruptBundle):
        parse_manifest(text(listed))


def test_a_content_address_must_be_the_digest(document):
    listed = copy.deepcopy(document)
    name = next(name for name in listed["members"] if name.startswith("weights/"))
    listed["members"][name]["sha256"] = "0" * 64
    with pytest.raises(CorruptBundle, match="not the digest"):
        parse_manifest(text(listed))


@pytest.mark.parametrize(
    "respell",
    [
        lambda data: data.rstrip(),
        lambda data: data + b"\n",
        lambda data: data.replace(b":", b": ", 1),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"0.125", b"0.1250"),
        lambda data: data.replace(b"0.125", b"1.25e-1"),
        lambda data: data.replace("二".encode(), b"\\u4e8c"),
        lambda data: json.dumps(json.loads(data), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n",
        lambda data: json.dumps(dict(reversed(json.loads(data).items())), ensure_ascii=False).encode(),
    ],
)
def test_another_spelling_of_the_same_manifest_is_refused(packed, respell):
    data = bytes(read_container(packed)["manifest.json"])
    respelled = respell(data)
    assert respelled != data
    with pytest.raises(CorruptBundle, match="not in the one form"):
        parse_manifest(respelled)


def test_writing_a_wrong_manifest_is_the_callers_error(packed):
    manifest = read_tray(packed).manifest
    for wrong in (
        dataclasses.replace(manifest, name="a b"),
        dataclasses.replace(manifest, card={"task": 1}),
        dataclasses.replace(manifest, members={**manifest.members, "evil": MemberInfo("0" * 64, 0)}),
        dataclasses.replace(manifest, outputs=(dataclasses.replace(manifest.outputs[0], scale=float("nan")),)),
        dataclasses.replace(manifest, outputs=(dataclasses.replace(manifest.outputs[0], scale=10**400),)),
        dataclasses.replace(manifest, outputs=(dataclasses.replace(manifest.outputs[0], scale="0.5"),)),
        dataclasses.replace(manifest, outputs=(dataclasses.replace(manifest.outputs[0], zero_point=2**60),)),
    ):
        with pytest.raises(InvalidInput):
            dump_manifest(wrong)


# --- the manifest against the members; every checksum of the container is right ---


@pytest.fixture
def members(packed):
    return {name: bytes(data) for name, data in read_container(packed).items()}


def test_a_missing_member_is_refused(members):
    del members["src/tiny.c"]
    with pytest.raises(CorruptBundle, match=r"src/tiny\.c' is missing"):
        read_tray(write_container(members))


def test_an_extra_member_is_refused(members):
    with pytest.raises(CorruptBundle, match="not listed"):
        read_tray(write_container({**members, "src/extra.c": b""}))


def test_a_signed_tray_is_not_taken_for_an_unsigned_one(members):
    with pytest.raises(UnsupportedBundle, match="signed"):
        read_tray(write_container({**members, "signatures/key.json": b"{}"}))


@pytest.mark.parametrize("contents", [b"int y;\n", b"", b"int x;\n\n"], ids=["same size", "empty", "longer"])
def test_a_member_with_another_digest_is_refused(members, contents):
    with pytest.raises(CorruptBundle, match="digest") as caught:
        read_tray(write_container({**members, "src/tiny.c": contents}), where="m.tray")
    assert caught.value.where == "m.tray, member src/tiny.c"


def test_digests_are_checked_before_tensors_are_parsed(members, monkeypatch):
    """An altered member never reaches a parser."""
    from penjing.bundle import tray

    monkeypatch.setattr(tray, "read_pack", lambda *_, **__: pytest.fail("parsed"))
    name = next(name for name in members if name.startswith("weights/"))
    with pytest.raises(CorruptBundle, match="digest"):
        read_tray(write_container({**members, name: members[name][:-1] + b"\xff"}))
