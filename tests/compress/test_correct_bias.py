"""Bias correction: means of rounded layers are those of the float network, whatever came before them."""

import numpy as np
import pytest

from penjing import api
from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.quantize.bias_drift import expected_drift, measured_drift
from penjing.compress.quantize.correct_bias import CorrectBias
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.core.errors import CalibrationError, InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.grid import grid_codes
from penjing.ir.types import Constant
from penjing.ir.verify import verify
from penjing.ops.add import Add
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.relu import Relu
from penjing.ops.reshape import Reshape
from penjing.testing.networks import BATCH, Network


def network() -> Graph:
    """A branch, a grouped layer, one without a bias, a transposed one, and a linear layer on rows."""
    net = Network()
    stem = net.node(Relu(), net.conv(net.input(3, 6, 6), 8, out="stem"), out="relu")
    grouped = net.conv(stem, 8, out="grouped", groups=4, bias=False)
    both = net.node(Relu(), net.node(Add(), grouped, stem, out="sum"), out="relu2")
    up = net.node(ConvTranspose2d(stride=(2, 2)), both, net.weight("up.weight", 8, 4, 2, 2), out="up")
    rows = net.node(Reshape((BATCH, 4, 144)), net.node(Relu(), up, out="relu3"), out="rows")
    return net.done(net.linear(rows, 5, out="fc"))


def samples(count: int = 48) -> np.ndarray:
    return np.random.default_rng(1).normal(0.3, 1, size=(count, 3, 6, 6)).astype(np.float32)


def means(graph: Graph) -> dict[str, np.ndarray]:
    """Of each layer's output, per channel."""
    found: dict[str, np.ndarray] = {}
    axes = {"stem": 1, "grouped": 1, "up": 1, "fc": 2}

    def watch(name: str, array: np.ndarray) -> None:
        if name in axes:
            found[name] = array.mean(axis=tuple(i for i in range(array.ndim) if i != axes[name]), dtype=np.float64)

    evaluate(graph, samples(), watch=watch)
    return found


@pytest.fixture(scope="module")
def pair() -> tuple[Graph, Graph]:
    graph = network()
    return graph, RoundWeights(3).run(graph).graph


def corrected(rounded: Graph, drift: dict[str, np.ndarray]) -> Graph:
    result = CorrectBias(drift).run(rounded)
    verify(result.graph)
    return result.graph


def test_after_the_measured_correction_every_mean_is_that_of_the_float_network(pair):
    graph, rounded = pair
    drift = measured_drift(graph, rounded, np.split(samples(), 3))
    assert drift.keys() == {"stem.weight", "grouped.weight", "up.weight", "fc.weight"}
    got, want, before = means(corrected(rounded, drift)), means(graph), means(rounded)
    for name, mean in want.items():
        np.testing.assert_allclose(got[name], mean, atol=1e-5)
        assert np.abs(before[name] - mean).max() > 0.01


def test_the_drift_expected_from_means_is_that_of_each_layer_alone(pair):
    graph, rounded = pair
    inputs = collect_layer_inputs(graph, [samples()])
    drift = expected_drift(graph, rounded, {name: seen.mean for name, seen in inputs.items()})
    assert "up.weight" not in drift
    for name in drift:
        alone = graph.copy()
        alone.set_constant(name, Constant(rounded.constants[name].array))
        layer = name.removesuffix(".weight")
        np.testing.assert_allclose(drift[name], means(alone)[layer] - means(graph)[layer], atol=1e-5)


def test_both_corrections_bring_the_output_nearer(pair):
    graph, rounded = pair
    inputs = collect_layer_inputs(graph, [samples()])
    drifts = [
        expected_drift(graph, rounded, {name: seen.mean for name, seen in inputs.items()}),
        measured_drift(graph, rounded, [samples()]),
    ]
    fresh = np.random.default_rng(2).normal(0.3, 1, size=(64, 3, 6, 6)).astype(np.float32)
    (want,) = evaluate(graph, fresh)

    def error(made: Graph) -> float:
        return float(np.square(evaluate(made, fresh)[0] - want).mean())

    assert error(corrected(rounded, drifts[1])) < 0.9 * error(rounded)
    assert error(corrected(rounded, drifts[0])) < error(rounded)


