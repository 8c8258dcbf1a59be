"""Packing: the same parts give the same bytes, shared tensors are stored once, contradictions are refused."""

import dataclasses
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from penjing.bundle import Golden, read_tray
from penjing.bundle.pack import pack_tray, without_debug, without_libraries
from penjing.core.errors import InvalidInput


def test_everything_packed_comes_back(parts, packed):
    tray = read_tray(packed)
    assert tray.manifest.name == parts.name
    assert tray.manifest.card == parts.card
    assert tray.manifest.inputs == parts.inputs
    assert tray.manifest.outputs == parts.outputs
    assert tray.manifest_digest == hashlib.sha256(tray.members["manifest.json"]).hexdigest()
    for name, variant in parts.variants.items():
        assert tray.program_text(name) == variant.program
        for tensor, array in tray.weights(name).items():
            np.testing.assert_array_equal(array, variant.weights[tensor])
            assert array.dtype == variant.weights[tensor].dtype
        golden = tray.golden(name)
        assert golden.n_samples == 2
        np.testing.assert_array_equal(golden.inputs[0], variant.golden.inputs[0])
        np.testing.assert_array_equal(golden.outputs[0], variant.golden.outputs[0])
        assert tray.variant(name).accuracy == variant.accuracy
    assert tray.library("x86_64-linux", "w8a8") == parts.libraries["x86_64-linux"]["w8a8"].data
    assert tray.manifest.targets["wasm32"]["w8a8"].stack_bytes == 256
    assert tray.source() == {f"src/{name}": data for name, data in parts.sources.items()}
    assert bytes(tray.members["record.json"]) == parts.reports["record.json"]


def test_a_library_that_is_not_there_is_none(packed):
    tray = read_tray(packed)
    assert tray.library("riscv64-linux", "w8a8") is None
    assert tray.library("x86_64-linux", "w4a8") is None


@pytest.mark.parametrize("ask", ["variant", "program_text", "weights", "golden"])
def test_an_unknown_variant_lists_the_known_ones(packed, ask):
    with pytest.raises(InvalidInput, match="no variant 'w2'") as caught:
        getattr(read_tray(packed), ask)("w2")
    assert caught.value.hint == "choose one of: w4a8, w8a8"


def test_variants_with_the_same_tensors_share_a_member(parts, packed):
    def members(data, folder):
        return sum(name.startswith(folder) for name in read_tray(data).members)

    twin = dataclasses.replace(parts.variants["w8a8"], program="another\n")
    alike = dataclasses.replace(parts, variants={"w8a8": parts.variants["w8a8"], "twin": twin})
    assert (members(packed, "weights/"), members(pack_tray(alike), "weights/")) == (2, 1)
    assert (members(packed, "golden/"), members(pack_tray(alike), "golden/")) == (2, 1)


