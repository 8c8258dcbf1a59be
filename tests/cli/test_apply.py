"""`penjing apply` and the verbs: graphs between commands, what is refused before work, and that nothing is lost."""

import json

import numpy as np
import pytest

from penjing.api import lower, quantize
from penjing.bundle.tray import open_tray
from penjing.cli.output import Phases
from penjing.core.digests import digest_bytes
from penjing.ir.text import print_graph
from penjing.ops.relu import Relu
from penjing.recipe.graph_file import SavedGraph, load_graph, pack_graph
from penjing.recipe.record import parse_record
from penjing.runtime.loading import load
from penjing.testing.networks import Network, batches

NET = "net.graph"
TINY = ("net.py:TinyNet", "--input-shape", "1x8x8")
RECIPE = """\
steps:
  - prune-magnitude: {ratio: 0.5}
  - fine-tune: {epochs: 2, batch_size: 8}
  - quantize
"""


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    """net.graph, a network of 1x8x8 with random weights, and small.graph, the same quantized."""
    net = Network("net")
    value = net.node(Relu(), net.conv(net.input(1, 8, 8), 4, out="conv"), out="relu")
    graph = net.done(net.linear(net.flatten(value, out="flat"), 3, out="fc"))
    quantized = quantize(graph, [batch[0] for batch in batches(graph, 4)])
    return {name: pack_graph(SavedGraph(of)) for name, of in ((NET, graph), ("small.graph", quantized))}


@pytest.fixture
def graphs(place, made) -> None:
    """Those files in the current folder."""
    for name, data in made.items():
        (place / name).write_bytes(data)


@pytest.fixture
def recipe(place) -> str:
    (place / "small.yaml").write_text(RECIPE)
    return "small.yaml"


@pytest.fixture
def pruned(penjing, place):
    """pruned.graph, of TinyNet, with a normalisation."""
    told = penjing("prune", *TINY, "--ratio", "0.5", "--mean", "0.5", "--std", "0.25", "-o", "pruned.graph")
    assert told.code == 0, told.err
    return told


def test_a_network_goes_from_verb_to_verb_to_tray(penjing, place, pruned):
    assert pruned.out.startswith("pruned.graph  ")
    assert "quantize pruned.graph --calibrate" in pruned.err
    told = penjing("quantize", "pruned.graph", "--calibrate", "samples.npy", "-o", "small.graph")
    assert told.code == 0, told.err
    assert "build small.graph" in told.err
    assert penjing("build", "small.graph", "--evaluate", "tested.npz", "--labels", "labels.txt").code == 0
    tray = open_tray(place / "tinynet.tray")
    assert tray.manifest.inputs[0].mean == (0.5,)
    assert tray.manifest.outputs[0].labels == ("ant", "bee", "cat")
    assert tray.manifest.card["compression"] == "prune-magnitude, quantize"
    assert "calibration" not in tray.manifest.card
    record = parse_record(tray.members["record.json"], "tray")
    assert [step.step for step in record.steps] == ["prune-magnitude", "quantize"]
    assert record == load_graph("small.graph").record
    assert load(place / "tinynet.tray").run(np.load("samples.npy")).shape == (40, 3)


def test_a_float_graph_is_calibrated_when_it_is_built(penjing, place, graphs):
    told = penjing("build", NET, "--calibrate", "samples.npy", "--name", "one", "--json")
    assert told.code == 0, told.out
    tray = open_tray(place / "one.tray")
    assert tray.manifest.card["calibration"] == "40 samples of samples.npy, mse ranges"
    program = lower(quantize(load_graph(NET).graph, [np.load("samples.npy")[i : i + 32] for i in (0, 32)]))
    assert tray.program_text("default").replace('"one"', '"net"') == print_graph(program)


def test_a_recipe_makes_a_tray_in_one_go(penjing, place, recipe):
    train = ("--train", "tested.npz", "--evaluate", "tested.npz")
    told = penjing("apply", recipe, *TINY, *train, "-o", "small.tray", "--checkpoint", "states", "--json")
    assert told.code == 0, told.out
    found = told.json()
    assert [step["step"] for step in found["record"]["steps"]] == ["prune-magnitude", "fine-tune", "quantize"]
    assert found["record"]["steps"][2]["effect"]["realised"]["accuracy"]["n"] == 40
    assert found["stage"] == "compressed"
    weights = open_tray(place / "small.tray").weights("default")
    assert min(float((w == 0).mean()) for w in weights.values() if w.dtype == np.int8 and w.size > 30) >= 0.5
    assert list((place / "states").iterdir()) == []


