"""Layers that are kept in float32: which, what lies between them, where codes begin and end, and what they compute."""

from dataclasses import replace

import numpy as np
import pytest

from penjing import api
from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.keep_float import float_gains, kept_layers
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import InvalidInput, UnsupportedOp
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant, DType
from penjing.ops.add import Add, Sub
from penjing.ops.conv1d import Conv1d
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.evaluate import evaluate
from penjing.ops.layer_norm import LayerNorm
from penjing.ops.mean import Mean
from penjing.ops.mul import Mul
from penjing.ops.permute import Permute
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Clamp, Relu
from penjing.program.interpret import interpret_samples
from penjing.recipe.predict import predict
from penjing.runtime.engines import InterpreterEngine, to_codes, to_reals
from penjing.testing.networks import Network, batches, edge_cnn

LAYERS = ("conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight")


def program_of(graph: Graph, *keep: str) -> Graph:
    return api.lower(api.quantize(graph, batches(graph, 8), observer="min-max", keep_float=keep))


def ops(program: Graph) -> list[str]:
    return [node.op.name for node in program.nodes]


def error_of(graph: Graph, *keep: str) -> float:
    """Mean square of what separates the program from the float network."""
    (x,) = next(batches(graph, 4, seed=5))
    (want,) = evaluate(graph, x)
    (got,) = InterpreterEngine(program_of(graph, *keep)).run_reals(x)
    return float(np.square(got - want).mean())


def two_branches(op: Add | Sub | Mul, *, clamp: bool = False) -> Graph:
    """x -> a, b; y = op(a, b) -> c."""
    net = Network("branches")
    x = net.input(3, 6, 5)
    a, b = net.conv(x, 4, out="a"), net.conv(x, 4, out="b", kernel=1)
    y = net.node(op, a, b, out="y")
    if clamp:
        y = net.node(Clamp(-0.25, 0.5), y, out="held")
    return net.done(net.conv(y, 2, out="c"))


def test_no_layer_is_kept_unless_somebody_asks():
    assert not [name for name in ops(program_of(edge_cnn())) if name.startswith("f_")]


def test_the_first_and_the_last_layer_are_kept_and_all_others_are_in_codes():
    program = program_of(edge_cnn(), "conv1.weight", "fc2.weight")
    expected = ["q_reshape", "f_dequantize", "f_conv2d", "f_quantize", "q_max_pool2d", "q_conv2d", "q_max_pool2d"]
    assert ops(program) == [*expected, "q_reshape", "q_linear", "f_dequantize", "f_linear", "f_quantize"]
    assert program.outputs == ("fc2",)


def test_layers_beside_each_other_are_one_island():
    program = program_of(edge_cnn(), "fc?.weight")
    assert ops(program)[-4:] == ["f_dequantize", "f_linear", "f_linear", "f_quantize"]


@pytest.mark.parametrize("keep", [("fc*",), LAYERS])
def test_a_network_is_nearer_to_the_float_one_the_more_layers_are_kept(keep):
    assert error_of(edge_cnn(), *keep) < error_of(edge_cnn())


def test_a_kept_layer_keeps_every_bit_of_weight_and_bias():
    graph = edge_cnn()
    quantized = api.quantize(graph, batches(graph, 2), keep_float=["conv2.weight"])
    for name in ("conv2.weight", "conv2.bias"):
        assert quantized.constants[name].array.tobytes() == graph.constants[name].array.tobytes()
    assert "conv1.weight" not in quantized.constants and "conv1.weight.q" in quantized.constants


def test_weights_on_a_grid_stay_the_floats_that_they_are():
    graph = run_passes(edge_cnn(), [RoundWeights(4)])[0]
    quantized = api.quantize(graph, batches(graph, 2), keep_float=["conv2.weight"])
    kept = quantized.constants["conv2.weight"]
    assert kept.quant is None and (kept.array == graph.constants["conv2.weight"].array).all()


@pytest.mark.parametrize(("op", "name"), [(Add(), "f_add"), (Sub(), "f_add"), (Mul(), "f_mul")])
def test_what_joins_floats_alone_is_computed_in_floats(op, name):
    graph = two_branches(op)
    inside = ops(program_of(graph, "a.weight", "b.weight", "c.weight"))
    assert name in inside and inside.count("f_quantize") == 1 and inside.count("f_dequantize") == 1


def test_what_joins_floats_and_codes_is_computed_in_codes():
    for op in (Sub(), Mul()):
        assert not {"f_add", "f_mul"} & set(ops(program_of(two_branches(op), "b.weight")))


