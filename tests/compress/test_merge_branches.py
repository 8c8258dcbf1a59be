"""Branches that are added become one layer of the same function, borders included."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from penjing.compress.structure.fold_batch_norm import FoldBatchNorm
from penjing.compress.structure.merge_branches import MergeBranches
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ops.add import Add, Sub
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.conv1d import Conv1d
from penjing.ops.conv2d import Conv2d
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.mul import Mul
from penjing.ops.relu import Relu
from penjing.testing.networks import Network, batches


def merge(graph: Graph, **options):
    got, (log,) = run_passes(graph, [MergeBranches(**options)])
    assert_same(got, graph)
    return got, log


def assert_same(got: Graph, graph: Graph) -> None:
    (inputs,) = batches(graph, 3)
    for y, want in zip(evaluate(got, *inputs), evaluate(graph, *inputs), strict=True):
        np.testing.assert_allclose(y, want, rtol=0, atol=1e-5 * max(1, np.abs(want).max()))


def norm(net: Network, x: str, out: str) -> str:
    names = [net.constant(f"{out}.{i}", net.rng.uniform(0.5, 2, net.graph.types[x].bounds[1])) for i in range(4)]
    return net.node(BatchNorm(), x, *names, out=out)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_block_of_repvgg_becomes_one_convolution(groups):
    net = Network()
    x = net.input(4, 6, 7)
    for i in range(2):
        wide = norm(net, net.conv(x, 4, out=f"wide{i}", groups=groups, bias=False), f"bn{i}0")
        point = norm(net, net.conv(x, 4, out=f"point{i}", kernel=1, groups=groups, bias=False), f"bn{i}1")
        total = net.node(Add(), net.node(Add(), wide, point, out=f"s{i}"), norm(net, x, f"bn{i}2"), out=f"t{i}")
        x = net.node(Relu(), total, out=f"r{i}")
    graph = net.done(x)
    cleaned, _ = run_passes(graph, [FoldBatchNorm()])
    got, log = merge(cleaned)
    assert_same(got, graph)
    assert [node.op for node in got.nodes] == [Conv2d(padding=(1, 1, 1, 1), groups=groups), Relu()] * 2
    assert len(log.changed) == 4 and not log.declined
    assert len(got.constants) == 4


@st.composite
def twins(draw):
    """Two geometries of convolutions on a 9 x 9 image."""
    pair = st.tuples(st.integers(1, 2), st.integers(1, 2))
    stride, dilation = draw(pair), draw(pair)
    kernels = draw(st.tuples(*[st.tuples(st.integers(1, 4), st.integers(1, 4))] * 2))
    ops = [
        Conv2d(stride, draw(st.tuples(*[st.integers(0, 2)] * 4)), dilation, draw(st.sampled_from([1, 2, 4])))
        for _ in range(2)
    ]
    return list(zip(ops, kernels, strict=True)), draw(st.booleans())


@settings(max_examples=80, deadline=None)
@given(twins())
def test_two_convolutions_are_added_wherever_their_taps_lie(drawn):
    layers, subtract = drawn
    net = Network()
    x, outs = net.input(4, 9, 9), []
    for i, (op, kernel) in enumerate(layers):
        names = net.weight(f"w{i}", 4, 4 // op.groups, *kernel), net.weight(f"b{i}", 4)
        outs.append(net.node(op, x, *names, out=f"c{i}"))
    assume(net.graph.types["c0"] == net.graph.types["c1"])
    got, log = merge(net.done(net.node((Sub if subtract else Add)(), *outs, out="y")), force=True)
    offsets = [tuple(a - b for a, b in zip(*(op.padding[:2] for op, _ in layers), strict=True))][0]
    if all(d % layers[0][0].dilation[axis] == 0 for axis, d in enumerate(offsets)):
        assert [node.op.name for node in got.nodes] == ["conv2d"], log


def test_features_and_sequences_merge_too():
    net = Network()
    x = net.input(6)
    total = net.node(Add(), x, net.node(Sub(), net.linear(x, 6, out="a"), net.linear(x, 6, out="b"), out="d"), out="s")
    got, _ = merge(net.done(total))
    assert [node.op for node in got.nodes] == [Linear()]

    net = Network()
    x = net.input(3, 10)
    wide = net.node(Conv1d(padding=(2, 2)), x, net.weight("w", 3, 3, 5), out="wide")
    scaled = net.node(Mul(), x, net.constant("half", np.full(1, 0.5)), out="scaled")
    got, _ = merge(net.done(net.node(Add(), scaled, wide, out="y")))
    assert [node.op for node in got.nodes] == [Conv1d(padding=(2, 2))]


def test_what_is_no_sum_of_branches_says_why():
    def reason(build) -> str:
        net = Network()
        x = net.input(4, 6, 6)
        outputs = build(net, x)
        graph = net.done(*(outputs if isinstance(outputs, tuple) else (outputs,)))
        got, log = merge(graph)
        assert len(got.nodes) == len(graph.nodes) and not log.changed
        return log.declined[0].text

    def residual(net, x):
        y = net.node(Relu(), net.conv(x, 4, out="a"), out="r")
        return net.node(Add(), net.conv(y, 4, out="b"), x, out="y")

    def rectified(net, x):
        return net.node(Add(), net.conv(x, 4, out="a"), net.node(Relu(), x, out="r"), out="y")

    def read_elsewhere(net, x):
        return net.node(Add(), net.conv(x, 4, out="a"), x, out="y"), "a"

    def strides(net, x):
        a = net.node(Conv2d((2, 2)), x, net.weight("a.w", 4, 4, 2, 2), out="a")
        b = net.node(Conv2d((1, 1), dilation=(3, 3)), x, net.weight("b.w", 4, 4, 2, 2), out="b")
        return net.node(Add(), a, b, out="y")

    def taps(net, x):
        a = net.node(Conv2d(padding=(1, 1, 1, 1)), x, net.weight("a.w", 4, 4, 3, 3), out="a")
        b = net.node(Conv2d(padding=(2, 2, 2, 2), dilation=(2, 2)), x, net.weight("b.w", 4, 4, 3, 3), out="b")
        return net.node(Add(), a, b, out="y")

    def dearer(net, x):
        a = net.node(Conv2d(padding=(1, 0, 1, 0)), x, net.weight("a.w", 4, 4, 3, 1), out="a")
        b = net.node(Conv2d(padding=(0, 1, 0, 1)), x, net.weight("b.w", 4, 4, 1, 3), out="b")
        return net.node(Add(), a, b, out="y")

    assert "different values, r and x" in reason(residual)
    assert "different values" in reason(rectified)
    assert "neither operand" in reason(lambda net, x: net.node(Add(), x, x, out="y"))
    assert "other readers" in reason(read_elsewhere)
    assert "strides differ" in reason(strides)
    assert "do not fall on one another" in reason(taps)
    assert "together they need more" in reason(dearer)


def test_a_sum_that_broadcasts_is_left_alone():
    net = Network()
    x = net.input(4, 6, 6)
    a = net.conv(x, 4, out="a")
    b = net.node(Conv2d(), x, net.weight("b.w", 4, 4, 6, 6), out="b")
    got, log = merge(net.done(net.node(Add(), a, b, out="y")), force=True)
    assert len(got.nodes) == 3 and "shapes differ" in log.declined[0].text
