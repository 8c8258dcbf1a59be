"""Merged layers are the same function in fewer nodes, up to the rounding of floats, borders included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing.compress.structure.merge_layers import MergeLayers
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ops.add import Add, Sub
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.conv1d import Conv1d
from penjing.ops.conv2d import Conv2d
from penjing.ops.evaluate import evaluate
from penjing.ops.identity import Identity
from penjing.ops.linear import Linear
from penjing.ops.mul import Mul
from penjing.ops.relu import Relu
from penjing.testing.networks import Network, batches


def merge(graph: Graph, **options):
    got, (log,) = run_passes(graph, [MergeLayers(**options)])
    (inputs,) = batches(graph, 3)
    for y, want in zip(evaluate(got, *inputs), evaluate(graph, *inputs), strict=True):
        np.testing.assert_allclose(y, want, rtol=0, atol=1e-5 * max(1, np.abs(want).max()))
    return got, log


def layer(
    net: Network, x: str, op: Conv1d | Conv2d | Linear, out: str, outputs: int, *kernel: int, bias: bool = True
) -> str:
    inputs = net.graph.types[x].bounds[1 if kernel else -1]
    names = [net.weight(f"{out}.weight", outputs, inputs // getattr(op, "groups", 1), *kernel)]
    return net.node(op, x, *names, *([net.weight(f"{out}.bias", outputs)] if bias else []), out=out)


@pytest.mark.parametrize("bias", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("shape", [(6,), (5, 6)])
def test_linear_layers_in_a_row_become_one(shape, bias):
    net = Network()
    value = layer(net, net.input(*shape), Linear(), "a", 9, bias=bias[0])
    graph = net.done(layer(net, value, Linear(), "b", 4, bias=bias[1]))
    got, log = merge(graph)
    assert [node.op.name for node in got.nodes] == ["linear"]
    assert set(got.constants) == ({"b.weight", "b.bias"} if any(bias) else {"b.weight"})
    assert log.changed and not log.declined and got.outputs == ("b",)


@st.composite
def pairs(draw):
    """A KxK and a 1x1 in either order, of any stride, padding, dilation and groups."""
    groups = st.sampled_from([1, 2, 4])
    kernel, stride, dilation = (draw(st.tuples(st.integers(1, k), st.integers(1, k))) for k in (3, 2, 2))
    padding = draw(st.tuples(*[st.integers(0, 2)] * 4))
    wide = Conv2d(stride, padding, dilation, draw(groups))
    point = Conv2d(draw(st.tuples(st.integers(1, 2), st.integers(1, 2))), groups=draw(groups))
    return draw(st.booleans()), kernel, wide, point, draw(st.tuples(st.booleans(), st.booleans()))


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_a_kernel_and_a_1x1_become_one_convolution(pair):
    wide_first, kernel, wide, point, bias = pair
    net = Network()
    x = net.input(4, 11, 12)
    if wide_first:
        value = layer(net, x, wide, "a", 4, *kernel, bias=bias[0])
        value = layer(net, value, point, "b", 8, 1, 1, bias=bias[1])
    else:
        value = layer(net, x, point, "a", 4, 1, 1, bias=bias[0])
        value = layer(net, value, wide, "b", 8, *kernel, bias=bias[1])
    got, log = merge(net.done(value), force=True)
    inexact = not wide_first and kernel != (1, 1) and any(wide.padding) and bias[0]
    if wide_first or not any(wide.padding) or (kernel != (1, 1) and not bias[0]):
        assert len(got.nodes) == 1, log
    if inexact:
        assert len(got.nodes) == 2 and "lack the first one's bias" in log.declined[0].text


def test_a_1x1_behind_a_sequence_is_merged():
    net = Network()
    value = layer(net, net.input(3, 12), Conv1d(2, (1, 2), 2), "a", 6, 3)
    got, _ = merge(net.done(layer(net, value, Conv1d(), "b", 2, 1)))
    assert [node.op for node in got.nodes] == [Conv1d(2, (1, 2), 2)]


def test_a_product_that_costs_more_than_its_parts_is_left_alone_unless_forced():
    net = Network()
    value = layer(net, net.input(20), Linear(), "a", 2)
    graph = net.done(layer(net, value, Linear(), "b", 20))
    got, log = merge(graph)
    assert len(got.nodes) == 2 and not log.changed
    assert "80 -> 400 MACs" in log.declined[0].text
    got, log = merge(graph, force=True)
    assert len(got.nodes) == 1 and not log.declined


def test_what_cannot_be_merged_exactly_says_why():
    def reason(*ops_and_kernels, other_reader: bool = False) -> str:
        net = Network()
        value = net.input(4, 8, 8)
        for i, (op, kernel) in enumerate(ops_and_kernels):
            value = layer(net, value, op, f"c{i}", 4, kernel, kernel)
        got, log = merge(net.done(*([value, "c0"] if other_reader else [value])), force=True)
        assert len(got.nodes) == 2 and not log.changed
        return log.declined[0].text

    same, padded = Conv2d(padding=(1, 1, 1, 1)), Conv2d(padding=(1, 0, 0, 0))
    assert "neither kernel is 1x1" in reason((same, 3), (same, 3))
    assert "lack the first one's bias" in reason((Conv2d(), 1), (same, 3))
    assert "pads what the first made" in reason((same, 3), (padded, 1))
    assert "a 1x1 that pads" in reason((padded, 1), (Conv2d(), 3))
    assert "other places read" in reason((same, 3), (Conv2d(), 1), other_reader=True)


AFFINE = ("mul", "scalar mul", "add", "sub", "sub from", "batch norm")


def affine(net: Network, kind: str, x: str, out: str) -> str:
    channels = net.graph.types[x].bounds[1]
    if kind == "batch norm":
        statistics = (net.constant(f"{out}.{i}", net.rng.uniform(0.5, 2, size=channels)) for i in range(4))
        return net.node(BatchNorm(), x, *statistics, out=out)
    shape = {"scalar mul": (1,), "add": (1, channels, 1, 1)}.get(kind, (channels, 1, 1))
    operands = [x, net.constant(f"{out}.s", net.rng.uniform(0.5, 2, size=shape))]
    op = Mul() if "mul" in kind else Add() if kind == "add" else Sub()
    return net.node(op, *(reversed(operands) if kind in ("sub from", "scalar mul") else operands), out=out)


@pytest.mark.parametrize("kind", AFFINE)
def test_scales_and_shifts_go_into_the_layer_before_and_behind(kind):
    net = Network()
    x = affine(net, kind, net.input(4, 6, 6), "front")
    value = layer(net, x, Conv2d((2, 1), groups=2), "c", 6, 3, 3, bias=False)
    got, log = merge(net.done(affine(net, kind, value, "behind")))
    assert [node.op.name for node in got.nodes] == ["conv2d"] and len(log.changed) == 2
    assert set(got.constants) <= {"c.weight", "c.bias"}


@pytest.mark.parametrize("kind", AFFINE)
def test_a_shift_in_front_of_padding_stays_and_a_scale_does_not(kind):
    net = Network()
    x = affine(net, kind, net.input(4, 6, 6), "front")
    got, log = merge(net.done(net.conv(x, 6, out="c")))
    if "mul" in kind:
        assert len(got.nodes) == 1
    else:
        assert len(got.nodes) == 2 and "not shifted" in log.declined[0].text


def test_a_constant_that_is_no_row_of_channels_stays():
    net = Network()
    value = net.conv(net.input(2, 4, 4), 3, out="c")
    value = net.node(Mul(), value, net.weight("columns", 4), out="m")
    got, log = merge(net.done(net.node(Add(), value, value, out="twice")))
    assert [node.op.name for node in got.nodes] == ["conv2d", "mul", "add"] and not log.changed


def test_identities_and_copies_leave():
    net = Network()
    x = net.input(4, 5, 5)
    net.constant("eye", np.eye(4)[:, :, None, None])
    net.constant("ones", np.ones((4, 1, 1, 1)))
    net.constant("one", np.ones(1))
    value = net.node(Relu(), net.node(Conv2d(), x, "eye", out="i0"), out="r0")
    value = net.node(Relu(), net.node(Conv2d(groups=4), value, "ones", out="i1"), out="r1")
    value = net.node(Identity(), net.node(Mul(), value, "one", out="i2"), out="i3")
    net.weight("w", 3, 4, 3, 3)
    a, b = (net.node(Conv2d(), value, "w", out=out) for out in "ab")
    net.node(Add(), net.node(Relu(), a, out="ra"), net.node(Relu(), b, out="rb"), out="y")
    got, log = merge(net.done("y"))
    assert [node.op.name for node in got.nodes] == ["relu", "relu", "conv2d", "relu", "add"]
    assert got.nodes[-1].inputs[0] == got.nodes[-1].inputs[1]
    assert len(log.changed) == 6 and set(got.constants) == {"w"}


def test_an_identity_between_input_and_output_stays():
    net = Network()
    graph = net.done(net.node(Identity(), net.input(3), out="y"))
    got, log = merge(graph)
    assert len(got.nodes) == 1 and not log.changed


def test_a_weight_that_another_layer_shares_is_left_to_it():
    net = Network()
    x = net.input(5)
    net.weight("w", 5, 5)
    value = net.node(Linear(), net.node(Linear(), x, "w", out="a"), "w", out="b")
    value = net.node(Linear(), net.node(Relu(), value, out="r"), "w", out="c")
    got, log = merge(net.done(value))
    assert [node.op.name for node in got.nodes] == ["linear", "relu", "linear"] and len(log.changed) == 1
    assert "w" in got.constants and len(got.constants) == 2


def test_a_product_beyond_float32_is_left_alone():
    net = Network()
    value = net.node(Linear(), net.input(3), net.constant("a", np.full((3, 3), 1e30)), out="x1")
    graph = net.done(net.node(Linear(), value, net.constant("b", np.full((3, 3), 1e30)), out="x2"))
    _, (log,) = run_passes(graph, [MergeLayers()])
    assert not log.changed and "leaves float32" in log.declined[0].text