def test_weights_stay_on_their_grid_and_programs_keep_their_codes(pair):
    graph, rounded = pair
    got = corrected(rounded, measured_drift(graph, rounded, [samples()]))
    quantized = api.quantize(got, [samples()])
    for name in ("stem.weight", "grouped.weight", "up.weight", "fc.weight"):
        np.testing.assert_array_equal(grid_codes(got.constants[name]), grid_codes(rounded.constants[name]))
        np.testing.assert_array_equal(quantized.constants[f"{name}.q"].array, grid_codes(rounded.constants[name]))


def test_how_the_samples_are_cut_changes_nothing(pair):
    graph, rounded = pair
    whole, parts = (measured_drift(graph, rounded, cut) for cut in ([samples()], np.split(samples(), [5, 11])))
    for name, drift in whole.items():
        np.testing.assert_allclose(parts[name], drift, atol=1e-5)


def test_a_bias_that_two_layers_share_is_corrected_for_each_alone():
    net = Network()
    shared = net.weight("shared", 4)
    a = net.node(Linear(), net.input(4), net.weight("a", 4, 4), shared, out="ya")
    graph = net.done(net.node(Linear(), a, net.weight("b", 4, 4), shared, out="yb"))
    got = corrected(graph, {"a": np.ones(4)})
    np.testing.assert_array_equal(got.constants["shared"].array, graph.constants["shared"].array)
    np.testing.assert_allclose(got.constants["ya.bias"].array, graph.constants["shared"].array - 1)


def test_a_shared_weight_an_unknown_drift_and_none_are_left_alone_with_a_reason():
    net = Network()
    w = net.weight("w", 4, 4)
    a = net.node(Linear(), net.input(4), w, out="ya")
    graph = net.done(net.linear(net.linear(net.node(Linear(), a, w, out="yb"), 4, out="c"), 4, out="d"))
    rounded = RoundWeights(3, overrides={"d.weight": 8}).run(graph).graph
    x = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    assert measured_drift(graph, rounded, [x]).keys() == {"c.weight", "d.weight"}
    result = CorrectBias({"w": np.ones(4), "c.weight": np.zeros(4)}).run(rounded)
    assert not result.changed
    assert {remark.where: remark.text for remark in result.declined} == {
        "w": "2 layers share it, each with a drift of its own",
        "c.weight": "nothing moved",
        "d.weight": "its drift is not known",
    }


def test_what_does_not_fit_is_refused(pair):
    graph, rounded = pair
    with pytest.raises(CalibrationError, match="empty"):
        measured_drift(graph, rounded, [])
    with pytest.raises(CalibrationError, match="NaN"):
        measured_drift(graph, rounded, [np.full((2, 3, 6, 6), np.nan, np.float32)])
    with pytest.raises(InvalidInput):
        measured_drift(graph, rounded, [samples()[:, :2]])
    other = Network()
    with pytest.raises(InvalidInput, match="differ in more"):
        measured_drift(graph, other.done(other.input(3)), [samples()])
    with pytest.raises(InvalidInput, match="means of 7"):
        expected_drift(graph, rounded, {"fc.weight": np.zeros((1, 7))})
    with pytest.raises(InvalidInput, match="means of 16"):
        expected_drift(graph, rounded, {"up.weight": np.zeros((1, 16))})
    with pytest.raises(InvalidInput, match=r"no\.weight"):
        expected_drift(graph, rounded, {"no.weight": np.zeros((1, 7))})
    with pytest.raises(InvalidInput, match=r"no\.weight"):
        CorrectBias({"no.weight": np.ones(5)}).run(graph)
    for bad in (np.ones(4), np.full(5, np.nan)):
        with pytest.raises(InvalidInput, match="5 channels"):
            CorrectBias({"fc.weight": bad}).run(graph)
