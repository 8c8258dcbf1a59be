"""Static quantization: every scale, zero point, weight code and bias follows from its rule, exactly."""

from fractions import Fraction

import numpy as np
import pytest

from penjing.compress.quantize.affine_map import symmetric_per_channel
from penjing.compress.quantize.calibrate import Ranges, calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import QuantizationError, UnsupportedOp
from penjing.ir.graph import Graph
from penjing.ir.grid import activation_parameters
from penjing.ir.passes import run_passes
from penjing.ir.text import print_graph
from penjing.ir.types import DType, Quant
from penjing.ops.add import Add
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.concat import Concat
from penjing.ops.conv2d import Conv2d
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.mul import Mul
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu
from penjing.ops.softmax import Softmax
from penjing.program.interpret import interpret
from penjing.program.lower import lower
from penjing.testing.networks import Network, batches


def with_ranges(graph: Graph, **ranges: tuple[float, float]) -> Graph:
    """`graph` quantized by the given ranges, (-1, 1) where none is given."""
    every = {name: ranges.get(name, (-1.0, 1.0)) for name in graph.activations()}
    before = print_graph(graph)
    got = run_passes(graph, [QuantizeStatic(Ranges(every, 1))])[0]
    assert print_graph(graph) == before
    assert got.stage == "compressed"
    return got


def calibrated(graph: Graph, samples: int = 32) -> Graph:
    return run_passes(graph, [QuantizeStatic(calibrate(graph, batches(graph, samples), "min-max"))])[0]


def quant(low: float, high: float) -> Quant:
    scale, zero_point = activation_parameters(low, high)
    return Quant((float(scale),), zero_point)


def integer_outputs(graph: Graph, *inputs: np.ndarray) -> list[np.ndarray]:
    """What the program of a quantized graph makes of real inputs, as reals."""
    program = lower(graph)
    types = [program.types[name].quant for name in (*program.inputs, *program.outputs)]
    n = len(program.inputs)
    codes = [quantize(x, q.scale, q.zero_point) for x, q in zip(inputs, types[:n], strict=True)]
    outputs = interpret(program, *codes)
    return [dequantize(y, q.scale, q.zero_point) for y, q in zip(outputs, types[n:], strict=True)]


def test_activations_get_the_parameters_of_their_ranges():
    net = Network()
    x = net.input(3, 4, 4)
    graph = net.done(net.node(Relu(), net.conv(x, 2, out="conv"), out="relu"))
    got = with_ranges(graph, x=(-0.5, 2.0), conv=(-3.0, 1.0), relu=(0.0, 1.0))
    assert got.types["x"].quant == quant(-0.5, 2.0)
    assert got.types["x"].quant == Quant((float(np.float32(2.5 / 255)),), 51)
    assert got.types["conv"].quant == quant(-3.0, 1.0)
    assert got.types["relu"].quant == Quant((float(np.float32(1 / 255)),), 0)
    assert got.types["x"].dtype is DType.F32  # still a network: the program is made of it later


def test_codes_that_are_only_moved_keep_the_parameters_of_the_input():
    net = Network()
    x = net.input(2, 4, 4)
    graph = net.done(net.flatten(net.node(MaxPool2d((2, 2), (2, 2)), x, out="pool"), out="flat"))
    got = with_ranges(graph, x=(-1.0, 3.0), pool=(5.0, 6.0))
    assert got.types["pool"].quant == got.types["flat"].quant == got.types["x"].quant == quant(-1.0, 3.0)


def test_an_operator_of_known_range_needs_no_calibration():
    net = Network()
    graph = net.done(net.node(Softmax(1), net.input(5), out="y"))
    got = run_passes(graph, [QuantizeStatic(Ranges({"x": (-4.0, 4.0)}, 1))])[0]
    assert got.types["y"].quant == Quant((1 / 256,), 0)


def test_codes_moved_from_a_constant_have_the_range_of_the_constant():
    net = Network()
    x = net.input(2, 2, 2)
    table = net.constant("table", np.arange(-4, 28).reshape(1, 2, 4, 4))
    graph = net.done(net.node(Add(), x, net.node(MaxPool2d((2, 2), (2, 2)), table, out="pool"), out="y"))
    got = with_ranges(graph, y=(-4.0, 30.0))
    assert got.types["pool"].quant == quant(-4.0, 27.0)
    assert_close(got, graph, 0.2)


