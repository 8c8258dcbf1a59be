"""Lowering: a quantized network becomes a legal program that means the same, with a clear error where it cannot."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from penjing.compress.quantize.calibrate import Ranges
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import InvalidGraph, QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ir.text import print_graph
from penjing.ir.types import DType, Quant, Source
from penjing.ir.verify import verify
from penjing.ops import operators
from penjing.ops.conv2d import Conv2d
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.operator import QuantRule
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Clamp, Relu
from penjing.program.interpret import interpret
from penjing.program.lower import lower
from penjing.runtime.engines import to_codes
from penjing.testing.networks import BATCH, Network, batches, edge_cnn
from penjing.testing.random_graphs import float_graphs
from penjing.testing.sample_graphs import sample_graph


def kinds(program: Graph) -> list[str]:
    return [node.op.name for node in program.nodes]


def reals(program: Graph, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a program on real inputs, as reals."""
    quants = {name: program.types[name].quant for name in (*program.inputs, *program.outputs)}
    codes = [quantize(x, quants[n].scale, quants[n].zero_point) for n, x in zip(program.inputs, inputs, strict=True)]
    outputs = interpret(program, *codes)
    return [dequantize(y, quants[n].scale, quants[n].zero_point) for n, y in zip(program.outputs, outputs, strict=True)]


def test_edge_cnn_becomes_six_kernels_without_a_transpose(edge_program):
    assert kinds(edge_program) == [
        "q_reshape",  # one channel: NCHW and NHWC are the same bytes
        "q_conv2d",
        "q_max_pool2d",
        "q_conv2d",
        "q_max_pool2d",
        "q_reshape",
        "q_linear",
        "q_linear",
    ]
    assert edge_program.stage == "lowered"
    assert edge_program.inputs == ("x",) and edge_program.outputs == ("fc2",)


def test_the_program_computes_what_the_network_means(edge_program):
    graph = edge_cnn()
    (x,) = next(batches(graph, 32, seed=5))
    (y,), (want,) = reals(edge_program, x), evaluate(graph, x)
    noise = np.square(y - want).mean() / np.square(want).mean()
    assert 10 * np.log10(noise) < -30  # dB: eight bits with random weights


def test_shapes_keep_their_symbolic_batch(edge_program):
    for name in edge_program.activations():
        assert edge_program.types[name].shape[0] == BATCH


def test_every_value_of_a_program_is_an_integer_with_its_quantization(edge_program):
    for name in edge_program.activations():
        assert edge_program.types[name].dtype is DType.U8
        assert edge_program.types[name].quant is not None


def test_lowering_twice_gives_the_same_program(quantized):
    graph = quantized(edge_cnn())
    before = print_graph(graph)
    assert print_graph(lower(graph)) == print_graph(lower(graph))
    assert print_graph(graph) == before


@pytest.mark.parametrize("stage", ["imported", "cleaned", "lowered"])
def test_only_a_quantized_graph_can_be_lowered(stage):
    graph = edge_cnn()
    graph.stage = stage
    with pytest.raises(InvalidGraph, match=f"only a compressed graph can be lowered, not {stage}"):
        lower(graph)


@pytest.mark.parametrize("name", ["x", "relu1", "pool1", "relu3", "fc2"])
def test_a_value_without_quantization_is_named(quantized, name):
    graph = quantized(edge_cnn())
    graph.types[name] = graph.types[name].with_quant(None)
    with pytest.raises(QuantizationError, match=f"%{name} has no quantization") as caught:
        lower(graph)
    assert caught.value.where == "graph edgecnn" if name == "x" else caught.value.where.startswith("node ")


@pytest.mark.parametrize("name", ["conv1", "conv2", "fc1"])
def test_a_value_that_fusion_removes_needs_no_quantization(quantized, name):
    graph = quantized(edge_cnn())
    graph.types[name] = graph.types[name].with_quant(None)
    assert len(lower(graph).nodes) == 8


