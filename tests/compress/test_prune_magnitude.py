"""Magnitude pruning as a pass: which weights of a graph become zero, and what it says about it."""

import math

import numpy as np
import pytest

from penjing.compress.prune.prune_magnitude import PruneMagnitude
from penjing.core.errors import PruningError
from penjing.ir.graph import Graph
from penjing.ir.passes import Remark, run_passes
from penjing.ir.text import print_graph
from penjing.ir.types import Constant
from penjing.ops.add import Add
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.conv1d import Conv1d
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.layers import float_weights
from penjing.ops.linear import Linear
from penjing.ops.mul import Mul
from penjing.testing.networks import Network, edge_cnn


def prune(graph: Graph, **options):
    before = print_graph(graph)
    got, (log,) = run_passes(graph, [PruneMagnitude(**options)])
    assert print_graph(graph) == before
    assert got.nodes == graph.nodes and got.types == graph.types and got.stage == graph.stage
    return got, log


def zeros(graph: Graph, name: str) -> int:
    array = graph.constants[name].array
    return array.size - int(np.count_nonzero(array))


def weights(graph: Graph) -> list[str]:
    return [name for name in graph.constants if name.endswith("weight")]


@pytest.mark.parametrize("ratio", [0.5, 0.29, 0.9])
def test_a_ratio_per_layer_removes_that_share_of_each_weight_the_smallest_first(ratio):
    graph = edge_cnn()
    got, log = prune(graph, ratio=ratio)
    assert [remark.where for remark in log.changed] == weights(graph)
    for name in weights(graph):
        old, new = graph.constants[name].array, got.constants[name].array
        assert zeros(got, name) == math.floor(round(ratio * 100) * old.size / 100)
        kept = new != 0
        np.testing.assert_array_equal(new[kept], old[kept])
        assert np.abs(old[~kept]).max() <= np.abs(old[kept]).min()


def test_a_global_ratio_removes_that_share_of_all_weights_together():
    graph = edge_cnn()
    got, _ = prune(graph, ratio=0.8, scope="global")
    total = sum(graph.constants[name].array.size for name in weights(graph))
    assert sum(zeros(got, name) for name in weights(graph)) == math.floor(0.8 * total)
    # fc1 has by far the smallest weights, so it gives most
    share = {name: zeros(got, name) / graph.constants[name].array.size for name in weights(graph)}
    assert share["fc1.weight"] > 0.8 > share["conv1.weight"]


def test_a_threshold_removes_what_lies_below_it_in_every_layer():
    graph = edge_cnn()
    got, _ = prune(graph, threshold=0.02)
    for name in weights(graph):
        old = graph.constants[name].array
        want = np.where(np.abs(old.astype(np.float64)) < 0.02, np.float32(0), old)
        np.testing.assert_array_equal(got.constants[name].array, want)


def test_biases_and_other_constants_are_left_alone():
    net = Network()
    x = net.input(3, 5, 5)
    names = [net.constant(name, np.full(4, 1e-9)) for name in ("gamma", "beta", "mean")]
    norm = net.node(BatchNorm(), net.conv(x, 4, out="conv"), *names, net.constant("var", np.ones(4)), out="bn")
    graph = net.done(net.node(Mul(), norm, net.constant("factor", np.full((4, 1, 1), 1e-9)), out="y"))
    assert set(float_weights(graph)) == {"conv.weight"}
    got, _ = prune(graph, ratio=0.5)
    for name in graph.constants:
        if name != "conv.weight":
            np.testing.assert_array_equal(got.constants[name].array, graph.constants[name].array)


def test_every_kind_of_layer_with_a_weight_is_pruned():
    net = Network()
    a = net.node(Conv1d(), net.input(3, 7, name="a"), net.weight("conv1d", 4, 3, 2), out="ya")
    b = net.node(ConvTranspose2d(), net.input(3, 4, 4, name="b"), net.weight("transposed", 3, 4, 2, 2), out="yb")
    c = net.conv(net.input(4, 4, 4, name="c"), 4, out="depthwise", groups=4, bias=False)
    d = net.node(Linear(), net.input(6, name="d"), net.weight("linear", 2, 6), out="yd")
    graph = net.done(a, b, c, d)
    got, _ = prune(graph, ratio=0.5)
    assert {name: zeros(got, name) for name in graph.constants} == {
        name: constant.array.size // 2 for name, constant in graph.constants.items()
    }


