"""Folding a batch norm changes no output, and where it cannot be folded the pass says why."""

import numpy as np
import pytest

from penjing.compress.structure.fold_batch_norm import FoldBatchNorm
from penjing.core.errors import InvalidGraph
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ir.text import print_graph
from penjing.ir.types import Source
from penjing.ops.add import Add
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.conv1d import Conv1d
from penjing.ops.conv2d import Conv2d
from penjing.ops.conv_transpose1d import ConvTranspose1d
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.relu import Relu
from penjing.testing.networks import Network, batches

# layer, sample shape, weight shape, output channels
LAYERS = {
    "conv2d": (Conv2d(padding=(1, 1, 1, 1)), (3, 5, 6), (4, 3, 3, 3), 4),
    "grouped conv2d": (Conv2d(groups=2), (4, 5, 6), (6, 2, 3, 3), 6),
    "depthwise conv2d": (Conv2d(groups=3, stride=(2, 2)), (3, 5, 6), (3, 1, 3, 3), 3),
    "conv1d": (Conv1d(padding=(1, 1)), (3, 9), (4, 3, 3), 4),
    "linear": (Linear(), (7,), (4, 7), 4),
    "conv_transpose2d": (ConvTranspose2d((2, 2)), (3, 4, 5), (3, 4, 2, 2), 4),
    "conv_transpose1d": (ConvTranspose1d(2), (3, 5), (3, 4, 2), 4),
}


def norm(net: Network, value: str, out: str = "bn", *, gamma: bool = True, beta: bool = True, eps: float = 1e-3) -> str:
    channels = net.graph.types[value].bounds[1]
    names = [
        net.constant(f"{out}.gamma", net.rng.normal(size=channels)) if gamma else "",
        net.constant(f"{out}.beta", net.rng.normal(size=channels)) if beta else "",
        net.constant(f"{out}.mean", net.rng.normal(size=channels)),
        net.constant(f"{out}.var", net.rng.uniform(0.1, 3, size=channels)),
    ]
    return net.node(BatchNorm(eps), value, *names, out=out, source=Source("net.py", 9))


def layer(net: Network, kind: str, *, bias: bool, out: str = "layer") -> str:
    op, shape, weight, channels = LAYERS[kind]
    names = [net.weight(f"{out}.weight", *weight)]
    if bias:
        names.append(net.weight(f"{out}.bias", channels))
    return net.node(op, net.input(*shape), *names, out=out)


def fold(graph: Graph):
    before = print_graph(graph)
    got, (log,) = run_passes(graph, [FoldBatchNorm()])
    assert print_graph(graph) == before
    assert got.stage == "cleaned"
    return got, log