def test_the_order_of_parts_does_not_change_a_byte(parts, packed):
    turned = dataclasses.replace(
        parts,
        card=dict(reversed(parts.card.items())),
        variants=dict(reversed(parts.variants.items())),
        libraries=dict(reversed(parts.libraries.items())),
        sources=dict(reversed(parts.sources.items())),
    )
    assert pack_tray(turned) == packed


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_packs_the_same_bytes(packed, request, seed):
    script = (
        "import hashlib, runpy; parts = runpy.run_path('conftest.py')['_parts']();"
        "from penjing.bundle.pack import pack_tray; print(hashlib.sha256(pack_tray(parts)).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
    folder = request.path.parent
    digest = subprocess.check_output([sys.executable, "-c", script], env=environment, text=True, cwd=folder).strip()
    assert digest == hashlib.sha256(packed).hexdigest()


def test_without_debug_drops_sources_and_reports_and_nothing_else(parts, packed):
    whole = read_tray(packed)
    bare = read_tray(without_debug(whole))
    assert bare.source() == {}
    assert set(whole.members) - set(bare.members) == {"src/tiny.c", "src/tiny.h", "record.json"}
    assert all(bare.members[name] == whole.members[name] for name in bare.members if name != "manifest.json")
    assert without_debug(whole) == pack_tray(parts, with_debug=False)
    assert without_debug(bare) == pack_tray(parts, with_debug=False)


def test_without_libraries_keeps_the_model_alone(parts, packed):
    bare = read_tray(without_libraries(read_tray(packed)))
    assert {name.partition("/")[0] for name in bare.members} == {"manifest.json", "program", "weights", "golden"}
    assert bare.manifest.targets == {}
    assert without_libraries(bare) == pack_tray(dataclasses.replace(parts, libraries={}), with_debug=False)
    for name, variant in parts.variants.items():
        assert bare.program_text(name) == variant.program


def with_variant(parts, **fields):
    return dataclasses.replace(parts, variants={"w8a8": dataclasses.replace(parts.variants["w8a8"], **fields)})


def golden(inputs, outputs):
    return Golden(inputs=tuple(inputs), outputs=tuple(outputs))


IN, OUT = np.zeros((2, 1, 4, 4), np.uint8), np.zeros((2, 3), np.uint8)


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (golden([IN[0]], [OUT]), "have shape"),
        (golden([IN], [OUT[:, :2]]), "have shape"),
        (golden([IN.astype(np.int8)], [OUT]), "have dtype"),
        (golden([IN.astype(np.float32)], [OUT]), "have dtype"),
        (golden([IN[:1]], [OUT]), "different numbers"),
        (golden([], [OUT]), "0 inputs and 1 outputs"),
        (golden([IN], [OUT, OUT]), "1 inputs and 2 outputs"),
        (golden([IN[:0]], [OUT[:0]]), "cannot hold"),
    ],
)
def test_golden_vectors_that_do_not_fit_are_refused(parts, vectors, reason):
    with pytest.raises(InvalidInput, match=reason):
        pack_tray(with_variant(dataclasses.replace(parts, libraries={}), golden=vectors))


def test_parts_that_contradict_each_other_are_refused(parts):
    library = parts.libraries["wasm32"]["w8a8"]
    for wrong in (
        dataclasses.replace(parts, variants={}),
        dataclasses.replace(parts, libraries={"wasm32": {"w2": library}}),
        dataclasses.replace(parts, libraries={"wasm32": {}}),
        dataclasses.replace(parts, libraries={"../x": {"w8a8": library}}),
        dataclasses.replace(parts, libraries={"wasm32": {"w8a8": dataclasses.replace(library, file_name="../../x")}}),
        dataclasses.replace(parts, sources={"../x.c": b""}),
        dataclasses.replace(parts, reports={"other.txt": b""}),
        with_variant(parts, program="\ud800"),
        with_variant(parts, arena_bytes=-1),
        with_variant(parts, arena_bytes=1.5),
        with_variant(parts, weights={"a": np.zeros(3, np.float64)}),
    ):
        with pytest.raises(InvalidInput):
            pack_tray(wrong)


def test_two_libraries_may_share_a_file_only_with_the_same_bytes(parts):
    def build(data):
        return dataclasses.replace(parts.libraries["x86_64-linux"]["w8a8"], data=data)

    same = {"host": {"w8a8": build(b"a"), "w4a8": build(b"a")}}
    assert read_tray(pack_tray(dataclasses.replace(parts, libraries=same))).library("host", "w4a8") == b"a"
    other = {"host": {"w8a8": build(b"a"), "w4a8": build(b"b")}}
    with pytest.raises(InvalidInput, match="two different parts"):
        pack_tray(dataclasses.replace(parts, libraries=other))


def test_opening_a_tray_needs_numpy_alone():
    script = (
        "import sys, penjing.bundle;"
        "heavy = {'torch', 'onnx', 'scipy', 'sklearn', 'typer', 'rich', 'PIL', 'zipfile', 'pickle'} & set(sys.modules);"
        "print(sorted(heavy - before))"
    )
    script = "import sys, numpy; before = set(sys.modules);" + script
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"
