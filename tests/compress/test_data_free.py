"""Ranges and means without data: true of networks whose batch norms are true, and the whole road without a sample."""

from dataclasses import dataclass

import numpy as np
import pytest

from penjing import api
from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.quantize.bias_drift import expected_drift
from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.correct_bias import CorrectBias
from penjing.compress.quantize.data_free import means_from_batch_norm, ranges_from_batch_norm
from penjing.compress.quantize.equalize_layers import EqualizeLayers
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.graph import Graph, Operation
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant, Type
from penjing.ops.add import Add, Sub
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.concat import Concat
from penjing.ops.conv2d import Conv2d
from penjing.ops.evaluate import evaluate
from penjing.ops.gelu import Gelu
from penjing.ops.hardswish import Hardswish
from penjing.ops.leaky_relu import LeakyRelu
from penjing.ops.mean import Mean
from penjing.ops.mul import Mul
from penjing.ops.operator import Operator
from penjing.ops.pad import Pad, PadValue
from penjing.ops.permute import Permute
from penjing.ops.pool2d import AvgPool2d, MaxPool2d
from penjing.ops.prelu import Prelu
from penjing.ops.relu import Clamp, Relu, Relu6
from penjing.ops.reshape import Reshape
from penjing.ops.sigmoid import Sigmoid
from penjing.ops.slice import Select, Slice
from penjing.ops.softmax import Softmax
from penjing.ops.split import Split
from penjing.program.interpret import interpret
from penjing.testing.networks import BATCH, Network

INPUT = {"x": (-4.0, 4.0)}


def samples(count: int = 256, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 10, 10)).clip(-4, 4).astype(np.float32)


def norm(net: Network, x: str, out: str) -> str:
    """A batch norm whose mean and variance are set later, by `trained`."""
    channels = net.graph.types[x].bounds[1]
    gamma = net.constant(f"{out}.gamma", net.rng.uniform(0.2, 1.5, size=channels))
    beta = net.constant(f"{out}.beta", net.rng.normal(0.2, 0.7, size=channels))
    zeros, ones = net.constant(f"{out}.mean", np.zeros(channels)), net.constant(f"{out}.var", np.ones(channels))
    return net.node(BatchNorm(), x, gamma, beta, zeros, ones, out=out)


def trained(graph: Graph) -> Graph:
    """Set the statistics of every batch norm to those of its input on `samples`, in order."""
    for output in [node.output for node in graph.nodes if node.op.name == "batch_norm"]:
        node = graph.producers()[output]
        seen: dict[str, np.ndarray] = {}
        evaluate(graph, samples(), watch=lambda name, array, to=seen: to.update({name: array}))
        x = seen[node.inputs[0]]
        axes = tuple(i for i in range(x.ndim) if i != 1)
        graph.set_constant(node.inputs[3], Constant(x.mean(axis=axes)))
        graph.set_constant(node.inputs[4], Constant(x.var(axis=axes)))
    return graph


def residual() -> Graph:
    net = Network()
    value = net.node(Relu(), norm(net, net.conv(net.input(3, 10, 10), 8, out="conv1"), "norm1"), out="relu1")
    inner = net.node(Relu(), norm(net, net.conv(value, 8, out="conv2", bias=False), "norm2"), out="relu2")
    inner = norm(net, net.conv(inner, 8, out="conv3", groups=2), "norm3")
    total = net.node(Relu(), net.node(Add(), inner, value, out="sum"), out="relu3")
    total = net.node(Relu6(), norm(net, net.conv(total, 6, out="conv4"), "norm4"), out="relu4")
    return trained(net.done(net.linear(net.node(Mean((2, 3)), total, out="mean"), 5, out="fc")))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return residual()


def test_every_value_that_calibration_observes_has_a_range_that_holds_it_and_is_not_far_too_wide(graph):
    ranges = ranges_from_batch_norm(graph, INPUT)
    seen = calibrate(api.clean(graph), [samples()], "min-max")
    assert ranges.ranges.keys() == seen.ranges.keys()
    assert ranges.samples == 0
    for name, (low, high) in seen.ranges.items():
        got = ranges.ranges[name]
        width = high - low
        assert got[0] <= low + 0.05 * width, name
        assert got[1] >= high - 0.05 * width, name
        # means over positions vary far less than what they average
        assert got[1] - got[0] <= (8 if name in ("mean", "fc") else 2.5) * width, name


