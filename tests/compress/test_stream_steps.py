"""Sequences in pieces: every byte is that of the whole sequence, and what needs the future is refused."""

from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing import api
from penjing.core.errors import InvalidGraph, InvalidInput, UnsupportedOp
from penjing.ir.parse import parse_graph
from penjing.ir.text import print_graph
from penjing.ir.types import Constant
from penjing.ir.verify import verify
from penjing.ops import operators, registry
from penjing.ops.add import Add
from penjing.ops.concat import Concat
from penjing.ops.conv1d import Conv1d
from penjing.ops.conv2d import Conv2d
from penjing.ops.embedding import id_rows
from penjing.ops.gru import Gru
from penjing.ops.lstm import Lstm
from penjing.ops.mean import Mean
from penjing.ops.mul import Mul
from penjing.ops.operator import Operator, Sample
from penjing.ops.pad import Pad, PadValue
from penjing.ops.permute import Permute
from penjing.ops.pool1d import AvgPool1d
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu
from penjing.ops.reshape import Reshape
from penjing.ops.rnn import Rnn
from penjing.ops.sigmoid import Sigmoid
from penjing.ops.slice import Select, Slice
from penjing.ops.softmax import Softmax
from penjing.ops.tanh import Tanh
from penjing.program.interpret import interpret, interpret_samples, interpret_step
from penjing.program.plan import plan
from penjing.program.states import initial_states
from penjing.testing.networks import BATCH, Network, batches
from penjing.testing.sequences import LAYERS, Layer, causal_network, joined_steps, recurrent_layer

STEPS = 6


def quantized(graph):
    return api.quantize(graph, list(batches(graph, 16)), observer="min-max")


def codes(program, seed=0):
    rng, rows = np.random.default_rng(seed), id_rows(program)
    kinds = {name: (rows[name], np.int32) if name in rows else (256, np.uint8) for name in program.inputs}
    return tuple(rng.integers(0, n, (1, *program.types[x].bounds[1:]), kind) for x, (n, kind) in kinds.items())