def assert_same_function(got: Graph, want: Graph) -> None:
    (inputs,) = batches(want, 3)
    for y, expected in zip(evaluate(got, *inputs), evaluate(want, *inputs), strict=True):
        # float32: each output is a sum of at most a hundred products, rounded in another order
        np.testing.assert_allclose(y, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("gamma_beta", [(True, True), (False, False), (True, False), (False, True)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_folded_network_is_the_same_function_in_fewer_layers(kind, bias, gamma_beta):
    net = Network()
    value = layer(net, kind, bias=bias)
    graph = net.done(norm(net, value, gamma=gamma_beta[0], beta=gamma_beta[1]))
    got, log = fold(graph)
    assert [node.op.name for node in got.nodes] == [graph.nodes[0].op.name]
    assert got.outputs == ("layer",)
    assert set(got.constants) == {"layer.weight.folded", "layer.bias" if not bias else "layer.bias_1"}
    assert [remark.text for remark in log.changed] == ["folded into layer"]
    assert "net.py:9" in log.changed[0].where
    assert log.declined == ()
    assert_same_function(got, graph)


def test_norms_after_one_another_fold_into_the_same_layer():
    net = Network()
    value = layer(net, "conv2d", bias=True)
    graph = net.done(net.node(Relu(), norm(net, norm(net, value), "bn2"), out="y"))
    got, log = fold(graph)
    assert [node.op.name for node in got.nodes] == ["conv2d", "relu"]
    assert len(log.changed) == 2 and not log.declined
    assert_same_function(got, graph)


def test_each_of_several_layers_gets_its_own_norm():
    net = Network()
    value = net.input(2, 6, 6)
    for i in range(3):
        value = norm(net, net.conv(value, 4, out=f"conv{i}", bias=i > 0), f"bn{i}")
    graph = net.done(value)
    got, log = fold(graph)
    assert [node.op.name for node in got.nodes] == ["conv2d"] * 3
    assert len(log.changed) == 3
    assert_same_function(got, graph)


def test_a_layer_keeps_the_source_it_came_from():
    net = Network()
    weight = net.weight("w", 4, 3, 1, 1)
    value = net.node(Conv2d(), net.input(3, 2, 2), weight, out="layer", source=Source("net.py", 3, "aten.conv2d"))
    got, _ = fold(net.done(norm(net, value)))
    assert got.nodes[0].source == Source("net.py", 3, "aten.conv2d")


def test_a_bias_that_other_layers_read_stays_for_them():
    net = Network()
    x, bias = net.input(3, 4, 4), net.weight("bias", 3)
    first = net.node(Conv2d(), x, net.weight("w1", 3, 3, 1, 1), bias, out="first")
    second = net.node(Conv2d(), norm(net, first), net.weight("w2", 3, 3, 1, 1), bias, out="second")
    graph = net.done(second)
    got, log = fold(graph)
    assert len(log.changed) == 1
    assert got.nodes[1].inputs[2] == "bias"
    assert_same_function(got, graph)


def first_of_all():
    net = Network()
    return net.done(norm(net, net.input(3, 4, 4)))


def after_relu():
    net = Network()
    return net.done(norm(net, net.node(Relu(), layer(net, "conv2d", bias=True), out="relu")))


def other_users():
    net = Network()
    value = layer(net, "conv2d", bias=True)
    return net.done(net.node(Add(), norm(net, value), value, out="sum"))


def also_an_output():
    net = Network()
    value = layer(net, "conv2d", bias=True)
    return net.done(norm(net, value), value)


def shared_weight():
    net = Network()
    x, weight = net.input(3, 4, 4), net.weight("w", 3, 3, 1, 1)
    first = net.node(Conv2d(), x, weight, out="first")
    return net.done(net.node(Conv2d(), norm(net, first), weight, out="second"))


def sequence_of_features():
    net = Network()
    value = net.node(Linear(), net.input(5, 7), net.weight("w", 5, 7), out="layer")
    return net.done(norm(net, value))


def grouped_transposed():
    net = Network()
    op = ConvTranspose2d((2, 2), groups=2)
    value = net.node(op, net.input(4, 3, 3), net.weight("w", 4, 2, 2, 2), out="layer")
    return net.done(norm(net, value))


def computed_weight():
    net = Network()
    weight = net.node(Relu(), net.weight("w", 3, 3, 1, 1), out="relu")
    return net.done(norm(net, net.node(Conv2d(), net.input(3, 4, 4), weight, out="layer")))


def computed_bias():
    net = Network()
    bias = net.node(Relu(), net.weight("b", 3), out="relu")
    value = net.node(Conv2d(), net.input(3, 4, 4), net.weight("w", 3, 3, 1, 1), bias, out="layer")
    return net.done(norm(net, value))


def computed_statistics():
    net = Network()
    value = layer(net, "conv2d", bias=True)
    var = net.node(Relu(), net.constant("v", np.ones(4)), out="relu")
    return net.done(net.node(BatchNorm(), value, "", "", net.constant("mean", np.zeros(4)), var, out="bn"))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (first_of_all, "its input is an input of the graph"),
        (after_relu, "its input comes from relu, which has no weight to scale"),
        (other_users, "layer has other users"),
        (also_an_output, "layer has other users"),
        (shared_weight, "the weight is shared with another layer"),
        (sequence_of_features, "the linear layer's features are not the normalised axis"),
        (grouped_transposed, "a grouped transposed convolution shares its weight's channels between groups"),
        (computed_weight, "the weight is not a constant"),
        (computed_bias, "its statistics or the layer's bias are computed"),
        (computed_statistics, "its statistics or the layer's bias are computed"),
    ],
)
def test_a_norm_that_cannot_be_folded_stays_with_a_reason(make, reason):
    graph = make()
    got, log = fold(graph)
    assert [remark.text for remark in log.declined] == [reason]
    assert log.declined[0].where.startswith("node bn (batch_norm")
    assert log.changed == ()
    assert [node.op.name for node in got.nodes] == [node.op.name for node in graph.nodes]
    assert_same_function(got, graph)


def test_one_norm_that_stays_does_not_keep_others_from_folding():
    net = Network()
    first = norm(net, net.input(3, 4, 4), "bn0")
    graph = net.done(norm(net, net.conv(first, 4, out="conv"), "bn1"))
    got, log = fold(graph)
    assert (len(log.changed), len(log.declined)) == (1, 1)
    assert [node.op.name for node in got.nodes] == ["batch_norm", "conv2d"]
    assert_same_function(got, graph)


def test_a_network_without_norms_comes_back_as_it_is():
    net = Network()
    graph = net.done(layer(net, "linear", bias=True))
    got, log = fold(graph)
    assert (log.changed, log.declined) == ((), ())
    assert got.nodes == graph.nodes and list(got.constants) == list(graph.constants)


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")
@pytest.mark.parametrize("variance", [-1.0, 0.0])
def test_a_variance_that_cannot_be_divided_by_is_an_error_not_a_nan_weight(variance):
    net = Network()
    value = layer(net, "conv2d", bias=True)
    stats = (net.constant("mean", np.zeros(4)), net.constant("var", np.full(4, variance)))
    graph = net.done(net.node(BatchNorm(0.0), value, "", "", *stats, out="bn"))
    with pytest.raises(InvalidGraph, match="holds NaN or infinity"):
        run_passes(graph, [FoldBatchNorm()])
