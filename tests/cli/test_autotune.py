"""`penjing build --autotune`: what is measured, kept, recorded, and built again from the record."""

import json
from pathlib import Path

import numpy as np
import pytest

from penjing import api
from penjing.bundle.tray import open_tray
from penjing.core.targets import host_target
from penjing.ir.graph import Graph
from penjing.runtime.loading import load
from penjing.testing.networks import batches, edge_cnn
from penjing.tune.layers import LayerTimer

BUILD = ("build", "net.py:TinyNet", "--input-shape", "1x8x8", "--calibrate", "samples.npy")
pytestmark = pytest.mark.skipif(not host_target().isas, reason="this machine has no SIMD kernels to tune")


@pytest.fixture(autouse=True)
def cache(place, monkeypatch) -> Path:
    monkeypatch.setenv("PENJING_CACHE", str(place / "cache"))
    return place / "cache"


@pytest.fixture
def slow_rule(monkeypatch):
    """A machine on which every cut is twice as fast as the rule's, and the last one the fastest."""

    def times(self, program, node, tiles, rounds):
        return [8.0, *(4.0 - i / 99 for i in range(len(tiles) - 1))]

    monkeypatch.setattr(LayerTimer, "__init__", lambda self, target: None)
    monkeypatch.setattr(LayerTimer, "vectors", 2, raising=False)
    monkeypatch.setattr(LayerTimer, "best_us", times)


@pytest.fixture
def no_measurement(monkeypatch):
    def refuse(self, target):
        raise AssertionError("a layer is measured")

    monkeypatch.setattr(LayerTimer, "__init__", refuse)


def test_layers_are_measured_on_this_machine_and_shown(penjing, place):
    told = penjing(*BUILD, "--autotune", "-o", "a.tray", "--json")
    (layer,) = told.json()["layers"]
    assert layer["shape"] == "8x8x1 to 4, 3x3, stride 1x1"
    assert 0 < layer["tile_us"] <= layer["rule_us"]
    assert layer["tile"].keys() == {"one", "two", "rows", "columns"}
    assert (load("a.tray").self_test(), load("a.tray").engine.name.split()[0]) == (0, "library")


def test_what_was_chosen_is_recorded_and_gives_the_same_bytes_again(penjing, place, slow_rule):
    told = penjing(*BUILD, "--autotune", "-o", "a.tray")
    assert told.code == 0, told.err
    assert "pixels x" in told.out
    tiles = open_tray("a.tray").manifest.targets[host_target().name]["default"].tiles
    assert len(tiles) == 1
    assert penjing(*BUILD, "--tiles", "a.tray", "-o", "b.tray").code == 0
    assert Path("a.tray").read_bytes() == Path("b.tray").read_bytes()
    assert penjing(*BUILD, "-o", "c.tray").code == 0
    assert Path("a.tray").read_bytes() != Path("c.tray").read_bytes()
    x = np.load("samples.npy")
    tuned, plain = load("a.tray", engine="library"), load("c.tray", engine="library")
    assert (tuned.run(x) == plain.run(x)).all()
    assert tuned.self_test() == 0


def test_what_was_measured_is_not_measured_again(penjing, place, cache, slow_rule, monkeypatch):
    assert penjing(*BUILD, "--autotune", "-o", "a.tray").code == 0
    (file,) = cache.glob("tiles-*.json")
    assert json.loads(file.read_bytes())["about"]["cpu"]
    monkeypatch.setattr(LayerTimer, "__init__", lambda self, target: pytest.fail("a layer is measured"))
    told = penjing(*BUILD, "--autotune", "-o", "b.tray", "--json")
    assert [layer["cached"] for layer in told.json()["layers"]] == [True]
    assert Path("a.tray").read_bytes() == Path("b.tray").read_bytes()


def test_a_damaged_cache_is_ignored_with_a_warning(penjing, place, cache, slow_rule, monkeypatch):
    monkeypatch.setattr("penjing.cli.output._noted", set())
    assert penjing(*BUILD, "--autotune", "-o", "a.tray").code == 0
    (file,) = cache.glob("tiles-*.json")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    told = penjing(*BUILD, "--autotune", "-o", "b.tray")
    assert told.code == 0
    assert "cannot be read" in told.err
    assert Path("a.tray").read_bytes() == Path("b.tray").read_bytes()
    assert file.read_bytes() == whole


@pytest.fixture(scope="module")
def program() -> Graph:
    graph = edge_cnn()
    return api.lower(api.quantize(graph, batches(graph, 4)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\xff" + data,
        lambda data: b"[" * 100_000,
        lambda data: b"[]",
        lambda data: data.replace(b'"cpu"', b'"gpu"'),
        lambda data: data.replace(b"8.0", b"NaN"),
        lambda data: data.replace(b"8.0", b"-8.0"),
        lambda data: data.replace(b"8.0", b"true"),
        lambda data: data.replace(b" 8.0,", b""),
    ],
)
def test_what_a_damaged_cache_held_is_measured_again_and_kept(program, cache, slow_rule, damage):
    measured = api.autotune(program)
    (file,) = cache.glob("tiles-*.json")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert file.read_bytes() != whole
    with pytest.warns(RuntimeWarning, match="cannot be read"):
        assert api.autotune(program) == measured
    assert not any(layer.cached for layer in measured)
    assert file.read_bytes() == whole


def test_a_cut_in_the_cache_that_does_not_fit_its_layer_is_measured_again(penjing, place, cache, slow_rule):
    assert penjing(*BUILD, "--autotune", "-o", "a.tray").code == 0
    (file,) = cache.glob("tiles-*.json")
    document = json.loads(file.read_bytes())
    ((layer, values),) = document["layers"].items()
    document["layers"][layer] = [16, 12, 9999, 9999, *values[4:]]
    file.write_text(json.dumps(document))
    told = penjing(*BUILD, "--autotune", "-o", "b.tray", "--json")
    assert [layer["cached"] for layer in told.json()["layers"]] == [False]


def test_a_cache_that_cannot_be_written_is_no_error(penjing, place, cache, slow_rule, monkeypatch):
    monkeypatch.setattr("penjing.cli.output._noted", set())
    cache.write_text("a file where the folder should be")
    told = penjing(*BUILD, "--autotune", "-o", "a.tray")
    assert told.code == 0
    assert "cannot be read" in told.err


def test_an_interruption_leaves_no_tray_and_what_was_measured(penjing, place, cache, monkeypatch):
    def interrupt(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(LayerTimer, "__init__", interrupt)
    assert penjing(*BUILD, "--autotune", "-o", "a.tray").code == 130
    assert not Path("a.tray").exists()


def test_only_this_machine_can_be_measured(refused, no_measurement):
    told = refused(*BUILD, "--autotune", "--target", "wasm32", error="InvalidInput")
    assert "wasm32 is another" in told.err


def test_tiles_are_measured_or_given(refused, no_measurement):
    refused(*BUILD, "--autotune", "--tiles", "edgecnn.tray", error="InvalidInput")


def test_tiles_of_another_network_are_refused(penjing, refused, place, slow_rule):
    build = ("build", "zoo:lenet5", "--calibrate", "random", "--samples", "4")
    assert penjing(*build, "--autotune", "-o", "lenet.tray").code == 0
    told = refused(*BUILD, "--tiles", "lenet.tray", error="InvalidInput")
    assert "measured for this network" in told.err