def wide(kind: str, channels: int) -> Graph:
    """One layer that sums `channels` products of the largest weight."""
    net = Network("wide")
    if kind == "linear":
        y = net.node(Linear(), net.input(channels), net.constant("w", np.ones((2, channels))), out="y")
    else:
        w = net.constant("w", np.ones((2, channels, 1, 1)))
        y = net.node(Conv2d(), net.input(channels, 1, 1), w, out="y", source=Source("net.py", 4))
    return net.done(y)


@pytest.mark.parametrize("kind", ["linear", "conv2d"])
def test_an_accumulator_that_could_overflow_is_refused_with_its_node(quantized, kind):
    most = (2**31 - 1) // (127 * 255)
    rest = (1, 1) if kind == "conv2d" else ()
    lower(quantized(wide(kind, most), np.ones((1, most, *rest), np.float32)))
    too_wide = quantized(wide(kind, most + 1), np.ones((1, most + 1, *rest), np.float32))
    with pytest.raises(
        QuantizationError, match=f"could reach {127 * 255 * (most + 1)}, over the int32 limit"
    ) as caught:
        lower(too_wide)
    assert caught.value.where.startswith("node y (q_")
    if kind == "conv2d":
        assert "net.py:4" in caught.value.where


def test_nodes_of_the_program_keep_the_users_source():
    net = Network()
    conv = net.node(
        Conv2d(), net.input(1, 3, 3), net.weight("w", 2, 1, 3, 3), out="conv", source=Source("net.py", 8, "aten.conv2d")
    )
    graph = net.done(net.node(Relu(), conv, out="y", source=Source("net.py", 9, "aten.relu")))
    graph = run_passes(graph, [QuantizeStatic(Ranges(dict.fromkeys(graph.activations(), (-1.0, 1.0)), 1))])[0]
    (node,) = [node for node in lower(graph).nodes if node.op.name == "q_conv2d"]
    assert node.source == Source("net.py", 8, "aten.conv2d")


def test_channels_that_are_all_grouped_become_a_depthwise_kernel(quantized):
    net = Network()
    graph = net.done(net.conv(net.input(4, 5, 5), 4, out="y", groups=4))
    assert "q_depthwise" in kinds(lower(quantized(graph)))
    net = Network()
    graph = net.done(net.conv(net.input(4, 5, 5), 4, out="y", groups=2))
    assert "q_conv2d" in kinds(lower(quantized(graph)))


# Outputs: each is a value of its own, whatever the network returned.


def test_an_input_that_is_returned_is_copied(quantized):
    net = Network()
    x = net.input(3, 2, 2)
    program = lower(quantized(net.done(net.node(Relu(), x, out="y"), x)))
    assert program.outputs[1] not in program.inputs
    codes = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(interpret(program, codes)[1], codes)


def test_a_value_that_is_returned_twice_is_copied(quantized):
    net = Network()
    y = net.node(Relu(), net.input(3), out="y")
    program = lower(quantized(net.done(y, y, y)))
    assert len(set(program.outputs)) == 3
    first, *rest = interpret(program, np.arange(30, dtype=np.uint8).reshape(10, 3))
    for other in rest:
        np.testing.assert_array_equal(other, first)


def test_a_value_and_its_reshape_are_both_returned(quantized):
    net = Network()
    y = net.conv(net.input(2, 3, 3), 2, out="y")
    graph = net.done(net.flatten(y, out="flat"), y)
    flat, whole = interpret(lower(quantized(graph)), np.arange(36, dtype=np.uint8).reshape(2, 2, 3, 3))
    np.testing.assert_array_equal(flat, whole.reshape(2, 18))


def test_outputs_stand_in_the_order_of_the_network(quantized):
    net = Network()
    y = net.conv(net.input(3, 4, 5), 2, out="y")
    graph = net.done(net.node(MaxPool2d((2, 2), (2, 2)), y, out="pool"), y)
    program = lower(quantized(graph))
    (x,) = next(batches(graph, 16))
    for got, want in zip(reals(program, x), evaluate(graph, x), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())