def test_an_interrupted_training_keeps_its_state_and_nothing_else(penjing, place, graphs, recipe, monkeypatch):
    reached = Phases.reached

    def until_step_3(self, done, total=None):
        if (done, total) == (3, 10):
            raise KeyboardInterrupt
        reached(self, done, total)

    command = ("apply", recipe, NET, "--train", "tested.npz", "--checkpoint", "states")
    monkeypatch.setattr(Phases, "reached", until_step_3)
    told = penjing(*command, "-o", "a.graph")
    assert told.code == 130
    assert "note: the same command goes on where it was" in told.err
    assert [file.name for file in (place / "states").iterdir()] == ["step-2-fine-tune.checkpoint"]
    assert not (place / "a.graph").exists()
    monkeypatch.setattr(Phases, "reached", reached)
    assert penjing(*command, "-o", "a.graph").code == 0
    assert penjing(*command, "-o", "b.graph").code == 0
    assert digest_bytes((place / "a.graph").read_bytes()) == digest_bytes((place / "b.graph").read_bytes())


def test_a_graph_is_shown(penjing, place, pruned):
    text = penjing("inspect", "pruned.graph", "--layers").out
    for said in ("stage    ", "50.0 % of the layers' weights", "2 in floats", "conv.weight", "prune-magnitude"):
        assert said in text
    found = penjing("inspect", "pruned.graph", "--json").json()
    assert found["name"] == "tinynet"
    assert found["sizes"]["zeros"] == 18 + 96
    assert [layer["zeros"] for layer in found["layers"]] == [0.5, 0.5]
    assert [step["step"] for step in found["record"]["steps"]] == ["prune-magnitude"]
    assert penjing("inspect", "pruned.graph", "--program").out.startswith("penjing 1\n")
    counted = penjing("ops", "pruned.graph", "--json").json()
    assert counted["complete"]
    assert {row["operator"] for row in counted["supported"]} >= {"conv2d", "linear"}


@pytest.mark.parametrize(
    ("arguments", "step", "options"),
    [
        (("merge-layers", NET, "--step-force"), "merge-layers", {"force": "True"}),
        (("share", NET, "--entries", "{fc.weight: 4}"), "share-weights", {"entries": "{'fc.weight': 4}"}),
        (("low-rank", NET, "--budget", "0.5"), "low-rank", {"budget": "0.5"}),
        (
            ("low-rank", NET, "--budget", "0.5", "--layers", "conv.weight, fc.weight"),
            "low-rank",
            {"budget": "0.5", "layers": "['conv.weight', 'fc.weight']"},
        ),
        (
            ("shrink-kernels", NET, "--layers", "[conv.weight]", "--calibrate", "samples.npy"),
            "shrink-kernels",
            {"layers": "['conv.weight']"},
        ),
        (
            ("prune", NET, "--pattern", "channels", "--ratio", "0.5"),
            "prune-channels",
            {"ratio": "0.5", "inputs": "None"},
        ),
    ],
)
def test_a_verb_takes_the_options_of_its_step(penjing, place, graphs, arguments, step, options):
    told = penjing(*arguments, "-o", "after.graph")
    assert told.code == 0, told.err
    (done,) = load_graph("after.graph").record.steps
    assert (done.step, dict(done.options)) == (step, options)


def test_a_step_that_changes_nothing_says_why(penjing, place, graphs):
    assert "- merge-layers: nothing was changed: there was no place for it" in penjing("merge-layers", NET).out
    told = penjing("prune", NET, "--pattern", "channels", "--ratio", "0.01")
    assert "- prune-channels: nothing was changed: " in told.out
    assert "conv.weight: 4 channels are not more" in told.out


def test_a_network_is_taught_by_the_one_before_it(penjing, place, graphs):
    assert penjing("prune", NET, "--ratio", "0.5", "-o", "pruned.graph").code == 0
    taught = ("distil", "pruned.graph", "--train", "tested.npz", "--epochs", "2", "--batch-size", "8", "--share", "1")
    assert penjing(*taught, "--teacher", NET, "-o", "a.graph").code == 0
    assert penjing(*taught, "-o", "b.graph").code == 0
    one, other = load_graph("a.graph").graph, load_graph("b.graph").graph
    assert (one.constants["fc.weight"].array != other.constants["fc.weight"].array).any()
    assert ((one.constants["fc.weight"].array == 0) == (other.constants["fc.weight"].array == 0)).all()


def test_nothing_is_written_over(penjing, place, graphs, refused):
    (place / "old.graph").write_bytes(b"precious")
    refused("prune", NET, "--ratio", "0.5", "-o", "old.graph", error="OutputExists")
    assert penjing("prune", NET, "--ratio", "0.5", "-o", "old.graph", "--force").code == 0
    load_graph("old.graph")