def test_a_value_that_was_not_calibrated_is_named():
    net = Network()
    graph = net.done(net.conv(net.input(1, 4, 4), 2, out="conv"))
    with pytest.raises(QuantizationError, match="%conv was not calibrated") as caught:
        run_passes(graph, [QuantizeStatic(Ranges({"x": (0.0, 1.0)}, 1))])
    assert "calibrate" in str(caught.value.hint)


def test_weights_are_symmetric_codes_per_output_channel_and_biases_count_their_products():
    net = Network()
    x = net.input(3, 5, 5)
    graph = net.done(net.conv(x, 4, out="conv"))
    got = with_ranges(graph, x=(-2.0, 1.5))
    codes, scales = symmetric_per_channel(graph.constants["conv.weight"].array)
    weight, bias = got.constants["conv.weight.q"], got.constants["conv.bias.q"]
    assert set(got.constants) == {"conv.weight.q", "conv.bias.q"}
    np.testing.assert_array_equal(weight.array, codes)
    assert np.abs(weight.array).max() == 127
    assert weight.quant == Quant(tuple(map(float, scales)), 0, 0)
    assert bias.quant is None and bias.array.dtype == np.int32
    step = Fraction(float(got.types["x"].quant.scale))
    for o in range(4):
        real = Fraction(float(graph.constants["conv.bias"].array[o]))
        assert int(bias.array[o]) == round(real / (step * Fraction(float(scales[o]))))


def test_a_layer_without_bias_gets_none():
    net = Network()
    graph = net.done(net.conv(net.input(3, 5, 5), 4, out="conv", bias=False))
    got = with_ranges(graph)
    assert set(got.constants) == {"conv.weight.q"}
    assert got.nodes[0].inputs == ("x", "conv.weight.q")


def test_transposed_convolutions_scale_the_output_axis_and_share_it_between_groups():
    net = Network()
    x = net.input(4, 3, 3)
    names = (net.weight("w", 4, 3, 2, 2), net.weight("b", 6))
    graph = net.done(net.node(ConvTranspose2d((2, 2), groups=2), x, *names, out="y"))
    got = calibrated(graph)
    codes, scales = symmetric_per_channel(graph.constants["w"].array, 8, 1)
    assert got.constants["w.q"].quant == Quant(tuple(map(float, scales)), 0, 1)
    np.testing.assert_array_equal(got.constants["w.q"].array, codes)
    step = float(got.types["x"].quant.scale) * np.tile(scales.astype(np.float64), 2)
    np.testing.assert_array_equal(got.constants["b.q"].array, np.rint(graph.constants["b"].array / step))
    assert_close(got, graph, 0.1)


def test_parameters_that_lowering_reads_as_they_are_stay_floats():
    net = Network()
    names = [net.constant(name, np.ones(3)) for name in ("gamma", "beta", "mean", "var")]
    graph = net.done(net.node(BatchNorm(), net.input(3, 4, 4), *names, out="y"))
    got = with_ranges(graph)
    assert {constant.array.dtype for constant in got.constants.values()} == {np.dtype(np.float32)}
    assert got.nodes == graph.nodes


def concatenation(*, second_user: bool = False, output: bool = False) -> Graph:
    net = Network()
    x = net.input(2, 4, 4)
    a = net.conv(x, 2, out="a")
    b = net.node(Relu(), net.conv(x, 2, out="pre"), out="b")
    pool = net.node(MaxPool2d((1, 1), (1, 1)), x, out="pool")
    y = net.node(Concat(1), a, b, pool, x, out="y")
    outputs = [y]
    if second_user:
        outputs.append(net.node(Relu(), a, out="again"))
    if output:
        outputs.append(a)
    return net.done(*outputs)


def test_what_only_a_concat_reads_is_computed_in_the_codes_of_the_concat():
    got = with_ranges(concatenation(), a=(-2.0, 2.0), b=(0.0, 9.0), y=(-3.0, 9.0), x=(-0.5, 0.5))
    joined = quant(-3.0, 9.0)
    assert got.types["a"].quant == got.types["b"].quant == got.types["y"].quant == joined
    assert got.types["pre"].quant == quant(-1.0, 1.0)
    # moved codes and inputs cannot be computed in other codes
    assert got.types["pool"].quant == got.types["x"].quant == quant(-0.5, 0.5)