# Clamps: a rectifier is done in passing, and that is the same as doing it afterwards.


def clamped(name: str, sample, low: float, high: float) -> tuple[Graph, Graph, tuple[np.ndarray, ...]]:
    """The sample's operator alone, and with a clamp behind it, in the same codes."""
    made = sample_graph("one", [(name, sample)])
    alone = made.graph
    (value,) = alone.outputs
    behind = alone.copy()
    behind.add_node(Clamp(low, high), (value,), ("clamped",))
    behind.outputs = ("clamped",)
    ranges = {n: (float(x.min()), float(x.max())) for n, x in zip(alone.inputs, made.inputs, strict=True)}
    (y,) = evaluate(alone, *made.inputs)
    ranges[value] = ranges["clamped"] = (float(y.min()), float(y.max()))
    passes = [QuantizeStatic(Ranges(ranges, 1))]
    return run_passes(alone, passes)[0], run_passes(behind, passes)[0], made.inputs


def code(real: float, quant: Quant) -> int:
    """The end of a clamp as a code, worked out in float64 as tables are."""
    return int(np.clip(np.rint(real / float(quant.scale)) + quant.zero_point, 0, 255))


SAMPLES = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name, operator in operators().items()
    for i, sample in enumerate(operator.samples())
    if len(sample.op.infer(*sample.types)) == 1 and not operator.of_streams
]


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_a_clamp_behind_any_operator_clamps_its_codes(name, sample):
    alone, behind, inputs = clamped(name, sample, -0.25, 0.5)
    plain, fused = lower(alone), lower(behind)
    quant = alone.types[alone.outputs[0]].quant
    codes = to_codes(plain, inputs)
    (want,), (got,) = interpret(plain, *codes), interpret(fused, *codes)
    if behind.types["clamped"].quant == quant:
        low, high = (code(end, quant) for end in (-0.25, 0.5))
        np.testing.assert_array_equal(got, np.clip(want, low, high))
    has_own_kernel = operators()[name].quant_rule is QuantRule.OWN and alone.nodes[0].op.clamp_range() is None
    if has_own_kernel and name not in ("concat", "pad_value"):
        assert len(fused.nodes) == len(plain.nodes)


@pytest.mark.parametrize("what", ["input", "moved", "other user", "output", "another relu"])
def test_a_rectifier_that_cannot_be_done_in_passing_is_a_table(quantized, what):
    net = Network()
    x = net.input(2, 4, 4)
    extra = []
    if what == "input":
        value = x
    elif what == "moved":
        value = net.node(MaxPool2d((2, 2), (2, 2)), x, out="pool")
    else:
        value = net.conv(x, 2, out="conv")
        extra = [value] if what == "output" else []
    if what == "other user":
        extra = [net.node(MaxPool2d((2, 2), (2, 2)), value, out="pool")]
    if what == "another relu":
        value = net.node(Relu(), value, out="first")
    graph = net.done(net.node(Relu(), value, out="relu"), *extra)
    program = lower(quantized(graph))
    assert kinds(program).count("q_table") == 1
    (x,) = next(batches(graph, 16))
    got, want = reals(program, x)[0], evaluate(graph, x)[0]
    assert (got >= 0).all()
    np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(float_graphs(max_layers=8))
def test_every_network_becomes_a_legal_program_with_its_ports(made):
    graph = made.graph
    every = dict.fromkeys(graph.activations(), (-3.0, 4.0))
    compressed = run_passes(graph, [QuantizeStatic(Ranges(every, 1))])[0]
    program = lower(compressed)
    verify(program)
    assert program.inputs == graph.inputs
    assert [program.types[n].shape for n in program.outputs] == [graph.types[n].shape for n in graph.outputs]
    assert [program.types[n].quant for n in program.outputs] == [compressed.types[n].quant for n in graph.outputs]
    used = {name for node in program.nodes for name in node.inputs}
    assert set(program.constants) <= used