@pytest.mark.parametrize(
    ("arguments", "error", "what"),
    [
        (("apply", "none.yaml", NET), "InvalidInput", "there is no file none.yaml"),
        (("apply", "small.yaml", "nowhere.graph", "--train", "tested.npz"), "InvalidInput", "there is no file"),
        (("apply", "small.yaml", NET), "InvalidInput", "--train"),
        (("apply", "small.yaml", NET, "--train", "samples.npy"), "InvalidInput", "no source of samples"),
        (("apply", "small.yaml", NET, "--train", "tested.npz", "-o", "x.onnx"), "InvalidInput", "neither a graph"),
        (("apply", "small.yaml", NET, "--train", "tested.npz", "-o", "no/x.graph"), "WriteFailed", "no folder"),
        (("apply", "small.yaml", NET, "--train", "tested.npz", "--checkpoint", "net.py"), "WriteFailed", "folder"),
        (("apply", "bad.yaml", NET), "InvalidInput", "bad.yaml, line 2"),
        (("apply", "late.yaml", NET, "--calibrate", "samples.npy"), "InvalidInput", "after which weights are"),
        (("apply", "range.yaml", NET, "--train", "tested.npz"), "PruningError", "range.yaml, line 3, step 2"),
        (("prune", NET), "InvalidInput", "--ratio"),
        (("share", NET, "--entries", "some"), "InvalidInput", "at   --entries"),
        (("share", NET, "--entries", "{conv.weight: 200}"), "InvalidInput", "larger than the tensor of 36 weights"),
        (("apply", "group.yaml", NET), "QuantizationError", "groups of 7 do not divide"),
        (("prune", NET, "--ratio", "0.99", "--scope", "global"), "PruningError", "removes all 768 weights"),
        (("distil", NET, "--train", "tested.npz", "--teacher", "small.graph"), "InvalidInput", "holds integers"),
        (("distil", NET), "InvalidInput", "--train"),
        (("distil", NET, "--train", "tested.npz", "--temperature", "0.5"), "InvalidInput", "at   penjing distil"),
        (("prune", NET, "--pattern", "16x4"), "InvalidInput", "--pattern 16x4"),
        (("prune", NET, "--pattern", "channels"), "InvalidInput", "needs a ratio"),
        (("prune", NET, "--pattern", "20:16"), "PruningError", "20 of every 16"),
        (("prune", NET, "--pattern", "2:16", "--scope", "global"), "InvalidInput", "each layer"),
        (("prune", NET, "--ratio", "1"), "PruningError", "must lie in [0, 1)"),
        (("prune", NET, "--ratio", "0.5", "--scope", "world"), "InvalidInput", "layer | global, not 'world'"),
        (("prune", NET, "--ratio", "0.5", "--pattern", "stripes"), "InvalidInput", "no pattern 'stripes'"),
        (("prune", NET, "--ratio", "0.5", "--pattern", "4:16"), "InvalidInput", "how many weights stay"),
        (("prune", NET, "--ratio", "0.5", "-o", "x.tray"), "InvalidInput", "does not end with quantize"),
        (("quantize", NET), "InvalidInput", "typical inputs"),
        (("quantize", NET, "--calibrate", "samples.npy", "--observer", "max"), "InvalidInput", "--observer"),
        (("quantize", "small.graph", "--calibrate", "samples.npy"), "InvalidInput", "holds integers already"),
        (("build", "small.graph", "--prune", "0.5"), "InvalidInput", "cannot be pruned"),
        (("build", "net.graph"), "InvalidInput", "--calibrate"),
        (("build", "net.graph", "--weights", "net.py", "--calibrate", "samples.npy"), "InvalidInput", "holds its"),
        (("build", "cut.graph", "--calibrate", "samples.npy"), "CorruptBundle", "cut.graph"),
        (("inspect", "edgecnn.graph"), "CorruptBundle", "no graph file"),
        (("inspect", "net.graph", "--self-test"), "InvalidInput", "not compiled"),
        (("run", "net.graph", "samples.npy"), "CorruptBundle", "net.graph"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(place, graphs, recipe, refused, arguments, error, what):
    (place / "bad.yaml").write_text("steps:\n- prune-magnitude: {raito: 0.5}\n")
    (place / "group.yaml").write_text("steps: [{round-weights: {group: 7}}]")
    (place / "late.yaml").write_text("steps: [quantize, {prune-magnitude: {ratio: 0.5}}]")
    (place / "range.yaml").write_text("steps:\n- fine-tune\n- prune-magnitude: {ratio: 1.5}\n")
    (place / "cut.graph").write_bytes((place / NET).read_bytes()[:999])
    (place / "edgecnn.tray").rename(place / "edgecnn.graph")
    told = refused(*arguments, error=error)
    assert what in told.err


def test_a_doubtful_order_is_a_note(penjing, place, graphs):
    (place / "r.json").write_text(json.dumps({"steps": [{"prune-magnitude": {"ratio": 0.5}}, "quantize"]}))
    told = penjing("apply", "r.json", NET, "--calibrate", "samples.npy")
    assert told.code == 0
    assert "note: r.json, step 1 (prune-magnitude): no step after it wins back accuracy" in told.err
    assert (place / "net-r.graph").is_file()