@pytest.mark.parametrize("other", ["second_user", "output"])
def test_what_others_read_too_keeps_its_own_codes(other):
    got = with_ranges(concatenation(**{other: True}), a=(-2.0, 2.0), b=(0.0, 9.0), y=(-3.0, 9.0))
    assert got.types["a"].quant == quant(-2.0, 2.0)
    assert got.types["b"].quant == quant(-3.0, 9.0)


def test_codes_are_shared_through_one_concat_into_the_next():
    net = Network()
    x = net.input(2, 4, 4)
    inner = net.node(Concat(1), net.conv(x, 2, out="a"), net.conv(x, 2, out="b"), out="inner")
    graph = net.done(net.node(Concat(1), inner, net.conv(x, 2, out="c"), out="outer"))
    got = with_ranges(graph, outer=(-7.0, 8.0))
    assert {got.types[name].quant for name in ("a", "b", "c", "inner", "outer")} == {quant(-7.0, 8.0)}


def test_constant_operands_get_u8_codes_over_their_own_range_once():
    net = Network()
    x, c = net.input(4), net.constant("c", [[-1.0, 0.0, 1.0, 3.0]])
    graph = net.done(net.node(Mul(), c, net.node(Add(), x, c, out="sum"), out="y"))
    got = calibrated(graph)
    (constant,) = got.constants.values()
    assert constant.quant == quant(-1.0, 3.0)
    assert constant.array.dtype == np.uint8
    assert constant.array.tolist() == [[0, 64, 128, 255]]  # zero is exact, the ends are the ends
    assert [node.inputs for node in got.nodes] == [("x", "c.q"), ("c.q", "sum")]
    assert_close(got, graph, 0.1)


@pytest.mark.parametrize("value", [0.0, 2.5, -2.5])
def test_a_constant_operand_of_one_value_is_exact(value):
    net = Network()
    graph = net.done(net.node(Add(), net.input(3), net.constant("c", [[value] * 3]), out="y"))
    got = calibrated(graph)
    c = got.constants["c.q"]
    assert dequantize(c.array, c.quant.scale, c.quant.zero_point).tolist() == [[value] * 3]


def test_a_weight_that_several_layers_read_is_right_in_each():
    net = Network()
    w, b = net.weight("w", 5, 5), net.weight("b", 5)
    first = net.node(Linear(), net.input(5), w, b, out="first")
    graph = net.done(net.node(Linear(), net.node(Mul(), first, net.constant("c", [[9.0]]), out="up"), w, b, out="y"))
    got = calibrated(graph)
    weights = [got.constants[node.inputs[1]].array for node in got.nodes if node.op.name == "linear"]
    biases = [got.constants[node.inputs[2]].array for node in got.nodes if node.op.name == "linear"]
    np.testing.assert_array_equal(*weights)
    # the same reals, counted in steps of other sizes
    steps = [float(got.types[name].quant.scale) for name in ("x", "up")]
    np.testing.assert_allclose(biases[0] * steps[0], biases[1] * steps[1], rtol=0.02)
    assert np.abs(biases[0]).max() > 2 * np.abs(biases[1]).max()
    assert_close(got, graph, 0.05)


def assert_close(got: Graph, graph: Graph, tolerance: float, samples: int = 8) -> None:
    """Integer outputs lie within `tolerance`, a share of the largest output."""
    (inputs,) = batches(graph, samples, seed=1)
    for y, want in zip(integer_outputs(got, *inputs), evaluate(graph, *inputs), strict=True):
        assert np.abs(y - want).max() <= tolerance * np.abs(want).max()


def biased(weights, bias) -> Graph:
    net = Network()
    x = net.input(2, 4, 4)
    w = np.broadcast_to(np.reshape(weights, (-1, 1, 1, 1)), (len(weights), 2, 1, 1))
    return net.done(net.node(Conv2d(), x, net.constant("w", w), net.constant("b", bias), out="y"))


