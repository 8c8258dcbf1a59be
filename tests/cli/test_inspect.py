"""`penjing inspect`, `bench`, `ops` and `knobs`: what they show, to people and to programs."""

import pytest

from penjing.bundle.tray import open_tray
from penjing.core import knobs
from penjing.ops import operators


def test_inspect_shows_what_the_manifest_says(penjing, place):
    text = penjing("inspect", "edgecnn.tray").out
    tray = open_tray("edgecnn.tray")
    for expected in ("edgecnn", tray.manifest_digest[:32], "1x1x32x32 gray", "mean 0.1307", "10 labels", "library"):
        assert expected in text
    assert text.count("\n") == len(text.splitlines())


def test_inspect_as_json_holds_the_whole_manifest(penjing, place):
    found = penjing("inspect", "edgecnn.tray", "--json").json()
    tray = open_tray("edgecnn.tray")
    assert found["digest"] == tray.manifest_digest
    assert found["bytes"] == tray.n_bytes
    assert found["members"] == {name: info.bytes for name, info in tray.manifest.members.items()}
    assert sum(layer["macs"] for layer in found["layers"]) == tray.variant("default").macs


def test_layers_are_listed_with_their_sum(penjing, place):
    text = penjing("inspect", "edgecnn.tray", "--layers").out
    assert f"{open_tray('edgecnn.tray').variant('default').macs:,}" in text.splitlines()[-1]


def test_kernels_are_told_with_the_place_of_their_output(penjing, place):
    rows = penjing("inspect", "edgecnn.tray", "--kernels", "--json").json()["kernels"]
    flat = [row for row in rows if row["op"] == "q_reshape"][-1]
    before = rows[rows.index(flat) - 1]
    assert (flat["kernel"], flat["place"]) == ("none", before["place"])
    assert before["place"].startswith("arena ")
    assert rows[-1]["place"] == "out 0"
    assert before["place"] in penjing("inspect", "edgecnn.tray", "--kernels").out


def test_the_program_is_printed_as_it_is_stored(penjing, place):
    assert penjing("inspect", "edgecnn.tray", "--program").out == open_tray("edgecnn.tray").program_text("default")


def test_the_self_test_compares_golden_and_random_inputs(penjing, place):
    assert "self-test passed: no byte differs, " in penjing("inspect", "edgecnn.tray", "--self-test").out
    found = penjing("inspect", "edgecnn.tray", "--self-test", "--samples", "100", "--json").json()["self_test"]
    assert found.keys() == {"engine", "golden", "random", "differing_bytes"}
    assert (found["random"], found["differing_bytes"]) == (100, 0)


def test_a_library_that_computes_something_else_fails_the_self_test(penjing, place, monkeypatch):
    from penjing.runtime.engines import LibraryEngine

    honest = LibraryEngine.run
    monkeypatch.setattr(LibraryEngine, "run", lambda self, *x: tuple(y ^ 1 for y in honest(self, *x)))
    told = penjing("inspect", "edgecnn.tray", "--self-test")
    assert told.code == 1
    assert "self-test FAILED" in told.out
    as_json = penjing("inspect", "edgecnn.tray", "--self-test", "--json")
    assert as_json.code == 1
    assert as_json.json()["self_test"]["differing_bytes"] > 0


def test_bench_times_codes_and_floats(penjing, place):
    found = penjing("bench", "edgecnn.tray", "--rounds", "2", "--json").json()
    assert found["engine"].startswith("library")
    assert all(t["p10_us"] <= t["median_us"] <= t["p90_us"] and t["rounds"] == 2 for t in found["timings"].values())
    text = penjing("bench", "edgecnn.tray", "--rounds", "1", "--engine", "interpreter").out
    assert text.startswith("edgecnn by interpreter")


def test_ops_lists_every_operator(penjing):
    assert {row["operator"] for row in penjing("ops", "--json").json()} == set(operators())
    text = penjing("ops").out
    assert all(f"\n{name} " in text for name in operators())


def test_ops_tells_what_of_a_model_is_carried(penjing, place):
    told = penjing("ops", "zoo:edgecnn")
    assert told.code == 0
    assert "edgecnn: 10 of 10 operators are carried" in told.out


def test_ops_tells_every_place_that_is_not_carried(penjing, place):
    told = penjing("ops", "net.py:Uncarried", "--input-shape", "1x8x8")
    assert told.code == 1
    line = (place / "net.py").read_text().splitlines().index("        y = torch.cumsum(x, 1)") + 1
    assert f"net.py:{line}, cumsum" in told.out
    assert f"net.py:{line + 1}, sort" in told.out
    found = penjing("ops", "net.py:Uncarried", "--input-shape", "1x8x8", "--json")
    assert found.code == 1
    assert [row["operator"] for row in found.json()["unsupported"]] == ["aten.cumsum.default", "aten.sort.default"]


@pytest.mark.parametrize("knob", knobs.ALL, ids=lambda knob: knob.name)
def test_knobs_shows_each_variable_with_its_value(penjing, monkeypatch, knob):
    monkeypatch.setenv(knob.name, "17")
    found = {row["name"]: row for row in penjing("knobs", "--json").json()}
    assert found[knob.name]["value"] == "17"
    assert knob.name in penjing("knobs").out