def test_a_weight_that_two_layers_read_is_pruned_once():
    net = Network()
    x, w = net.input(4), net.weight("w", 4, 4)
    first = net.node(Linear(), x, w, out="first")
    graph = net.done(net.node(Add(), first, net.node(Linear(), first, w, out="second"), out="y"))
    got, log = prune(graph, ratio=0.5)
    assert zeros(got, "w") == 8
    assert log.changed == (Remark("w", "50.0 % of 16 weights are zero"),)


def test_a_layer_without_small_weights_is_left_with_a_reason():
    net = Network()
    x = net.input(3)
    big, small = net.constant("big", np.full((4, 3), 5.0)), net.constant("small", [[0.1, 5, 5, 5]])
    graph = net.done(net.node(Linear(), net.node(Linear(), x, big, out="a"), small, out="y"))
    got, log = prune(graph, threshold=1.0)
    assert log.declined == (Remark("big", "no weight is small enough"),)
    assert log.changed == (Remark("small", "25.0 % of 4 weights are zero"),)
    assert got.constants["big"] is graph.constants["big"]


@pytest.mark.parametrize("options", [{"ratio": 0.0}, {"threshold": 0.0}, {"ratio": 0.0, "scope": "global"}])
def test_removing_nothing_changes_nothing_and_says_so(options):
    graph = edge_cnn()
    got, log = prune(graph, **options)
    assert log.changed == () and len(log.declined) == 4
    assert print_graph(got) == print_graph(graph)


def test_pruning_again_by_the_same_ratio_finds_the_zeros_already_there():
    graph = edge_cnn()
    once, _ = prune(graph, ratio=0.5)
    twice, _ = prune(once, ratio=0.5)
    assert print_graph(once) == print_graph(twice)


@pytest.mark.parametrize("options", [{}, {"ratio": 0.5, "threshold": 0.1}])
def test_a_ratio_or_a_threshold_is_needed_and_not_both(options):
    with pytest.raises(PruningError, match="a ratio or a threshold, one of the two"):
        prune(edge_cnn(), **options)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"ratio": 1.0}, r"must lie in \[0, 1\), not 1.0"),
        ({"ratio": -0.1}, r"must lie in \[0, 1\), not -0.1"),
        ({"ratio": math.nan}, r"must lie in \[0, 1\), not nan"),
        ({"threshold": -1.0}, "a finite number >= 0, not -1.0"),
        ({"threshold": math.inf}, "a finite number >= 0, not inf"),
        ({"threshold": 100.0}, "removes all 144 weights"),
        ({"ratio": 0.9999, "scope": "global"}, "removes all 144 weights of this tensor"),
    ],
)
def test_a_request_that_makes_no_sense_or_removes_a_whole_layer_is_refused(options, what):
    graph = edge_cnn()
    if options.get("scope") == "global":
        graph.constants["conv1.weight"] = Constant(graph.constants["conv1.weight"].array * np.float32(1e-6))
    with pytest.raises(PruningError, match=what) as caught:
        run_passes(graph, [PruneMagnitude(**options)])
    if "removes all" in what:
        assert caught.value.where == "conv1.weight"


def test_nan_weights_are_refused_with_their_name():
    net = Network()
    net.linear(net.input(3), 2, out="fc")
    array = np.ones((2, 3), np.float32)
    array[1, 2] = np.nan
    net.constant("fc.weight", array)
    net.graph.outputs = ("fc",)
    with pytest.raises(PruningError, match=r"1 of 6 weights are NaN .* first at index \[1, 2\]") as caught:
        PruneMagnitude(ratio=0.5).run(net.graph)
    assert caught.value.where == "fc.weight"


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_network_without_layers_has_nothing_to_prune(scope):
    net = Network()
    graph = net.done(net.node(Add(), net.input(3), net.constant("c", [[1.0] * 3]), out="y"))
    with pytest.raises(PruningError, match="no layer has a weight to prune"):
        prune(graph, ratio=0.5, scope=scope)
