"""Rewrites of programs change no output byte, and where one is not made the reason is given."""

import numpy as np
import pytest

from penjing.ir.graph import Graph
from penjing.ir.passes import PassResult
from penjing.ir.text import print_graph
from penjing.ir.types import Type
from penjing.ir.verify import verify
from penjing.ops.add import Add
from penjing.ops.linear import Linear
from penjing.ops.operator import IntegerOperator
from penjing.ops.permute import Permute
from penjing.ops.reshape import Reshape
from penjing.ops.softmax import Softmax
from penjing.program import lower as lowering
from penjing.program.interpret import interpret
from penjing.program.simplify import FoldTransposeIntoLinear
from penjing.testing.networks import BATCH, Network


@pytest.fixture
def unfolded(quantized, monkeypatch):
    """`unfolded(graph)`: the program as operators emit it, before any rewrite."""

    def make(graph: Graph) -> Graph:
        with monkeypatch.context() as patched:
            patched.setattr(lowering, "FoldTransposeIntoLinear", Skipped)
            return lowering.lower(quantized(graph))

    return make


class Skipped:
    """A pass that does nothing."""

    def run(self, graph: Graph) -> PassResult:
        return PassResult(graph)


def kinds(program: Graph) -> list[str]:
    return [node.op.name for node in program.nodes]


def fold(program: Graph):
    before = print_graph(program)
    result = FoldTransposeIntoLinear().run(program)
    assert print_graph(program) == before
    verify(result.graph)
    return result


def assert_same_bytes(got: Graph, want: Graph) -> None:
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 256, size=(7, *want.types[n].bounds[1:]), dtype=np.uint8) for n in want.inputs]
    for y, expected in zip(interpret(got, *codes), interpret(want, *codes), strict=True):
        np.testing.assert_array_equal(y, expected)


def flattened(channels: int = 3, height: int = 2, width: int = 5) -> Graph:
    net = Network()
    value = net.conv(net.input(2, height, width), channels, out="conv")
    return net.done(net.linear(net.flatten(value, out="flat"), 4, out="y"))


@pytest.mark.parametrize("shape", [(3, 2, 5), (1, 4, 4), (4, 1, 1), (2, 1, 6), (16, 3, 3)])
def test_a_flatten_between_convolution_and_linear_layer_costs_nothing(unfolded, quantized, shape):
    graph = flattened(*shape)
    plain = unfolded(graph)
    result = fold(plain)
    expected = 0 if 1 in (shape[0], shape[1] * shape[2]) else 1  # with one channel or one pixel nothing has to move
    assert len(result.changed) == expected
    assert kinds(plain).count("q_transpose") - kinds(result.graph).count("q_transpose") == expected
    assert_same_bytes(result.graph, plain)
    assert print_graph(lowering.lower(quantized(graph))) == print_graph(result.graph)


def test_the_columns_of_the_weight_move_and_its_old_form_goes(unfolded):
    result = fold(unfolded(flattened()))
    (linear,) = [node for node in result.graph.nodes if node.op.name == "q_linear"]
    assert linear.inputs[1] == "y.weight.q.permuted"
    assert "y.weight.q" not in result.graph.constants
    assert result.changed[0].text == "its weight's features are permuted, the transpose is gone"
    assert "node y (q_linear)" in result.changed[0].where


def test_sequences_are_flattened_for_nothing_too(unfolded):
    net = Network()
    x = net.input(3, 6)
    doubled = net.node(Softmax(1), x, out="p")  # along the channels: stands channels-last
    graph = net.done(net.linear(net.flatten(doubled, out="flat"), 4, out="y"))
    plain = unfolded(graph)
    result = fold(plain)
    assert len(result.changed) == 1
    assert_same_bytes(result.graph, plain)


def test_two_linear_layers_of_their_own_are_both_rewritten(unfolded):
    net = Network()
    x = net.input(2, 3, 4)
    parts = [net.linear(net.flatten(net.conv(x, 3, out=f"c{i}"), out=f"f{i}"), 4, out=f"y{i}") for i in range(2)]
    plain = unfolded(net.done(*parts))
    result = fold(plain)
    assert len(result.changed) == 2
    assert_same_bytes(result.graph, plain)


