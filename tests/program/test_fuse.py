"""Fusion: what a convolution does in passing, which convolution does it, and when nothing may be fused."""

import numpy as np
import pytest

from penjing.core.arithmetic import dequantize, quantize
from penjing.ir.graph import Graph, Node
from penjing.ops.add import Add, Sub
from penjing.ops.conv2d import Conv2d, QConv2d
from penjing.ops.evaluate import evaluate
from penjing.ops.fusion import fuse
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu, Relu6
from penjing.program.interpret import interpret
from penjing.program.lower import lower
from penjing.testing.networks import Network, batches


def grouped(graph: Graph) -> dict[str, tuple[str, str | None, float, float]]:
    """Output of each group -> (its anchor's output, residual, low, high)."""
    return {
        group.epilogue.output: (group.anchor.output, group.epilogue.residual, group.epilogue.low, group.epilogue.high)
        for group in fuse(graph).values()
    }


def residuals(program: Graph) -> list[Node]:
    return [node for node in program.nodes if isinstance(node.op, QConv2d) and len(node.inputs) == 5]


def assert_close(program: Graph, graph: Graph) -> None:
    (inputs,) = batches(graph, 16)  # those of the calibration: others may saturate
    quants = [program.types[name].quant for name in (*program.inputs, *program.outputs)]
    n = len(program.inputs)
    codes = [quantize(x, q.scale, q.zero_point) for x, q in zip(inputs, quants[:n], strict=True)]
    for y, q, want in zip(interpret(program, *codes), quants[n:], evaluate(graph, *inputs), strict=True):
        np.testing.assert_allclose(dequantize(y, q.scale, q.zero_point), want, atol=0.06 * np.abs(want).max())


def block(*, reverse: bool = False, order: str = "short cut first", relu: bool = True) -> Graph:
    """A residual block whose short cut is a convolution too."""
    net = Network()
    x = net.input(3, 5, 5)
    if order == "short cut first":
        short = net.conv(x, 4, out="short", kernel=1)
        main = net.conv(net.node(Relu(), net.conv(x, 4, out="first"), out="relu1"), 4, out="main")
    else:
        main = net.conv(net.node(Relu(), net.conv(x, 4, out="first"), out="relu1"), 4, out="main")
        short = net.conv(x, 4, out="short", kernel=1)
    y = net.node(Add(), *((short, main) if reverse else (main, short)), out="sum")
    return net.done(net.node(Relu(), y, out="y") if relu else y)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("order", "later"), [("short cut first", "main"), ("short cut last", "short")])
def test_of_two_convolutions_the_later_one_adds(quantized, order, later, reverse):
    graph = block(order=order, reverse=reverse)
    other = {"main": "short", "short": "main"}[later]
    assert grouped(graph)["y"] == (later, other, 0.0, np.inf)
    program = lower(quantized(graph))
    (node,) = residuals(program)
    assert node.outputs == ("y",)
    assert node.inputs[4] == other
    assert "q_add" not in [node.op.name for node in program.nodes]
    assert_close(program, graph)


def test_a_residual_is_added_without_a_rectifier_too(quantized):
    graph = block(relu=False)
    assert grouped(graph)["sum"] == ("main", "short", -np.inf, np.inf)
    assert_close(lower(quantized(graph)), graph)


@pytest.mark.parametrize("which", ["input", "relu", "pool", "constant"])
def test_any_activation_of_the_same_shape_may_be_the_residual(quantized, which):
    net = Network()
    x = net.input(3, 5, 5)
    other = {
        "input": lambda: x,
        "relu": lambda: net.node(Relu(), x, out="other"),
        "pool": lambda: net.node(MaxPool2d((3, 3), (1, 1), (1, 1, 1, 1)), x, out="other"),
        "constant": lambda: net.constant("other", net.rng.normal(size=(1, 3, 5, 5))),
    }[which]()
    graph = net.done(net.node(Add(), other, net.conv(x, 3, out="conv"), out="sum"))
    program = lower(quantized(graph))
    assert len(residuals(program)) == (which != "constant")
    assert_close(program, graph)


def test_the_residual_may_be_the_input_of_the_convolution_itself(quantized):
    net = Network()
    x = net.node(Relu(), net.conv(net.input(3, 5, 5), 3, out="stem"), out="x0")
    for i in range(3):
        x = net.node(Relu(), net.node(Add(), net.conv(x, 3, out=f"conv{i}"), x, out=f"sum{i}"), out=f"y{i}")
    graph = net.done(x)
    program = lower(quantized(graph))
    read = [(node.inputs[0], node.inputs[4]) for node in residuals(program)]
    assert read == [("x0", "x0"), ("y0", "y0"), ("y1", "y1")]
    assert_close(program, graph)


def broadcast(net: Network, x: str) -> str:
    small = net.node(MaxPool2d((5, 5), (5, 5)), x, out="small")
    return net.node(Add(), net.conv(x, 3, out="conv"), small, out="sum")


def twice(net: Network, x: str) -> str:
    conv = net.conv(x, 3, out="conv")
    return net.node(Add(), conv, conv, out="sum")


