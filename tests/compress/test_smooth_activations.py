"""SmoothQuant: the same outputs, its formula, a smaller error of 8 bits, and a reason wherever it is not done."""

import numpy as np
import pytest

from penjing import api
from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.compress.quantize.smooth_activations import SmoothActivations, collect_channel_peaks
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import CalibrationError, InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.passes import PassResult, run_passes
from penjing.ir.types import Constant
from penjing.ir.verify import verify
from penjing.ops.add import Add
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.evaluate import evaluate
from penjing.ops.layer_norm import LayerNorm
from penjing.ops.linear import Linear
from penjing.ops.mul import Mul
from penjing.ops.relu import Relu, Relu6
from penjing.program.interpret import interpret
from penjing.testing.networks import Network, batches


def outliers(channels: int, seed: int = 4) -> np.ndarray:
    """Factors of 1, and of 30 in every eighth channel."""
    return np.where(np.arange(channels) % 8 == seed, 30.0, 1.0)


def samples(graph: Graph, count: int = 64) -> np.ndarray:
    return next(batches(graph, count))[0]


def smoothed(graph: Graph, alpha: float = 0.5) -> PassResult:
    peaks = collect_channel_peaks(graph, batches(graph, 16, 4))
    result = SmoothActivations(peaks, alpha).run(graph)
    verify(result.graph)
    x = samples(graph)
    for want, got in zip(evaluate(graph, x), evaluate(result.graph, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
    return result


def three_readers() -> Graph:
    """What queries, keys and values read, behind a layer norm with outlier channels."""
    net = Network()
    gamma = net.constant("gamma", outliers(16))
    x = net.node(LayerNorm(), net.input(5, 16), gamma, net.weight("beta", 16), out="norm")
    return net.done(*(net.linear(x, 6, out=name) for name in "qkv"))


def by_layer() -> Graph:
    net = Network()
    graph = net.done(net.linear(net.node(Relu(), net.linear(net.input(12), 16, out="a"), out="r"), 5, out="b"))
    factors = outliers(16).astype(np.float32)
    for name in ("a.weight", "a.bias"):
        array = graph.constants[name].array
        graph.set_constant(name, Constant((array.T * factors).T))
    return graph


def by_batch_norm() -> Graph:
    net = Network()
    total = net.node(Add(), "x0", net.input(16, 4, 4, name="x0"), out="sum")
    statistics = net.constant("mean", np.zeros(16)), net.constant("var", np.ones(16))
    norm = net.node(BatchNorm(), total, net.constant("gamma", outliers(16)), "", *statistics, out="norm")
    return net.done(net.conv(net.node(Relu(), norm, out="r"), 4, out="conv"))


def by_factor(first: bool) -> Graph:
    net = Network()
    x = net.input(16, 4, 4)
    factor = net.constant("factor", outliers(16).reshape(16, 1, 1))
    return net.done(net.conv(net.node(Mul(), *((factor, x) if first else (x, factor)), out="m"), 4, out="conv"))


GRAPHS = {
    "layer": by_layer,
    "batch norm": by_batch_norm,
    "factor": lambda: by_factor(False),
    "factor first": lambda: by_factor(True),
}


@pytest.mark.parametrize("name", [*GRAPHS, "layer norm"])
def test_the_network_stays_the_same_and_its_activations_become_even(name):
    graph = three_readers() if name == "layer norm" else GRAPHS[name]()
    result = smoothed(graph)
    assert result.changed
    before, after = (collect_channel_peaks(g, [samples(g)]) for g in (graph, result.graph))
    for remark in result.changed:
        spread = [peaks[remark.where].max() / np.median(peaks[remark.where]) for peaks in (before, after)]
        assert spread[1] < 0.4 * spread[0]


@pytest.mark.parametrize("name", GRAPHS)
def test_the_integer_program_is_nearer_to_the_float_network(name):
    def error(graph: Graph) -> float:
        ranges = calibrate(graph, [x], "min-max")
        program = api.lower(run_passes(graph, [RoundWeights(), QuantizeStatic(ranges)])[0])
        source, target = (program.types[value].quant for value in (program.inputs[0], program.outputs[0]))
        (y,) = interpret(program, quantize(x, source.scale, source.zero_point))
        return float(np.square(dequantize(y, target.scale, target.zero_point) - want).mean())

    graph = GRAPHS[name]()
    # outliers that matter less than the rest, as in large networks: their weights are small
    for weight in collect_channel_peaks(graph, [samples(graph)]):
        array = graph.constants[weight].array
        if array.shape[1] == 16:
            factors = 1 / outliers(16).reshape(-1, *(1,) * (array.ndim - 2))
            graph.set_constant(weight, Constant((array * factors).astype(np.float32)))
    x = samples(graph, 256)
    (want,) = evaluate(graph, x)
    assert error(smoothed(graph).graph) < 0.5 * error(graph)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_scales_are_those_of_the_formula(alpha):
    graph = three_readers()
    peaks = collect_channel_peaks(graph, batches(graph, 16, 4))
    got = smoothed(graph, alpha).graph
    widest = np.max([np.abs(graph.constants[f"{name}.weight"].array).max(axis=0) for name in "qkv"], axis=0)
    s = peaks["q.weight"] ** alpha / widest ** (1 - alpha)
    for name, want in (("gamma", 1 / s), ("beta", 1 / s), ("q.weight", s), ("k.weight", s), ("v.weight", s)):
        np.testing.assert_allclose(got.constants[name].array, graph.constants[name].array * want, rtol=1e-5)


def test_peaks_do_not_depend_on_how_the_samples_are_cut():
    graph = by_batch_norm()
    x = samples(graph)
    whole, parts = (collect_channel_peaks(graph, cut) for cut in ([x], np.split(x, 8)))
    assert whole.keys() == {"conv.weight"}
    np.testing.assert_allclose(whole["conv.weight"], parts["conv.weight"], rtol=1e-6)
    assert whole["conv.weight"].shape == (16,)


def test_dead_channels_and_zeros_stay_as_they_are():
    graph = by_layer()
    for name, index in (("a.weight", 3), ("a.bias", 3)):
        array = graph.constants[name].array.copy()
        array[index] = 0
        graph.set_constant(name, Constant(array))
    unread = graph.constants["b.weight"].array.copy()
    unread[:, 5] = 0
    graph.set_constant("b.weight", Constant(unread))
    got = smoothed(graph).graph
    np.testing.assert_array_equal(got.constants["b.weight"].array[:, 3], graph.constants["b.weight"].array[:, 3])
    np.testing.assert_array_equal(got.constants["a.weight"].array[5], graph.constants["a.weight"].array[5])
    assert not got.constants["b.weight"].array[:, 5].any()


def reasons(result: PassResult) -> dict[str, str]:
    return {remark.where: remark.text for remark in result.declined}


def test_layers_behind_inputs_sums_and_clamps_are_left_alone_with_a_reason():
    net = Network()
    x = net.input(8)
    a = net.linear(x, 8, out="a")
    b = net.linear(net.node(Relu6(), a, out="six"), 8, out="b")
    c = net.linear(net.node(Add(), b, x, out="sum"), 8, out="c")
    graph = net.done(c)
    result = smoothed(graph)
    assert not result.changed
    assert reasons(result) == {
        "a.weight": "what it reads is made by no layer, norm or constant factor",
        "b.weight": "what it reads cannot be scaled: a goes to relu6, through which a scale cannot pass",
        "c.weight": "what it reads is made by no layer, norm or constant factor",
    }


def test_a_layer_on_a_grid_and_one_without_peaks_are_left_alone():
    graph = by_layer()
    peaks = collect_channel_peaks(graph, [samples(graph)])
    fixed = run_passes(graph, [RoundWeights(overrides={"a.weight": 8})])[0]
    assert "lies on a grid" in reasons(SmoothActivations(peaks).run(fixed))["b.weight"]
    del peaks["b.weight"]
    assert reasons(SmoothActivations(peaks).run(graph))["b.weight"] == "there are no peaks of b.weight"


def test_what_does_not_fit_is_refused():
    graph = by_layer()
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidInput, match="alpha"):
            SmoothActivations({}, alpha).run(graph)
    with pytest.raises(InvalidInput, match=r"no\.weight"):
        SmoothActivations({"no.weight": np.ones(3)}).run(graph)
    with pytest.raises(InvalidInput, match="other channels"):
        SmoothActivations({"b.weight": np.ones(3)}).run(graph)
    spoilt = graph.copy()
    spoilt.set_constant("b.weight", Constant(np.full((5, 16), np.nan, np.float32)))
    with pytest.raises(InvalidInput, match="NaN"):
        SmoothActivations({"b.weight": np.ones(16)}).run(spoilt)
    with pytest.raises(CalibrationError, match="empty"):
        collect_channel_peaks(graph, [])
    with pytest.raises(CalibrationError, match="NaN"):
        collect_channel_peaks(graph, [np.full((2, 12), np.nan, np.float32)])


def test_a_factor_for_all_channels_absorbs_nothing():
    net = Network()
    m = net.node(Mul(), net.input(8), net.constant("factor", np.full((1,), 3.0)), out="m")
    result = smoothed(net.done(net.node(Linear(), m, net.weight("w", 3, 8), out="y")))
    assert "made by no layer" in reasons(result)["w"]