def test_a_channel_whose_weights_vanish_beside_its_bias_keeps_the_bias():
    graph = biased([0.5, 1e-12, -1e-30, 0.25], [0.1, 2.0, -1.5, 0.2])
    got = calibrated(graph)
    bias = got.constants["b.q"].array
    assert np.abs(bias.astype(np.int64)).max() <= 2**30
    plain = symmetric_per_channel(graph.constants["w"].array)[1]
    scales = got.constants["w.q"].quant.scale_array()
    assert (scales[0], scales[3]) == (plain[0], plain[3])  # others are left alone
    assert (scales[1:3] > plain[1:3]).all()
    step = float(got.types["x"].quant.scale) * scales.astype(np.float64)
    np.testing.assert_allclose(bias * step, graph.constants["b"].array, rtol=1e-2)
    np.testing.assert_allclose((bias * step)[1:3], [2.0, -1.5], rtol=1e-6)
    assert_close(got, graph, 0.01)


@pytest.mark.parametrize("bias", [0.02, 0.011, -3.7, 1e-9, 1e9, 0.0])
def test_a_channel_without_any_weights_is_its_bias_exactly(bias):
    graph = biased([0.0], [bias])
    got = calibrated(graph)
    assert np.abs(got.constants["b.q"].array).max() <= 2**24
    (inputs,) = batches(graph, 2)
    # the range is that of the one value, so an end code stands for it
    np.testing.assert_allclose(integer_outputs(got, *inputs)[0], bias, rtol=1e-6)


def test_a_pruned_channel_beside_small_outputs_keeps_its_bias():
    """The input has far coarser steps than the output: a bias counted in them would round to nothing."""
    graph = biased([0.002, 0.0], [0.0, 0.006])
    got = calibrated(graph)
    assert float(got.types["x"].quant.scale) > 0.006
    assert_close(got, graph, 0.02)


@pytest.mark.parametrize("bias", [3e38, -3e38])
def test_a_bias_that_no_scale_can_hold_is_refused_with_its_node(bias):
    graph = biased([1.0], [bias])
    with pytest.raises(QuantizationError, match="bias b does not fit int32") as caught:
        with_ranges(graph, x=(-1e-36, 1e-36))
    assert "conv2d" in caught.value.where


def test_an_activation_that_is_always_zero_is_quantized_all_the_same():
    net = Network()
    x = net.input(2, 3, 3)
    dead = net.node(Relu(), net.node(Conv2d(), x, net.constant("w", -np.ones((1, 2, 1, 1))), out="conv"), out="dead")
    graph = net.done(net.conv(dead, 2, out="y"))
    ranges = calibrate(graph, [np.ones((1, 2, 3, 3), np.float32)])
    got = run_passes(graph, [QuantizeStatic(ranges)])[0]
    assert got.types["dead"].quant == Quant((1.0,), 0)
    (y,) = integer_outputs(got, np.ones((1, 2, 3, 3), np.float32))
    np.testing.assert_allclose(y, evaluate(graph, np.ones((1, 2, 3, 3), np.float32))[0], atol=0.01)


@pytest.mark.parametrize("which", ["weight", "bias"])
def test_a_computed_weight_or_bias_is_refused_with_its_node(which):
    net = Network()
    x, w, b = net.input(4), net.weight("w", 3, 4), net.weight("b", 3)
    if which == "weight":
        w = net.node(Relu(), w, out="computed")
    else:
        b = net.node(Relu(), b, out="computed")
    graph = net.done(net.node(Linear(), x, w, b, out="y"))
    with pytest.raises(UnsupportedOp, match="linear with a computed weight or bias, %computed") as caught:
        with_ranges(graph)
    assert "node y" in caught.value.where


def test_remarks_name_each_weight():
    net = Network()
    graph = net.done(net.linear(net.linear(net.input(4), 5, out="fc1"), 2, out="fc2"))
    every = dict.fromkeys(graph.activations(), (-1.0, 1.0))
    _, (log,) = run_passes(graph, [QuantizeStatic(Ranges(every, 1))])
    assert [(remark.where, remark.text) for remark in log.changed] == [
        ("node fc1 (linear)", "weight fc1.weight in 8 bits"),
        ("node fc2 (linear)", "weight fc2.weight in 8 bits"),
    ]