def pieces(x, axis, steps):
    """(calls, ...) of a sequence (1, ...)."""
    return np.concatenate(np.split(x, x.shape[axis] // steps, axis=axis))


layer = st.builds(
    Layer, st.sampled_from(sorted(LAYERS)), kernel=st.integers(1, 4), dilation=st.integers(1, 3), start=st.booleans()
)


@settings(max_examples=60)
@given(layers=st.lists(layer, min_size=1, max_size=4), steps=st.integers(1, 5), calls=st.integers(1, 4))
def test_pieces_joined_are_the_whole_byte_for_byte(layers, steps, calls):
    graph = quantized(causal_network(layers, steps * calls))
    offline, program = api.lower(graph), api.lower(api.stream(graph, steps=steps))
    x = codes(offline, seed=steps)[0]
    (want,), (got,) = interpret(offline, x), interpret_samples(program, pieces(x, 1, steps))
    assert (joined_steps(got) != want).sum() == 0


def test_any_length_of_pieces_gives_the_same_and_may_change_in_mid_stream():
    graph = quantized(causal_network([Layer("lstm"), Layer("padded", 3, 2), Layer("gru", start=True)], 12))
    (x,) = codes(api.lower(graph))
    (want,) = interpret(api.lower(graph), x)
    programs = {n: api.lower(api.stream(graph, steps=n)) for n in (1, 2, 4, 5)}
    assert {tuple(p.states) for p in programs.values()} == {tuple(programs[1].states)}
    states, at, got = initial_states(programs[1]), 0, []
    for n in (5, 1, 4, 2):
        (y,), states = interpret_step(programs[n], states, x[:, at : at + n])
        got, at = [*got, y], at + n
    np.testing.assert_array_equal(np.concatenate(got, axis=1), want)


def test_what_is_left_at_the_end_is_that_of_the_last_piece():
    net = Network("ends")
    value = recurrent_layer(net, net.input(STEPS, 3), Gru(), "gru")
    value = recurrent_layer(net, value, Lstm(), "lstm")
    ends = [net.node(Select(1, STEPS - 1), value, out="select"), "gru.last", "lstm.last"]
    ends.append(net.node(Tanh(), net.linear(net.node(Concat(1), *ends, out="all"), 4, out="head"), out="y"))
    ends.append(net.node(Slice(1, STEPS - 1, STEPS), value, out="slice"))
    graph = quantized(net.done(*ends))
    (x,) = codes(api.lower(graph))
    for steps in (1, 2, 3):
        got = interpret_samples(api.lower(api.stream(graph, steps=steps)), pieces(x, 1, steps))
        for name, y, want in zip(graph.outputs, got, interpret(api.lower(graph), x), strict=True):
            np.testing.assert_array_equal(y[-1:], want, err_msg=name)


def test_an_input_without_time_comes_with_every_piece():
    net = Network("given")
    x, voice = net.input(STEPS, 3), net.input(1, 5, name="voice")
    y = net.node(Add(), recurrent_layer(net, x, Gru(), "gru"), voice, out="y")
    graph = quantized(net.done(y))
    x, voice = codes(api.lower(graph))
    program = api.lower(api.stream(graph, steps=2, axis={"x": 1}))
    (got,) = interpret_samples(program, pieces(x, 1, 2), np.repeat(voice, 3, axis=0))
    np.testing.assert_array_equal(joined_steps(got), interpret(api.lower(graph), x, voice)[0])


def test_images_along_time_stream_too():
    """Rows of an image are steps: a causal 2-D convolution, frequencies pooled and averaged."""
    net = Network("spectrum")
    x = net.node(Reshape((BATCH, 1, STEPS, 8)), net.input(STEPS, 8), out="image")
    weights = net.weight("w", 4, 1, 3, 3), net.weight("b", 4)
    x = net.node(Conv2d((1, 2), (4, 1, 0, 1), (2, 1)), x, *weights, out="conv")
    x = net.node(MaxPool2d((1, 2), (1, 2)), net.node(Relu(), x, out="relu"), out="pool")
    x = net.node(Permute((0, 2, 1)), net.node(Mean((3,)), x, out="mean"), out="steps")
    graph = quantized(net.done(recurrent_layer(net, x, Rnn(), "rnn")))
    (x,) = codes(api.lower(graph))
    for steps in (1, 3):
        (got,) = interpret_samples(api.lower(api.stream(graph, steps=steps)), pieces(x, 1, steps))
        np.testing.assert_array_equal(joined_steps(got), interpret(api.lower(graph), x)[0])


def test_convolutions_that_read_the_same_steps_share_a_state():
    """tanh(a) * sigmoid(b), as in WaveNet."""
    net = Network("gated")
    line = net.node(Pad((0, 0, 0, 0, 2, 0)), net.input(4, STEPS), out="line")
    gates = [net.node(Conv1d(), line, net.weight(k, 5, 4, 3), out=f"{k}.conv") for k in "ab"]
    gates = [net.node(op(), gate, out=f"{op.name}.y") for op, gate in zip((Tanh, Sigmoid), gates, strict=True)]
    graph = quantized(net.done(net.node(Mul(), *gates, out="y")))
    program = api.lower(api.stream(graph, steps=2, axis=2))
    assert [state.type.bounds for state in program.states.values()] == [(1, 2, 4)]
    (x,) = codes(api.lower(graph))
    (got,) = interpret_samples(program, pieces(x, 2, 2))
    np.testing.assert_array_equal(np.concatenate(np.split(got, 3), axis=2), interpret(api.lower(graph), x)[0])


def network_of(sample: Sample):
    """The sample's operator alone; activations are inputs."""
    net, names = Network("op"), []
    first = next(x.shape[0] for i, x in enumerate(sample.inputs) if x is not None and i not in sample.constant)
    for i, array in enumerate(sample.inputs):
        if array is None:
            names.append("")
        elif i in sample.constant or array.shape[0] != first:
            names.append(net.graph.add_constant(f"c{i}", Constant(array)))
        elif array.dtype == np.int32:
            names.append(net.ids(*array.shape[1:], name=f"x{i}"))
        else:
            names.append(net.input(*array.shape[1:], name=f"x{i}"))
    op = Reshape((BATCH, *sample.op.shape[1:])) if isinstance(sample.op, Reshape) else sample.op
    outputs = tuple(f"y{i}" for i in range(len(op.infer(*(net.graph.types[name] for name in names if name)))))
    net.graph.add_node(op, tuple(names), outputs)
    return net.done(*outputs)


SAMPLES = [
    pytest.param(sample, id=f"{name}-{i}")
    for name, op in sorted(operators().items())
    for i, sample in enumerate(islice(op.samples(), 12))
    if sample.inputs[0].ndim > 1 and sample.inputs[0].size < 2000 and not op.of_streams
]


def streams(sample):
    """(axis, the network, the one that takes a step at a time) for all axes along which a sample's operator streams."""
    graph = network_of(sample)
    whole = quantized(graph)
    for axis in range(1, max(graph.types[name].rank for name in graph.inputs)):
        try:
            yield axis, whole, api.stream(whole, axis=dict.fromkeys(timed(graph, axis), axis))
        except (UnsupportedOp, InvalidInput):
            continue


def timed(graph, axis):
    return [name for name in graph.inputs if graph.types[name].rank > axis and graph.types[name].bounds[axis] > 1]


@pytest.mark.parametrize("sample", SAMPLES)
def test_an_operator_along_time_is_exact_or_refused(sample):
    for axis, whole, part in streams(sample):
        offline, program, names = api.lower(whole), api.lower(part), timed(whole, axis)
        inputs = dict(zip(whole.inputs, codes(offline), strict=True))
        calls = inputs[names[0]].shape[axis]
        given = [pieces(x, axis, 1) if name in names else np.repeat(x, calls, axis=0) for name, x in inputs.items()]
        results = zip(interpret_samples(program, *given), interpret(offline, *inputs.values()), strict=True)
        for got, want in results:
            joined = [np.concatenate(np.split(got, calls), axis=k) for k in range(1, want.ndim)]
            assert any(np.array_equal(y, want) for y in (*joined, got[-1:])), f"axis {axis}"


def sequence(*shape, name="x"):
    net = Network("refused")
    return net, net.input(*(shape or (STEPS, 4)), name=name)


def backwards(net, x):
    return recurrent_layer(net, x, Gru(True), "gru")


def both_ways(net, x):
    there, back = (recurrent_layer(net, x, Lstm(way), f"way{way}") for way in (False, True))
    return net.node(Concat(2), there, back, out="both")


def same_padding(net, x):
    line = net.node(Permute((0, 2, 1)), x, out="line")
    return net.node(Conv1d(padding=(1, 1)), line, net.weight("w", 4, 4, 3), out="conv")


def behind_chomp(net, x):
    line = net.node(Permute((0, 2, 1)), x, out="line")
    y = net.node(Conv1d(padding=(2, 2)), line, net.weight("w", 4, 4, 3), out="conv")
    return recurrent_layer(net, net.node(Permute((0, 2, 1)), y, out="steps"), Gru(), "gru")


def longer_output(net, x):
    line = net.node(Permute((0, 2, 1)), x, out="line")
    return net.node(Conv1d(padding=(2, 2)), line, net.weight("w", 4, 4, 3), out="conv")


def strided(net, x):
    line = net.node(Permute((0, 2, 1)), x, out="line")
    return net.node(Conv1d(2, (2, 0)), line, net.weight("w", 4, 4, 3), out="conv")


def too_many_zeros(net, x):
    line = net.node(Permute((0, 2, 1)), x, out="line")
    return net.node(Conv1d(padding=(3, 0)), line, net.weight("w", 4, 4, 3), out="conv")


def padded_by_copies(net, x):
    line = net.node(Pad((0, 0, 2, 0, 0, 0), "replicate"), x, out="pad")
    return net.node(Relu(), line, out="relu")


def padded_by_one(net, x):
    return net.node(PadValue((0, 0, 2, 0, 0, 0), 1.0), x, out="pad")


def padded_for_nothing(net, x):
    return net.node(Relu(), net.node(Pad((0, 0, 2, 0, 0, 0)), x, out="pad"), out="relu")


def attention(net, x):
    last = net.node(Slice(1, STEPS - 1, STEPS), x, out="last")
    return net.node(Mul(), x, last, out="y")


def joined_in_time(net, x):
    return net.node(Concat(1), x, net.node(Relu(), x, out="relu"), out="y")


def joined_with_what_is_known(net, x):
    return net.node(Concat(2), x, net.input(STEPS, 2, name="z"), out="y")


def given_positions(net, x):
    return net.node(Add(), x, net.input(STEPS, 4, name="z"), out="y")


def crossed(net, x):
    line = net.node(Permute((0, 2, 1)), net.linear(x, STEPS, out="square"), out="line")
    return net.node(Add(), net.linear(x, STEPS, out="fc"), line, out="y")


def state_from_input(net, x):
    h = net.input(3, name="z")
    return net.graph.add_node(
        Gru(), (x, net.weight("i", 9, 4), net.weight("h", 9, 3), "", "", h), ("y", "last")
    ).outputs[0]  # fmt: skip


def pooled(net, x):
    return net.node(AvgPool1d(2, 2), net.node(Permute((0, 2, 1)), x, out="line"), out="y")


REFUSED = {
    backwards: ("begins with the last step", "gru.y"),
    both_ways: ("begins with the last step", "wayTrue.y"),
    same_padding: ("reads 1 steps that come later", "conv"),
    behind_chomp: ("depend on the end", "gru.y"),
    longer_output: ("output conv has 2 steps more", "graph refused"),
    strided: ("a stride of 2", "conv"),
    too_many_zeros: ("3 zeros before", "conv"),
    padded_by_copies: ("replicate padding", "pad"),
    padded_by_one: ("pads axis 1", "pad"),
    padded_for_nothing: ("zeros before the first step that no convolution takes", "relu"),
    attention: ("every step would read the last one", "y"),
    joined_in_time: ("joins along axis 1", "y"),
    joined_with_what_is_known: ("others that have none", "y"),
    given_positions: ("another value for each step", "y"),
    crossed: ("do not stand side by side", "y"),
    state_from_input: ("no constant of one row", "y"),
    pooled: ("avg_pool1d over axis 2", "y"),
    **{
        (lambda net, x, op=op: net.node(op, x, out="y")): (said, "y")
        for op, said in (
            (Mean((1,)), "sums over axis 1"),
            (Softmax(1), "sums over axis 1"),
            (Select(1, 0), "takes step 0"),
            (Slice(1, 1, STEPS), "cuts axis 1"),
            (Reshape((BATCH, STEPS * 4)), "mixes axis 1"),
        )
    },
}


@pytest.mark.parametrize("build", REFUSED, ids=lambda build: build.__name__)
def test_what_needs_the_future_is_refused_by_name(build):
    said, node = REFUSED[build]
    net, x = sequence()
    graph = quantized(net.done(build(net, x)))
    with pytest.raises(UnsupportedOp, match=said) as caught:
        api.stream(graph, axis={"x": 1})
    assert caught.value.where.startswith(node if node.startswith("graph") else f"node {node} ")


def test_an_operator_without_a_rule_is_refused():
    @dataclass(frozen=True)
    class Cumulated(Operator):
        name = "cumulated"

        def infer(self, *inputs):
            return (inputs[0].with_quant(None),)

    net, x = sequence()
    graph = quantized(net.done(net.node(Relu(), x, out="y")))
    graph.nodes = [replace(node, op=Cumulated()) for node in graph.nodes]
    with pytest.raises(UnsupportedOp, match="cannot be streamed: cumulated"):
        api.stream(graph)


def test_a_layer_over_another_axis_is_refused():
    net, x = sequence()
    graph = quantized(net.done(recurrent_layer(net, x, Rnn(), "rnn")))
    with pytest.raises(UnsupportedOp, match="steps are along axis 1, time is axis 2"):
        api.stream(graph, axis=2)


def test_a_sum_that_would_be_rounded_elsewhere_is_refused():
    """One row added to all rows of an image is added after rounding; to an image of one row, before."""
    net = Network("sum")
    x, voice = net.input(1, STEPS, 4), net.input(3, 1, 4, name="voice")
    y = net.node(Conv2d(), x, net.weight("w", 3, 1, 1, 1), out="conv")
    graph = quantized(net.done(net.node(Add(), y, voice, out="y")))
    with pytest.raises(UnsupportedOp, match="rounded elsewhere"):
        api.stream(graph, axis={"x": 2})
    x, voice = codes(api.lower(graph))
    program = api.lower(api.stream(graph, steps=2, axis={"x": 2}))
    (got,) = interpret_samples(program, pieces(x, 2, 2), np.repeat(voice, 3, axis=0))
    np.testing.assert_array_equal(np.concatenate(np.split(got, 3), axis=2), interpret(api.lower(graph), x, voice)[0])


@pytest.mark.parametrize(
    ("options", "said"),
    (
        ({"steps": 0}, "piece of 0 steps"),
        ({"axis": 0}, "axis 0 of input x"),
        ({"axis": 3}, "axis 3 of input x"),
        ({"axis": {"y": 1}}, "no input y"),
        ({"axis": {}}, "sequences of no steps"),
    ),
)
def test_pieces_that_make_no_sense_are_refused(options, said):
    graph = quantized(causal_network([], STEPS))
    with pytest.raises(InvalidInput, match=said):
        api.stream(graph, **options)


def test_sequences_of_two_lengths_are_refused():
    net, x = sequence()
    graph = quantized(net.done(net.node(Relu(), x, out="y"), net.node(Relu(), net.input(3, 4, name="z"), out="w")))
    with pytest.raises(InvalidInput, match="steps"):
        api.stream(graph)


def test_floats_and_streams_are_not_streamed():
    graph = causal_network([Layer("gru")], STEPS)
    with pytest.raises(InvalidGraph, match="imported"):
        api.stream(graph)
    with pytest.raises(InvalidGraph, match="streams already"):
        api.stream(api.stream(quantized(graph)))


def test_states_are_in_the_bits_that_layers_carry():
    layers = [Layer("gru", start=True), Layer("lstm", start=True), Layer("padded", 3, 2), Layer("rnn")]
    graph = api.stream(quantized(causal_network(layers, STEPS)))
    program = api.lower(graph)
    kinds = {name: (str(t.dtype), t.bounds) for name, t in ((n, s.type) for n, s in program.states.items())}
    assert list(kinds.values()) == [
        ("s16", (1, 5)), ("u8", (1, 5)), ("s16", (1, 5)), ("u8", (1, 4, 5)), ("u8", (1, 5))
    ]  # fmt: skip
    assert plan(program).session_bytes == 2 * 5 * 64
    for one in (graph, program):
        verify(one)
        text = print_graph(one)
        arrays = {name: constant.array for name, constant in one.constants.items()}
        assert print_graph(parse_graph(text, arrays, registry())) == text


def test_a_state_that_begins_with_too_few_numbers_is_refused():
    graph = api.stream(quantized(causal_network([Layer("gru", start=True)], STEPS)))
    name, state = next(iter(graph.states.items()))
    for wrong in (state.initial[:-1], (*state.initial[:-1], float("nan"))):
        graph.states[name] = replace(state, initial=wrong)
        with pytest.raises(InvalidGraph, match="starts at"):
            verify(graph)