def test_a_layer_with_a_folded_norm_has_the_range_of_the_norm(graph):
    gamma, beta = (graph.constants[f"norm1.{name}"].array.astype(np.float64) for name in ("gamma", "beta"))
    for sigmas in (3.0, 6.0):
        low, high = ranges_from_batch_norm(graph, INPUT, sigmas).ranges["conv1"]
        assert low == pytest.approx(float((beta - sigmas * gamma).min()))
        assert high == pytest.approx(float((beta + sigmas * gamma).max()))


def test_means_are_near_those_of_the_samples(graph):
    means = means_from_batch_norm(graph, INPUT)
    seen = collect_layer_inputs(api.clean(graph), [samples(64)])
    assert means.keys() == seen.keys()
    for name, known in seen.items():
        assert means[name].shape == known.mean.shape
        scale = np.sqrt(np.einsum("gkk->gk", known.gram)).max()
        np.testing.assert_allclose(means[name], known.mean, atol=0.1 * scale)


def test_the_mean_of_padded_windows_counts_the_zeros():
    net = Network()
    value = norm(net, net.conv(net.input(3, 10, 10), 4, out="conv"), "norm")
    graph = trained(net.done(norm(net, net.conv(value, 2, out="padded"), "norm2")))
    means = means_from_batch_norm(graph, INPUT)
    (name,) = [name for name in means if name.startswith("padded")]
    beta = graph.constants["norm.beta"].array
    kept = np.array([[0.81, 0.9, 0.81], [0.9, 1, 0.9], [0.81, 0.9, 0.81]])
    np.testing.assert_allclose(means[name][0], (beta[:, None, None] * kept).reshape(-1), rtol=1e-5)


def test_the_whole_road_needs_no_sample(graph):
    x = samples(128, 5)
    (want,) = evaluate(graph, x)

    def error(bits: int, equalized: bool, corrected: bool) -> float:
        start = run_passes(graph, [EqualizeLayers()])[0] if equalized else graph
        ranges, means = ranges_from_batch_norm(start, INPUT), means_from_batch_norm(start, INPUT)
        cleaned = api.clean(start)
        rounded = run_passes(cleaned, [RoundWeights(bits)])[0]
        if corrected:
            rounded = run_passes(rounded, [CorrectBias(expected_drift(cleaned, rounded, means))])[0]
        program = api.lower(run_passes(rounded, [QuantizeStatic(ranges)])[0])
        source, target = (program.types[name].quant for name in (program.inputs[0], program.outputs[0]))
        (y,) = interpret(program, quantize(x, source.scale, source.zero_point))
        return float(np.square(dequantize(y, target.scale, target.zero_point) - want).mean() / want.var())

    assert error(8, True, True) < 0.01
    assert error(3, False, True) < 0.8 * error(3, False, False)


# --- single rules --------------------------------------------------------------------------------------------------


def behind(*ops: Operation | tuple[Operation, np.ndarray]) -> Graph:
    """A batch norm of 4 channels, then `ops` in a row, some with a constant as second input."""
    net = Network()
    value = norm(net, net.conv(net.input(3, 10, 10), 4, out="conv"), "norm")
    for i, op in enumerate(ops):
        given = op if isinstance(op, tuple) else (op,)
        rest = [net.constant(f"c{i}", array) for array in given[1:]]
        value = net.node(given[0], value, *rest, out="y" if i == len(ops) - 1 else f"v{i}")
    return trained(net.done(value))