def two_readers(net: Network, value: str) -> tuple[str, ...]:
    flat = net.flatten(value, out="flat")
    return (net.linear(flat, 4, out="y"), net.linear(flat, 3, out="z"))


def transposed_read_elsewhere(net: Network, value: str) -> tuple[str, ...]:
    flat = net.linear(net.flatten(value, out="flat"), 4, out="y")
    return (flat, net.node(Softmax(3), value, out="z"), net.node(Reshape((BATCH, 3, 8)), value, out="r"))


def flat_returned(net: Network, value: str) -> tuple[str, ...]:
    flat = net.flatten(value, out="flat")
    return (net.linear(flat, 4, out="y"), flat)


def transposed_returned(net: Network, value: str) -> tuple[str, ...]:
    return (net.linear(net.flatten(value, out="flat"), 4, out="y"), value)


def shared_weight(net: Network, value: str) -> tuple[str, ...]:
    """Lowering gives each layer a copy of its weight, so this one is rewritten."""
    w = net.weight("w", 4, 24)
    y = net.node(Linear(), net.flatten(value, out="flat"), w, out="y")
    z = net.node(Linear(), net.input(24, name="x2"), w, out="z")
    return (net.node(Add(), y, z, out="sum"),)


def not_whole_samples(net: Network, value: str) -> tuple[str, ...]:
    rows = net.node(Reshape((BATCH, 3, 8)), value, out="rows")
    return (net.linear(rows, 4, out="y"),)


def permuted_on_purpose(net: Network, value: str) -> tuple[str, ...]:
    """A permute behind the convolution: the flatten sees other logical axes."""
    turned = net.node(Permute((0, 3, 1, 2)), value, out="turned")
    return (net.linear(net.flatten(turned, out="flat"), 4, out="y"),)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (two_readers, "the transposed value has other users"),
        (transposed_read_elsewhere, "the transposed value has other users"),
        (flat_returned, "the transposed value leaves the program"),
        (transposed_returned, "the transposed value leaves the program"),
        (shared_weight, None),
        (not_whole_samples, "the reshape does not flatten whole samples"),
        (permuted_on_purpose, None),
    ],
)
def test_no_rewrite_changes_what_any_reader_sees(unfolded, quantized, tail, reason):
    net = Network()
    graph = net.done(*tail(net, net.conv(net.input(2, 4, 2), 3, out="conv")))
    plain = unfolded(graph)
    result = fold(plain)
    assert {remark.text for remark in result.declined} == ({reason} if reason else set())
    assert all(remark.where.startswith("node ") for remark in result.declined)
    assert bool(result.changed) == (reason is None)
    assert_same_bytes(result.graph, plain)
    assert_same_bytes(lowering.lower(quantized(graph)), plain)


def test_a_transpose_that_moves_the_batch_axis_stays(quantized):
    net = Network("turned")
    net.graph.add_input("x", Type((3, 3)))
    turned = net.node(Permute((1, 0)), "x", out="turned")
    graph = net.done(net.linear(net.node(Reshape((3, 3)), turned, out="flat"), 2, out="y"))
    program = lowering.lower(quantized(graph, np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)))
    assert "q_transpose" in kinds(program)
    codes = np.arange(9, dtype=np.uint8).reshape(3, 3)
    want = codes
    for node in program.nodes:
        assert isinstance(node.op, IntegerOperator)
        (want,) = node.op.integer_reference(want, *(program.constants[n].array for n in node.inputs[1:]))
    np.testing.assert_array_equal(interpret(program, codes)[0], want)


def test_a_program_without_such_a_place_is_left_as_it_is(unfolded):
    net = Network()
    plain = unfolded(net.done(net.linear(net.input(6), 3, out="y")))
    result = fold(plain)
    assert (result.changed, result.declined) == ((), ())
    assert print_graph(result.graph) == print_graph(plain)
