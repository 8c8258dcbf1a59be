"""Training rounds exactly the values that the integer program rounds."""

from hypothesis import given

from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.ir.graph import Graph
from penjing.ops.add import Add
from penjing.ops.concat import Concat
from penjing.ops.fusion import between_roundings, fuse
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu
from penjing.ops.sigmoid import Sigmoid
from penjing.testing.networks import Network
from penjing.testing.random_graphs import RandomGraph, float_graphs
from penjing.train.rounded_values import rounded_values


@given(float_graphs())
def test_the_values_in_between_are_those_that_lowering_does_in_passing(case: RandomGraph):
    graph = case.graph
    stored = {
        group.anchor.outputs if len(group.anchor.outputs) > 1 else (group.epilogue.output,)
        for group in fuse(graph).values()
    }
    made = {name for node in graph.nodes for name in node.outputs}
    assert between_roundings(graph) == made - {name for names in stored for name in names}


@given(float_graphs())
def test_values_that_share_codes_are_those_that_share_them_when_quantized(case: RandomGraph):
    graph = case.graph
    ranges = calibrate(graph, [case.batch])
    types = QuantizeStatic(ranges).run(graph).graph.types
    rounded = rounded_values(graph)
    for name, owner in rounded.learned.items():
        assert types[name].quant == types[owner].quant
    for node in graph.nodes:
        if node.op.name == "concat" and node.output in rounded.learned:
            assert rounded.learned[node.output] == node.output or len(graph.users()[node.output]) == 1


def residual() -> Graph:
    net = Network()
    x = net.input(2, 4, 4)
    a = net.node(Relu(), net.conv(x, 2, out="conv1"), out="relu1")
    b = net.node(Add(), net.conv(a, 2, out="conv2"), a, out="sum")
    b = net.node(Relu(), b, out="relu2")
    c = net.node(MaxPool2d((2, 2), (2, 2)), b, out="pool")
    d = net.node(Sigmoid(), c, out="gate")
    e = net.node(Relu(), c, out="relu3")
    return net.done(net.node(Concat(1), d, e, out="y"))


def test_a_residual_block_rounds_its_input_and_after_each_relu():
    graph = residual()
    assert between_roundings(graph) == {"conv1", "conv2", "sum"}
    rounded = rounded_values(graph)
    assert rounded.learned == {"x": "x", "relu1": "relu1", "relu2": "relu2", "relu3": "y", "y": "y"}
    assert rounded.fixed == {"gate": Sigmoid().fixed_range()}


def test_a_value_with_another_reader_is_rounded():
    net = Network()
    conv = net.conv(net.input(2, 4, 4), 2, out="conv")
    graph = net.done(net.node(Relu(), conv, out="relu"), conv)
    assert between_roundings(graph) == set()