@pytest.mark.parametrize("op", [Add(), Mul()])
def test_an_island_of_everything_rounds_nothing_but_its_ends(op):
    graph = two_branches(op, clamp=True)
    program = program_of(graph, "*")
    (x,) = next(batches(graph, 4, seed=3))
    source, target = (program.types[name].quant for name in (*program.inputs, *program.outputs))
    (want,) = evaluate(graph, dequantize(quantize(x, source.scale, source.zero_point), source.scale, source.zero_point))
    ends = (np.array([0, 255]) - target.zero_point) * float(target.scale)
    (got,) = InterpreterEngine(program).run_reals(x)
    assert np.abs(got - np.clip(want, *ends)).max() <= 0.501 * float(target.scale)


def test_a_float_convolution_adds_codes_in_passing():
    graph = two_branches(Add())
    names = ops(program_of(graph, "b.weight"))  # the later convolution adds
    assert names.count("f_add") == 1 and "q_add" not in names


def test_constant_operands_of_floats_stay_floats():
    net = Network("scaled")
    a = net.linear(net.input(5), 7, out="a")
    y = net.node(Mul(), a, net.constant("by", np.linspace(0.1, 3, 7)), out="y")
    graph = net.done(net.linear(y, 2, out="b"))
    quantized = api.quantize(graph, batches(graph, 2), keep_float=["a.weight", "b.weight"])
    assert quantized.constants["by"].array.dtype == np.float32
    assert ops(api.lower(quantized)) == ["f_dequantize", "f_linear", "f_mul", "f_linear", "f_quantize"]


def test_a_value_that_both_kinds_read_is_handed_over_as_both():
    net = Network("both")
    a = net.linear(net.input(5), 6, out="a")
    graph = net.done(net.linear(a, 3, out="b"), net.linear(a, 3, out="c"))
    program = program_of(graph, "a.weight", "b.weight")
    assert sorted(ops(program)) == sorted(
        ["f_dequantize", "f_linear", "f_linear", "f_quantize", "f_quantize", "q_linear"]
    )
    assert program.outputs == ("b", "c")


def test_sums_that_norms_read_keep_their_16_bits():
    net = Network("norms")
    x = net.linear(net.input(4, 6), 6, out="a")
    y = net.node(Add(), x, net.linear(x, 6, out="b"), out="sum")
    names = (net.constant("gamma", np.ones(6)), net.constant("beta", np.zeros(6)))
    graph = net.done(net.linear(net.node(LayerNorm(1, 1e-5), y, *names, out="n"), 3, out="c"))
    program = program_of(graph, "b.weight")
    (border,) = (node for node in program.nodes if node.op.name == "f_quantize")
    assert program.types[border.output].dtype is DType.S16
    every = program_of(graph, "a.weight", "b.weight")
    assert [program.types[n.output].dtype for n in every.nodes if n.op.name == "f_quantize"] == [DType.S16]


def test_sequences_and_moves_stay_in_floats_between_floats():
    net = Network("line")
    x = net.input(3, 9)
    a = net.node(Conv1d(padding=(1, 1)), x, net.weight("a.weight", 4, 3, 3), out="a")
    moved = net.node(Permute((0, 2, 1)), net.node(Relu(), a, out="r"), out="m")
    graph = net.done(net.linear(moved, 5, out="b"))
    assert "f_transpose" not in ops(program_of(graph, "*")) and ops(program_of(graph, "*")).count("f_quantize") == 1
    assert ops(program_of(graph, "a.weight"))[-2] == "f_quantize"


def test_pools_and_means_between_floats_belong_to_the_island():
    net = Network("pools")
    pooled = net.node(MaxPool2d((2, 2), (2, 2)), net.conv(net.input(2, 8, 8), 6, out="a"), out="pool")
    mean = net.node(Mean((2, 3)), net.conv(pooled, 5, out="b"), out="mean")
    graph = net.done(net.linear(mean, 3, out="c"))
    middle = ["f_conv2d", "f_max_pool2d", "f_conv2d", "f_mean", "f_linear", "f_quantize"]
    assert ops(program_of(graph, "*"))[-6:] == middle
    # codes are compared more cheaply, and a mean of floats leaves less to round
    assert ops(program_of(graph, "a"))[-6:-3] == ["f_conv2d", "f_quantize", "q_max_pool2d"]
    assert ops(program_of(graph, "b"))[-4:] == ["f_conv2d", "f_mean", "f_quantize", "q_linear"]


def test_a_flatten_before_a_kept_layer_moves_nothing():
    names = ops(program_of(edge_cnn(), "fc1.weight"))
    assert "q_transpose" not in names and "f_transpose" not in names