STEP = np.random.default_rng(2).normal(size=(4, 1, 1))
RULES = {
    "relu": (Relu(),),
    "clamp": (Clamp(-0.5, 1.0),),
    "leaky relu": (LeakyRelu(0.1),),
    "gelu": (Gelu(),),
    "hardswish": (Hardswish(),),
    "sigmoid": (Sigmoid(), (Mul(), STEP)),
    "prelu": ((Prelu(), np.array([0.1, -0.5, 0.3, 2.0])),),
    "add a constant": ((Add(), STEP),),
    "subtract a constant": ((Sub(), STEP),),
    "multiply by a constant": ((Mul(), STEP),),
    "multiply by one number": ((Mul(), np.array([-2.0])),),
    "add a picture": ((Add(), np.random.default_rng(3).normal(size=(10, 10))),),
    "convolution": (Relu(), (Conv2d(), np.random.default_rng(4).normal(size=(5, 4, 1, 1)))),
    "grouped convolution": ((Conv2d(groups=2), np.random.default_rng(5).normal(size=(6, 2, 1, 1))),),
    "slice of channels": (Slice(1, 1, 3), (Mul(), STEP[1:3])),
    "slice of rows": (Slice(2, 2, 9), (Mul(), STEP)),
    "one channel": (Select(1, 2), (Mul(), np.array([3.0]))),
    "one row": (Select(2, 4), (Mul(), STEP[:, 0])),
    "permuted": (Permute((0, 2, 1, 3)), (Mul(), STEP[:, 0])),
    "flattened": (Reshape((BATCH, 400)), (Mul(), np.random.default_rng(6).normal(size=400))),
    "lines": (Reshape((BATCH, 4, 100)), (Mul(), STEP[:, 0])),
    "mixed up": (Reshape((BATCH, 8, 50)), (Mul(), np.array([2.0]))),
    "padded": (Pad((0, 0, 0, 0, 1, 2, 1, 0)), (Mul(), STEP)),
    "padded channels": (Pad((0, 0, 1, 0, 0, 0, 0, 0)), (Mul(), np.array([2.0]))),
    "padded with a number": (PadValue((0, 0, 0, 0, 1, 2, 1, 0), 7.0), (Mul(), np.array([1.0]))),
    "mean pool": (AvgPool2d((2, 2), (2, 2)),),
    "max pool": (MaxPool2d((2, 2), (2, 2)), (Mul(), STEP)),
    "mean of channels": (Mean((1,)),),
    "mean of positions": (Mean((2, 3), keepdim=True), (Mul(), STEP)),
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_gives_a_range_that_holds_what_comes(name):
    graph = behind(*RULES[name])
    low, high = ranges_from_batch_norm(graph, INPUT).ranges["y"]
    (y,) = evaluate(graph, samples())
    width = float(y.max() - y.min())
    assert low <= y.min() + 0.01 * width
    assert high >= y.max() - 0.01 * width
    assert high - low <= (12 if name.startswith("mean") else 3) * width


def two_parts(join: str) -> Graph:
    net = Network()
    x = net.input(3, 10, 10)
    a, b = (norm(net, net.conv(x, 4, out=f"conv{i}"), f"norm{i}") for i in range(2))
    if join == "gate":
        return trained(net.done(net.node(Mul(), a, net.node(Sigmoid(), b, out="gate"), out="y")))
    if join == "squeeze":
        squeezed = net.node(Mean((2, 3), keepdim=True), b, out="mean")
        return trained(net.done(net.node(Mul(), a, net.node(Sigmoid(), squeezed, out="gate"), out="y")))
    if join == "concat":
        both = net.node(Concat(1), a, net.node(Relu(), b, out="relu"), out="both")
        return trained(net.done(net.node(Mul(), both, net.constant("c", np.arange(8).reshape(8, 1, 1)), out="y")))
    if join == "rows":
        return trained(net.done(net.node(Relu(), net.node(Concat(2), a, b, out="both"), out="y")))
    return trained(net.done(net.node(Sub(), a, net.node(Permute((0, 2, 3, 1)), b, out="turned"), out="y")))


@pytest.mark.parametrize("join", ["gate", "squeeze", "concat", "rows"])
def test_values_of_two_norms_that_meet_have_a_range_that_holds_what_comes(join):
    graph = two_parts(join)
    low, high = ranges_from_batch_norm(graph, INPUT).ranges["y"]
    (y,) = evaluate(graph, samples())
    assert low <= y.min() <= y.max() <= high
    assert high - low <= 6 * float(y.max() - y.min())


def test_parts_of_a_split_keep_the_channels_that_they_are_made_of():
    net = Network()
    value = norm(net, net.conv(net.input(3, 10, 10), 4, out="conv"), "norm")
    net.graph.add_node(Split(1, (1, 3)), (value,), ("one", "three"))
    graph = net.done(net.node(Relu(), "one", out="a"), net.node(Relu(), "three", out="b"))
    gamma, beta = (graph.constants[f"norm.{name}"].array.astype(np.float64) for name in ("gamma", "beta"))
    ranges = ranges_from_batch_norm(graph, INPUT).ranges
    assert ranges["a"][1] == pytest.approx(float(beta[0] + 6 * gamma[0]))
    assert ranges["b"][1] == pytest.approx(float((beta + 6 * gamma)[1:].max()))


def test_clipped_normal_numbers_have_the_mean_of_a_long_draw():
    net = Network()
    value = net.node(Clamp(-0.4, 1.1), norm(net, net.conv(net.input(3, 10, 10), 4, out="conv"), "norm"), out="clamp")
    graph = net.done(net.conv(value, 2, out="last", kernel=1))
    means = means_from_batch_norm(graph, INPUT)["last.weight"][0]
    gamma, beta = (graph.constants[f"norm.{name}"].array for name in ("gamma", "beta"))
    drawn = np.random.default_rng(7).normal(size=(400_000, 1)) * gamma + beta
    np.testing.assert_allclose(means, np.clip(drawn, -0.4, 1.1).mean(axis=0), atol=4e-3)


def test_inputs_without_zero_inside_count_as_uniform():
    graph = behind(Relu())
    means = means_from_batch_norm(graph, {"x": (0.0, 1.0)})
    (name,) = means
    assert means[name].max() == pytest.approx(0.5)
    assert means_from_batch_norm(graph, INPUT)[name].max() == 0


@dataclass(frozen=True)
class Strange(Operator):
    """An operator that no rule knows."""

    name = "strange"

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return (Type(inputs[0].shape),)


def test_a_value_that_no_rule_covers_is_named_and_known_again_behind_the_next_norm():
    net = Network()
    value = norm(net, net.conv(net.input(3, 10, 10), 4, out="conv"), "norm")
    value = net.node(Relu(), net.node(Strange(), value, out="odd"), out="after")
    graph = net.done(norm(net, net.conv(value, 4, out="conv2"), "norm2"))
    with pytest.raises(QuantizationError, match=r"range of %odd \(strange\), %after \(relu\) cannot be known"):
        ranges_from_batch_norm(graph, INPUT)
    assert not any(name.startswith("conv2") for name in means_from_batch_norm(graph, INPUT))


def test_a_softmax_has_its_own_range():
    graph = behind(Mean((2, 3)), Softmax(1))
    assert set(ranges_from_batch_norm(graph, INPUT).ranges) == {"x", "conv", "v0"}


def test_what_does_not_fit_is_refused(graph):
    with pytest.raises(QuantizationError, match="no batch norm"):
        ranges_from_batch_norm(api.clean(graph), INPUT)
    for sigmas in (0.0, -1.0, float("nan")):
        with pytest.raises(InvalidInput, match="sigmas"):
            ranges_from_batch_norm(graph, INPUT, sigmas)
    for inputs in ({}, {"y": (0.0, 1.0)}, {**INPUT, "y": (0.0, 1.0)}):
        with pytest.raises(InvalidInput, match="ranges for inputs"):
            ranges_from_batch_norm(graph, inputs)
    for pair in ((1.0, 1.0), (2.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)):
        with pytest.raises(InvalidInput, match="a range cannot be"):
            ranges_from_batch_norm(graph, {"x": pair})
    net = Network()
    x = net.input(3, 4, 4)
    computed = net.node(Reshape((3,)), net.node(Relu(), net.weight("g", 1, 3), out="r"), out="gamma")
    rest = [net.constant(name, np.ones(3)) for name in ("beta", "mean", "var")]
    with pytest.raises(QuantizationError, match="computed"):
        ranges_from_batch_norm(net.done(net.node(BatchNorm(), x, computed, *rest, out="y")), INPUT)
