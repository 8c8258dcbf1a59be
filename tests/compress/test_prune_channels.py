"""Channels that are really gone: what goes together, that nothing else changes, and what the pass refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.prune.channel_plan import total_macs
from penjing.compress.prune.channel_scores import magnitude_scores, removal_scores, sliced_scores
from penjing.compress.prune.dependency_groups import ChannelGroup, dependency_groups
from penjing.compress.prune.prune_channels import PruneChannels
from penjing.compress.prune.remove_slices import Mask, remove_slices, slices_of
from penjing.core.errors import PruningError
from penjing.ir.graph import Graph
from penjing.ir.passes import PassLog, run_passes
from penjing.ir.text import print_graph
from penjing.ir.types import Constant
from penjing.ir.verify import verify
from penjing.ops.add import Add
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.concat import Concat
from penjing.ops.conv2d import Conv2d
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.mean import Mean
from penjing.ops.mul import Mul
from penjing.ops.pad import Pad
from penjing.ops.permute import Permute
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu
from penjing.ops.reshape import Reshape
from penjing.ops.sigmoid import Sigmoid
from penjing.ops.slice import Slice
from penjing.ops.softmax import Softmax
from penjing.testing.networks import BATCH, Network, batches, edge_cnn
from penjing.testing.random_graphs import RandomGraph, batch_norm_graphs, flatten_graphs, float_graphs

RELATIVE = 1e-5  # of the largest output: the same sums in another order


def prune(graph: Graph, **options) -> tuple[Graph, PassLog]:
    before = print_graph(graph)
    small, (log,) = run_passes(graph, [PruneChannels(**options)])
    verify(small)
    assert print_graph(graph) == before
    assert (small.inputs, small.outputs, small.stage) == (graph.inputs, graph.outputs, graph.stage)
    assert [small.types[n].shape for n in small.outputs] == [graph.types[n].shape for n in graph.outputs]
    return small, log


def groups(graph: Graph) -> dict[str, ChannelGroup]:
    return {group.name: group for group in dependency_groups(graph).groups}


def norm(net: Network, x: str, *, out: str) -> str:
    channels = net.graph.types[x].bounds[1]
    values = net.rng.uniform(0.5, 1.5, size=(4, channels))
    names = [net.constant(f"{out}.{k}", v) for k, v in zip(("gamma", "beta", "mean", "var"), values, strict=True)]
    return net.node(BatchNorm(), x, *names, out=out)


def residual_network() -> Graph:
    """Two stages as in a ResNet for CIFAR: a plain shortcut, then one that takes every second pixel and pads."""
    net = Network("residual")
    x = net.node(Relu(), norm(net, net.conv(net.input(3, 8, 8), 8, out="stem", bias=False), out="bn"), out="x0")
    inner = net.node(Relu(), norm(net, net.conv(x, 8, out="a1", bias=False), out="bn1"), out="r1")
    x = net.node(Relu(), net.node(Add(), net.conv(inner, 8, out="a2"), x, out="s1"), out="x1")
    weight = net.weight("b1.weight", 16, 8, 3, 3)
    down = net.node(Conv2d(stride=(2, 2), padding=(1, 1, 1, 1)), x, weight, out="b1")
    cut = net.node(Slice(3, 0, 8, 2), net.node(Slice(2, 0, 8, 2), x, out="rows"), out="columns")
    wide = net.node(Pad((0, 0, 4, 4, 0, 0, 0, 0)), cut, out="wide")
    y = net.node(Add(), net.conv(net.node(Relu(), down, out="r2"), 16, out="b2"), wide, out="s2")
    return net.done(net.linear(net.node(Mean((2, 3)), y, out="mean"), 5, out="fc"))


def with_zeros(graph: Graph, chosen: list[tuple[ChannelGroup, Mask]]) -> Graph:
    """All constants of the chosen units zero; a variance of zero is a division by the square root of epsilon."""
    zeroed = graph.copy()
    for (name, axis), indices in slices_of(chosen).items():
        if name in zeroed.constants:
            array = zeroed.constants[name].array.copy()
            array[(slice(None),) * axis + (indices,)] = 0
            zeroed.set_constant(name, Constant(array))
    return zeroed


def assert_same(graph: Graph, small: Graph, inputs: tuple[np.ndarray, ...]) -> None:
    for want, got in zip(evaluate(graph, *inputs), evaluate(small, *inputs), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=RELATIVE * max(1.0, float(np.abs(want).max())))


# what goes together


def test_a_residual_trunk_goes_with_its_shortcut_that_pads():
    found = groups(residual_network())
    assert {name: group.size for name, group in found.items()} == {
        "stem.weight": 8, "a1.weight": 8, "b1.weight": 16, "b2.weight": 8
    }  # fmt: skip
    trunk = found["stem.weight"].slices
    np.testing.assert_array_equal(trunk["stem.weight", 0].ravel(), range(8))
    np.testing.assert_array_equal(trunk["a2.weight", 0].ravel(), range(8))
    np.testing.assert_array_equal(trunk["b1.weight", 1].ravel(), range(8))
    np.testing.assert_array_equal(trunk["b2.weight", 0].ravel(), range(4, 12))  # four zeros before
    np.testing.assert_array_equal(trunk["fc.weight", 1].ravel(), range(4, 12))
    np.testing.assert_array_equal(found["b2.weight"].slices["b2.weight", 0].ravel(), [0, 1, 2, 3, 12, 13, 14, 15])


def test_a_flattened_channel_is_a_block_of_features():
    found = groups(edge_cnn())
    assert {name: group.size for name, group in found.items()} == {
        "conv1.weight": 16, "conv2.weight": 32, "fc1.weight": 128
    }  # fmt: skip
    np.testing.assert_array_equal(found["conv2.weight"].slices["fc1.weight", 1], np.arange(2048).reshape(32, 64))


def test_depthwise_channels_go_one_by_one_and_larger_groups_lose_the_same_places():
    net = Network()
    x = net.conv(net.input(3, 4, 4), 8, out="in")
    depthwise = net.conv(x, 8, groups=8, out="depthwise")
    grouped = net.conv(net.conv(depthwise, 12, out="mid"), 6, groups=2, out="grouped")
    found = groups(net.done(net.linear(net.node(Mean((2, 3)), grouped, out="mean"), 2, out="fc")))
    assert found["in.weight"].slices["depthwise.weight", 0].shape == (8, 1)
    np.testing.assert_array_equal(found["mid.weight"].slices["mid.weight", 0], [[i, 6 + i] for i in range(6)])
    np.testing.assert_array_equal(found["grouped.weight"].slices["fc.weight", 1], [[i, 3 + i] for i in range(3)])


def test_a_squeeze_and_excitation_gate_goes_with_the_channels_that_it_weighs():
    net = Network()
    x = net.conv(net.input(3, 4, 4), 8, out="in")
    squeezed = net.conv(net.node(Mean((2, 3), keepdim=True), x, out="mean"), 4, kernel=1, out="down")
    gate = net.node(Sigmoid(), net.conv(squeezed, 8, kernel=1, out="up"), out="gate")
    y = net.conv(net.node(Mul(), x, gate, out="y"), 2, out="out")
    found = groups(net.done(y))
    assert set(found) == {"in.weight", "down.weight"}
    assert {("up.weight", 0), ("down.weight", 1), ("out.weight", 1)} <= found["in.weight"].slices.keys()


def test_what_reaches_an_output_an_input_or_a_softmax_stays_with_the_reason():
    net = Network()
    x = net.input(4, 6, 6)
    summed = net.node(Add(), net.conv(x, 4, out="beside"), x, out="summed")
    weighed = net.node(Softmax(1), net.conv(summed, 4, out="weighed"), out="soft")
    graph = net.done(net.conv(weighed, 3, out="last"))
    found = dependency_groups(graph)
    assert not found.groups
    assert "input of the graph" in found.frozen["beside.weight"]
    assert "softmax" in found.frozen["weighed.weight"] and "axis 1" in found.frozen["weighed.weight"]
    assert "output of the graph" in found.frozen["last.weight"]
    with pytest.raises(PruningError, match="no channel can be removed"):
        prune(graph, ratio=0.5)


def test_channels_joined_with_an_input_go_without_it():
    net = Network()
    x = net.input(2, 6, 6)
    joined = net.node(Concat(1), x, net.conv(x, 4, out="some"), out="joined")
    graph = net.done(net.conv(joined, 3, out="last"))
    np.testing.assert_array_equal(groups(graph)["some.weight"].slices["last.weight", 1], [[2], [3], [4], [5]])
    small, _ = prune(graph, ratio=0.5, round_to=1)
    assert small.constants["last.weight"].array.shape == (3, 4, 3, 3)


def test_of_an_image_flattened_pixel_by_pixel_channels_go_all_the_same():
    net = Network()
    pooled = net.node(MaxPool2d((2, 2), (2, 2)), net.conv(net.input(1, 4, 4), 6, out="conv"), out="pooled")
    flat = net.node(Reshape((BATCH, 24)), net.node(Permute((0, 2, 3, 1)), pooled, out="last"), out="flat")
    (group,) = dependency_groups(net.done(net.linear(flat, 2, out="fc"))).groups
    np.testing.assert_array_equal(group.slices["fc.weight", 1][0], [0, 6, 12, 18])


# what is left computes the same


@st.composite
def some_units(draw, graph: Graph) -> list[tuple[ChannelGroup, Mask]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    chosen = []
    for group in dependency_groups(graph).groups:
        mask = rng.random(group.size) < draw(st.sampled_from([0.0, 0.3, 0.9]))
        mask[rng.integers(group.size)] = False
        chosen.append((group, mask))
    return chosen


@pytest.mark.parametrize("graphs", [float_graphs(), batch_norm_graphs(), flatten_graphs()], ids=str)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_graph_without_units_is_the_graph_with_their_constants_zero(graphs, data):
    drawn: RandomGraph = data.draw(graphs)
    chosen = data.draw(some_units(drawn.graph))
    zeroed = with_zeros(drawn.graph, chosen)
    small = remove_slices(drawn.graph, slices_of(chosen))
    verify(small)
    with np.errstate(over="ignore", invalid="ignore"):
        wanted, made = evaluate(zeroed, *drawn.batch), evaluate(small, *drawn.batch)
    for want, got in zip(wanted, made, strict=True):
        assert got.shape == want.shape
        if np.isfinite(want).all():
            scale = max(1.0, float(np.abs(want).max()), _largest(zeroed, drawn.batch))
            np.testing.assert_allclose(got, want, rtol=0, atol=RELATIVE * scale)


def _largest(graph: Graph, batch: tuple[np.ndarray, ...]) -> float:
    """The largest activation: what sums that cancel were made of."""
    seen = [0.0]
    with np.errstate(over="ignore", invalid="ignore"):
        evaluate(graph, *batch, watch=lambda _, x: seen.append(float(np.abs(x).max())))
    return float(np.nanmax(seen))


@pytest.mark.parametrize("graph", [residual_network(), edge_cnn()], ids=lambda graph: graph.name)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_the_pass_takes_the_least_channels_and_nothing_else(graph, ratio):
    small, log = prune(graph, ratio=ratio, round_to=1)
    chosen = []
    for group in dependency_groups(graph).groups:
        scores = magnitude_scores(graph)
        total = sum(scores[place][at].sum(axis=1) for place, at in group.slices.items() if place in scores)
        mask = np.zeros(group.size, bool)
        mask[np.argsort(total, kind="stable")[: int(ratio * group.size)]] = True
        chosen.append((group, mask))
    assert_same(with_zeros(graph, chosen), small, next(batches(graph, 3)))
    assert small.parameters() < graph.parameters()
    assert [remark.where for remark in log.changed] == [*groups(graph), f"graph {graph.name}"]


# how many go


@pytest.mark.parametrize(("round_to", "left"), [(1, 5), (4, 8), (8, 8), (16, 16)])
def test_groups_keep_a_multiple_of_the_step(round_to, left):
    net = Network()
    hidden = net.node(Relu(), net.linear(net.input(6), 16, out="fc1"), out="relu")
    graph = net.done(net.linear(hidden, 3, out="fc2"))
    small, log = prune(graph, ratio=0.7, round_to=round_to)
    assert small.constants["fc1.weight"].array.shape == (left, 6)
    if left == 16:
        assert not log.changed and "not more than one step" in log.declined[-1].text


def test_a_ratio_that_rounds_to_nothing_is_declined():
    _, log = prune(edge_cnn(), ratio={"conv1.weight": 0.2}, round_to=8)
    assert not log.changed
    assert any(remark.where == "conv1.weight" and "less than a step" in remark.text for remark in log.declined)


def test_a_global_ratio_takes_the_lowest_scores_of_all_groups():
    graph = edge_cnn()
    scores = {
        ("conv1.weight", 0): np.ones(16),
        ("conv2.weight", 0): np.full(32, 3.0),
        ("fc1.weight", 0): np.arange(128),
    }
    small, _ = prune(graph, ratio=0.1, scope="global", round_to=1, scores=scores)
    # 17 of 176: fc1 has two scores below or at 1 that come before, then all ties of conv1 but one channel
    shapes = [small.constants[f"{name}.weight"].array.shape[0] for name in ("conv1", "conv2", "fc1")]
    assert shapes == [1, 32, 127]


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_a_budget_of_macs_is_met_and_not_missed_by_more_than_a_step(share):
    graph = edge_cnn()
    small, log = prune(graph, macs=share, round_to=4)
    got = total_macs(small) / total_macs(graph)
    assert share - 0.3 < got <= share
    assert f"{100 * got:.1f} %" in log.changed[-1].text


def test_a_budget_that_cannot_be_met_is_refused_with_the_least_that_can():
    with pytest.raises(PruningError, match=r"fewest possible are 0\.1"):
        prune(edge_cnn(), macs=0.05, round_to=8)


def test_groups_without_scores_stay():
    graph = edge_cnn()
    scores = {place: score for place, score in magnitude_scores(graph).items() if place[0] == "conv1.weight"}
    small, log = prune(graph, ratio=0.5, scores=scores)
    assert small.constants["conv1.weight"].array.shape[0] == 8
    assert small.constants["conv2.weight"].array.shape[0] == 32
    assert {r.where for r in log.declined if "score" in r.text} == {"conv2.weight", "fc1.weight"}


# what they are worth


def correlated_layer(bias: bool) -> tuple[Graph, np.ndarray]:
    """A linear layer whose channel 2 is the sum of channels 0 and 1, up to a constant, and large."""
    net = Network(seed=3)
    mix = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
    names = [net.constant("w1", mix), net.constant("b1", [0, 0, 2.0 if bias else 0, 0])]
    hidden = net.node(Linear(), net.input(3), *names, out="hidden")
    names = [net.weight("w2", 2, 4)] + ([net.constant("b2", np.zeros(2))] if bias else [])
    graph = net.done(net.node(Linear(), hidden, *names, out="y"))
    return graph, net.rng.normal(size=(200, 3)).astype(np.float32)


@pytest.mark.parametrize("bias", [False, True])
def test_a_channel_that_others_can_replace_costs_nothing_and_is_replaced(bias):
    graph, x = correlated_layer(bias)
    inputs = collect_layer_inputs(graph, [x])
    worth = removal_scores(graph, inputs)["w2", 1]
    assert worth[2] < 0.01 < worth[3]
    scores = {("w1", 0): np.array([9.0, 9.0, 0.0, 9.0])}
    (before,) = evaluate(graph, x)
    errors = {}
    for fitted in (None, inputs):
        small, _ = prune(graph, ratio=0.25, round_to=1, scores=scores, inputs=fitted)
        errors[fitted is not None] = float(np.square(evaluate(small, x)[0] - before).mean())
    assert errors[True] < 1e-4 * errors[False]


def test_the_lowest_removal_scores_sum_up_to_the_error_of_the_best_fit_to_the_channels_left():
    graph = residual_network()
    seen = [x[0] for x in batches(graph, 40, count=2)]
    inputs = collect_layer_inputs(graph, seen)
    w = graph.constants["b2.weight"].array.reshape(16, -1).astype(np.float64)
    gram, mean = inputs["b2.weight"].gram[0], inputs["b2.weight"].mean[0]
    covariance = gram - np.outer(mean, mean)
    damped = covariance + 1e-3 * np.diag(covariance).mean() * np.eye(len(mean))
    energy = np.einsum("oi,ij,oj->", w, covariance, w)
    scores = removal_scores(graph, inputs)["b2.weight", 1]
    order = np.argsort(scores)
    for count in (1, 2, 8, 15):
        kept = np.flatnonzero(np.repeat(~np.isin(np.arange(16), order[:count]), 9))
        best = np.zeros_like(w)
        best[:, kept] = np.linalg.solve(damped[np.ix_(kept, kept)], damped[kept] @ w.T).T
        error = np.einsum("oi,ij,oj->", w - best, damped, w - best) / energy
        assert scores[order[:count]].sum() == pytest.approx(error, rel=1e-6)
    first = [np.einsum("oi,oi->", w[:, s], np.linalg.solve(np.linalg.inv(damped)[s, s], w[:, s].T).T) for s in _spans()]
    assert scores.min() == pytest.approx(min(first) / energy, rel=1e-6)


def test_a_flattened_channel_has_one_removal_score_and_all_scores_of_a_layer_make_up_its_output():
    net = Network()
    hidden = net.node(Relu(), net.conv(net.input(2, 4, 4), 8, out="conv"), out="relu")
    graph = net.done(net.linear(net.flatten(hidden, out="flat"), 5, out="fc"))
    inputs = collect_layer_inputs(graph, [x[0] for x in batches(graph, 400)])
    scores = removal_scores(graph, inputs)["fc.weight", 1].reshape(8, 16)
    assert (scores == scores[:, :1]).all()
    assert scores.sum() == pytest.approx(1, rel=0.01)  # up to the damping


def _spans() -> list[slice]:
    """Columns of each of 16 channels of a 3x3 convolution."""
    return [slice(9 * channel, 9 * channel + 9) for channel in range(16)]


def test_refitted_consumers_come_closer_to_the_original_than_sliced_ones():
    graph = residual_network()
    seen = [x[0] for x in batches(graph, 64, count=2)]
    inputs = collect_layer_inputs(graph, seen)
    scores = removal_scores(graph, inputs)
    (before,) = evaluate(graph, seen[0])
    errors = []
    for fitted in (None, inputs):
        small, _ = prune(graph, ratio=0.25, round_to=2, scores=scores, inputs=fitted)
        errors.append(float(np.square(evaluate(small, seen[0])[0] - before).mean()))
    assert errors[1] < 0.7 * errors[0]


def test_a_taylor_importance_of_each_weight_is_summed_over_the_slices():
    importance = {"conv1.weight": np.arange(16 * 9, dtype=float).reshape(16, 1, 3, 3)}
    scores = sliced_scores(importance)["conv1.weight", 0]
    np.testing.assert_allclose(scores, importance["conv1.weight"].sum((1, 2, 3)) / (143 * 72 / 16))
    small, _ = prune(edge_cnn(), ratio=0.5, scores=sliced_scores(importance))
    np.testing.assert_array_equal(small.constants["conv1.weight"].array, edge_cnn().constants["conv1.weight"].array[8:])


# what is refused


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "one of the two"),
        ({"ratio": 0.5, "macs": 0.5}, "one of the two"),
        ({"ratio": 1.0}, r"\[0, 1\)"),
        ({"ratio": -0.1}, r"\[0, 1\)"),
        ({"ratio": float("nan")}, r"\[0, 1\)"),
        ({"ratio": {"conv1.weight": 2.0}}, r"\[0, 1\)"),
        ({"ratio": {"fc2.weight": 0.5}}, "no group fc2.weight"),
        ({"ratio": {"conv1.weight": 0.5}, "scope": "global"}, "one ratio"),
        ({"macs": 0.0}, r"\(0, 1\]"),
        ({"macs": float("nan")}, r"\(0, 1\]"),
        ({"ratio": 0.5, "round_to": 0}, "at least 1"),
        ({"ratio": 0.5, "scores": {("conv1.weight", 0): np.ones(15)}}, "do not fit"),
        ({"ratio": 0.5, "scores": {("conv1.weight", 0): np.ones((16, 1))}}, "do not fit"),
        ({"ratio": 0.5, "scores": {("conv1.weight", 0): np.full(16, np.nan)}}, "finite"),
        ({"ratio": 0.5, "scores": {("conv1.weight", 0): np.full(16, -1.0)}}, "finite"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, reason):
    with pytest.raises(PruningError, match=reason):
        prune(edge_cnn(), **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_an_importance_that_is_no_number_from_0_up_is_refused(bad):
    with pytest.raises(PruningError, match="finite"):
        sliced_scores({"w": np.array([[1.0, bad]])})