def test_patterns_mean_all_weights_that_they_match():
    graph = edge_cnn()
    ranges = calibrate(graph, batches(graph, 8), "min-max")
    _, (log,) = run_passes(graph, [QuantizeStatic(ranges, ("conv[12].*",))])
    remarks = [remark.text for remark in log.changed if remark.text.startswith("weight")]
    assert remarks[:2] == [f"weight conv{i}.weight in float32: asked for" for i in (1, 2)]
    assert all("bits" in text for text in remarks[2:])


@pytest.mark.parametrize("name", ["conv1", "conv1.weight", "conv1.*", "conv?.weight"])
def test_a_name_means_what_begins_with_it_and_a_dot(name):
    net = Network("folded")
    graph = net.done(net.node(Relu(), net.conv(net.input(1, 4, 4), 2, out="conv1"), out="r"))
    graph.add_constant("conv1.weight.folded", graph.constants.pop("conv1.weight"))
    del graph.types["conv1.weight"]
    (conv, relu) = graph.nodes
    graph.nodes = [replace(conv, inputs=(conv.inputs[0], "conv1.weight.folded", conv.inputs[2])), relu]
    assert kept_layers(graph, [name]) == ("conv1.weight.folded",)


@pytest.mark.parametrize(("name", "hint"), [("conv.weight", "conv1.weight"), ("head*", "its layers: conv1.weight")])
def test_an_unknown_name_is_refused_with_those_near_it(name, hint):
    with pytest.raises(InvalidInput, match="no layer has a weight called") as caught:
        api.quantize(edge_cnn(), (), keep_float=[name])  # before any sample is looked at
    assert hint in caught.value.hint


def test_a_layer_without_a_form_in_float32_is_refused():
    net = Network("up")
    x = net.input(3, 4, 4)
    graph = net.done(net.node(ConvTranspose2d(), x, net.weight("up.weight", 3, 2, 2, 2), out="y"))
    with pytest.raises(UnsupportedOp, match="has no form in float32") as caught:
        api.quantize(graph, (), keep_float=["*"])
    assert "conv1d, conv2d, linear" in caught.value.hint


def test_gains_say_which_layer_costs_most():
    net = Network("loud")
    a = net.linear(net.input(16), 8, out="a")
    graph = net.done(net.linear(a, 4, out="b"))
    weight = graph.constants["a.weight"].array.copy()
    weight[:, 0] = 60  # one large weight a channel, of an input that is 0, leaves few codes to the others
    graph.set_constant("a.weight", Constant(weight))
    (x,) = next(batches(graph, 16))
    x[:, 0] = 0
    (want,) = evaluate(graph, x)
    ranges = calibrate(graph, [x], "min-max")

    def quantized(keep: tuple[str, ...]) -> Graph:
        return run_passes(graph, [QuantizeStatic(ranges, keep)])[0]

    def loss(one: Graph) -> float:
        return float(np.square(InterpreterEngine(api.lower(one)).run_reals(x)[0] - want).mean())

    gains = float_gains(graph, quantized, loss)
    assert list(gains) == ["a.weight", "b.weight"] and gains["a.weight"] > 0.9 * loss(quantized(()))
    with pytest.raises(InvalidInput, match="a loss must be finite"):
        float_gains(graph, quantized, lambda _: float("nan"))


def test_predicted_sizes_count_four_bytes_of_a_kept_weight():
    graph = edge_cnn()
    sizes = [predict(api.quantize(graph, batches(graph, 2), keep_float=keep)) for keep in ((), ("conv2.weight",))]
    weight = graph.constants["conv2.weight"].array.size
    assert sizes[1].weights_bytes - sizes[0].weights_bytes == 3 * weight


def test_streams_of_one_float_layer_after_another_are_refused_where_a_state_would_round():
    def line(*keep: str) -> Graph:
        net = Network("line")
        x = net.input(9, 3)
        first = net.node(Permute((0, 2, 1)), x, out="t")
        a = net.node(Conv1d(padding=(2, 0)), first, net.weight("a.weight", 4, 3, 3), out="a")
        b = net.node(Conv1d(padding=(1, 0)), a, net.weight("b.weight", 2, 4, 2), out="b")
        graph = net.done(net.node(Permute((0, 2, 1)), b, out="y"))
        return api.quantize(graph, batches(graph, 4), keep_float=keep)

    whole = line("b.weight")
    x = next(batches(whole, 1, seed=4))[0]
    (want,) = InterpreterEngine(api.lower(whole)).run_reals(x)
    pieces = api.lower(api.stream(whole, steps=3))
    (codes,) = to_codes(pieces, (x.reshape(3, 3, 3),))
    (got,) = to_reals(pieces, interpret_samples(pieces, codes))
    assert got.reshape(want.shape).tobytes() == want.tobytes()
    with pytest.raises(UnsupportedOp, match="rounded elsewhere"):
        api.stream(line("a.weight", "b.weight"), steps=3)