def subtracted(net: Network, x: str) -> str:
    return net.node(Sub(), net.conv(x, 3, out="conv"), x, out="sum")


def read_elsewhere(net: Network, x: str) -> str:
    conv = net.conv(x, 3, out="conv")
    total = net.node(Add(), conv, x, out="sum")
    return net.node(Add(), total, net.node(MaxPool2d((3, 3), (1, 1), (1, 1, 1, 1)), conv, out="pool"), out="y")


@pytest.mark.parametrize("make", [broadcast, twice, subtracted, read_elsewhere])
def test_what_cannot_be_a_residual_is_an_addition_of_its_own(quantized, make):
    net = Network()
    x = net.input(3, 5, 5)
    graph = net.done(make(net, x))
    program = lower(quantized(graph))
    assert residuals(program) == []
    assert "q_add" in [node.op.name for node in program.nodes]
    assert_close(program, graph)


@pytest.mark.parametrize("returned", ["conv", "sum"])
def test_a_value_that_the_network_returns_is_not_fused_away(quantized, returned):
    net = Network()
    x = net.input(3, 5, 5)
    conv = net.conv(x, 3, out="conv")
    total = net.node(Add(), conv, x, out="sum")
    y = net.node(Relu(), total, out="y")
    graph = net.done(y, returned)
    program = lower(quantized(graph))
    assert [name.removesuffix(".t") for name in program.outputs] == ["y", returned]
    assert len(residuals(program)) == (returned == "sum")
    assert_close(program, graph)


def test_when_the_later_convolution_is_returned_the_earlier_one_adds(quantized):
    net = Network()
    x = net.input(3, 5, 5)
    early, late = net.conv(x, 3, out="early"), net.conv(x, 3, out="late")
    graph = net.done(net.node(Add(), early, late, out="sum"), late)
    program = lower(quantized(graph))
    (node,) = residuals(program)
    assert (node.outputs, node.inputs[4]) == (("sum",), "late")
    assert_close(program, graph)


def test_when_the_later_convolution_has_other_readers_the_earlier_one_adds(quantized):
    net = Network()
    x = net.input(3, 5, 5)
    early, late = net.conv(x, 3, out="early"), net.conv(x, 3, out="late")
    total = net.node(Add(), early, late, out="sum")
    graph = net.done(net.node(Sub(), total, late, out="y"))
    program = lower(quantized(graph))
    (node,) = residuals(program)
    assert (node.outputs, node.inputs[4]) == (("sum",), "late")
    assert_close(program, graph)


def test_a_fused_convolution_waits_until_its_residual_is_made(quantized):
    """The convolution stands before what it adds: both run where the addition stood."""
    net = Network()
    x = net.input(3, 5, 5)
    conv = net.conv(x, 3, out="conv")
    slow = net.node(MaxPool2d((3, 3), (1, 1), (1, 1, 1, 1)), net.node(Relu(), x, out="relu"), out="slow")
    graph = net.done(net.node(Add(), conv, slow, out="sum"))
    program = lower(quantized(graph))
    made = [node.outputs[0] for node in program.nodes]
    assert made.index("slow") < made.index("sum")
    assert len(residuals(program)) == 1
    assert_close(program, graph)


def test_depthwise_and_grouped_convolutions_add_as_well(quantized):
    net = Network()
    x = net.input(4, 5, 5)
    y = net.node(Add(), net.conv(x, 4, out="depthwise", groups=4), x, out="sum1")
    y = net.node(Relu6(), net.node(Add(), net.conv(y, 4, out="grouped", groups=2), y, out="sum2"), out="y")
    graph = net.done(y)
    program = lower(quantized(graph))
    assert [node.op.groups for node in residuals(program)] == [4, 2]
    assert_close(program, graph)


def test_only_the_first_of_two_rectifiers_is_fused(quantized):
    net = Network()
    x = net.input(3, 5, 5)
    relu = net.node(Relu(), net.conv(x, 3, out="conv"), out="relu")
    graph = net.done(net.node(Relu6(), relu, out="relu6"))
    assert grouped(graph) == {
        "relu": ("conv", None, 0.0, np.inf),
        "relu6": ("relu6", None, -np.inf, np.inf),
    }
    assert_close(lower(quantized(graph)), graph)


def test_the_ends_of_a_clamp_become_codes_of_the_output(quantized):
    net = Network()
    x = net.input(3, 5, 5)
    w = net.constant("w", 4 * net.rng.normal(size=(3, 3, 1, 1)))
    graph = net.done(net.node(Relu6(), net.node(Conv2d(), x, w, out="conv"), out="y"))
    program = lower(quantized(graph))
    (node,) = [node for node in program.nodes if isinstance(node.op, QConv2d)]
    quant = program.types["y"].quant
    assert (node.op.qmin, node.op.qmax) == (quant.zero_point, round(6 / float(quant.scale)) + quant.zero_point)
    assert (node.op.qmin, node.op.y_zero) == (0, 0)
    assert node.op.qmax == 255
