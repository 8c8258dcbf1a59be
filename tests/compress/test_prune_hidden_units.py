"""Hidden units that are really gone: rows of all gates, columns, states, and what reads them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing import api
from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.prune.channel_plan import total_macs
from penjing.compress.prune.channel_scores import sliced_scores
from penjing.compress.prune.dependency_groups import ChannelGroup, dependency_groups
from penjing.compress.prune.prune_channels import PruneChannels
from penjing.compress.prune.remove_slices import Mask, remove_slices, slices_of
from penjing.ir.graph import Graph
from penjing.ir.types import Constant
from penjing.ir.verify import verify
from penjing.ops.concat import Concat
from penjing.ops.evaluate import evaluate
from penjing.ops.gru import Gru
from penjing.ops.linear import Linear
from penjing.ops.lstm import Lstm
from penjing.ops.slice import Select
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.networks import Network, batches
from penjing.testing.recurrent_networks import STEPS, UNITS, every_layer
from penjing.testing.sequences import recurrent_layer


@pytest.fixture(scope="module")
def graph() -> Graph:
    return every_layer()


def groups(graph: Graph) -> dict[str, ChannelGroup]:
    return {group.name: group for group in dependency_groups(graph).groups}


def with_zeros(graph: Graph, chosen: list[tuple[ChannelGroup, Mask]]) -> Graph:
    zeroed = graph.copy()
    for (name, axis), indices in slices_of(chosen).items():
        if name in zeroed.constants:
            array = zeroed.constants[name].array.copy()
            array[(slice(None),) * axis + (indices,)] = 0
            zeroed.set_constant(name, Constant(array))
    return zeroed


def test_a_unit_is_its_rows_of_all_gates_its_column_and_what_reads_it(graph):
    found = groups(graph)
    sizes = {name: group.size for name, group in found.items()}
    assert sizes == {"there.w_ih": 8, "back.w_ih": 8, "gru.w_ih": 8, "inner.w_ih": 8, "inner.w_hr": 4} | {
        "rectified.w_ih": 8, "plain.w_ih": 8
    }  # fmt: skip
    assert all(group.width == 1 and group.step(8) == 8 for group in found.values())
    lstm = found["there.w_ih"].slices
    rows = np.arange(32).reshape(4, 8).T
    for name in ("there.w_ih", "there.w_hh", "there.b_ih", "there.b_hh"):
        np.testing.assert_array_equal(lstm[name, 0], rows)
    for place in (("there.w_hh", 1), ("gru.w_ih", 1), ("there.start0", 1), ("there.start1", 1), ("end.weight", 1)):
        np.testing.assert_array_equal(lstm[place].ravel(), range(8))
    np.testing.assert_array_equal(found["back.w_ih"].slices["gru.w_ih", 1].ravel(), range(8, 16))
    np.testing.assert_array_equal(found["gru.w_ih"].slices["end.weight", 1].ravel(), range(8, 16))
    assert found["gru.w_ih"].slices["gru.w_hh", 0].shape == (8, 3)


def test_hidden_and_projected_units_go_apart(graph):
    hidden, projected = groups(graph)["inner.w_ih"].slices, groups(graph)["inner.w_hr"].slices
    constants = {place for place in hidden if place[0] in graph.constants}
    names = ("inner.w_ih", "inner.w_hh", "inner.b_ih", "inner.b_hh")
    assert constants == {*((name, 0) for name in names), ("inner.w_hr", 1), ("inner.start1", 1)}
    constants = {place for place in projected if place[0] in graph.constants}
    assert constants == {("inner.w_hh", 1), ("inner.w_hr", 0), ("inner.start0", 1), ("rectified.w_ih", 1)}


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**16), share=st.sampled_from([0.1, 0.4, 0.9]))
def test_without_units_that_are_zero_a_network_computes_the_same(graph, seed, share):
    rng = np.random.default_rng(seed)
    chosen = []
    for group in groups(graph).values():
        mask = rng.random(group.size) < share
        mask[rng.integers(group.size)] = False
        chosen.append((group, mask))
    zeroed, small = with_zeros(graph, chosen), remove_slices(graph, slices_of(chosen))
    verify(small)
    for (name, axis), indices in slices_of(chosen).items():
        assert small.types[name].bounds[axis] == graph.types[name].bounds[axis] - len(indices)
    (x,) = next(batches(graph, 3))
    for want, got in zip(evaluate(zeroed, x), evaluate(small, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_what_outlives_the_call_keeps_its_units():
    net = Network()
    hidden = net.input(UNITS, name="h")
    rows = 3 * UNITS
    inputs = (net.input(STEPS, 4), net.weight("gru.w_ih", rows, 4), net.weight("gru.w_hh", rows, UNITS))
    y, last = net.graph.add_node(Gru(), (*inputs, "", "", hidden), ("y", "last")).outputs
    graph = net.done(net.node(Linear(), y, net.weight("head", 3, UNITS), out="out"), last)
    assert "of the graph" in dependency_groups(graph).frozen["gru.w_ih"]


@pytest.mark.parametrize("start", [False, True])
def test_the_least_units_go_by_magnitude(start):
    net = Network()
    y = recurrent_layer(net, net.input(STEPS, 4), Lstm(), "lstm", units=UNITS, start=start)
    graph = net.done(net.linear(net.node(Select(1, STEPS - 1), y, out="last"), 3, out="head"))
    weak = [1, 2, 5, 7]
    for name, axis in (("lstm.w_ih", 0), ("lstm.w_hh", 0), ("lstm.w_hh", 1), ("head.weight", 1)):
        array = graph.constants[name].array.copy()
        units = np.concatenate([np.add(weak, UNITS * gate) for gate in range(4)]) if axis == 0 else weak
        array[(slice(None),) * axis + (units,)] *= 0.01
        graph.set_constant(name, Constant(array))
    small = PruneChannels(ratio=0.5, round_to=4).run(graph).graph
    left = [0, 3, 4, 6]
    np.testing.assert_array_equal(small.constants["head.weight"].array, graph.constants["head.weight"].array[:, left])
    rows = np.concatenate([np.add(left, UNITS * gate) for gate in range(4)])
    hh = graph.constants["lstm.w_hh"].array
    np.testing.assert_array_equal(small.constants["lstm.w_hh"].array, hh[np.ix_(rows, left)])
    assert small.constants["lstm.b_ih"].array.shape == (16,)
    # of 8 units, none goes in steps of 8
    assert not PruneChannels(ratio=0.5).run(graph).changed


def test_the_least_units_go_by_a_taylor_expansion(graph):
    from penjing.train.importance import taylor_importance

    (x,) = next(batches(graph, 24))
    first = graph.copy()
    first.outputs = (graph.outputs[0],)
    importance = taylor_importance(first, (x, np.arange(24) % 3), batch_size=8)
    # the reader of the last layer and all of its rows have gradients
    assert importance["plain.w_hh"].any() and importance["there.w_ih"].any()
    scores = sliced_scores(importance)
    small = PruneChannels(ratio={"plain.w_ih": 0.5}, round_to=4, scores=scores).run(first).graph
    slices = groups(first)["plain.w_ih"].slices
    worth = sum(scores[place][at].sum(axis=1) for place, at in slices.items() if place in scores)
    kept = np.sort(np.argsort(worth, kind="stable")[4:])
    np.testing.assert_array_equal(small.constants["head.weight"].array, first.constants["head.weight"].array[:, kept])


def test_readers_are_refitted_to_the_units_left(graph):
    first = graph.copy()
    first.outputs = (graph.outputs[0],)
    # the head alone reads the units, so that its fit is all that counts
    first.set_constant("plain.w_hh", Constant(np.zeros((UNITS, UNITS), np.float32)))
    seen = [x for (x,) in batches(first, 64, count=2)]
    inputs = collect_layer_inputs(first, seen)
    (want,) = evaluate(first, seen[0])
    errors = []
    for fitted in (None, inputs):
        scores = sliced_scores({"plain.w_ih": np.square(first.constants["plain.w_ih"].array)})
        small = PruneChannels(ratio={"plain.w_ih": 0.5}, round_to=4, scores=scores, inputs=fitted).run(first).graph
        errors.append(float(np.square(evaluate(small, seen[0])[0] - want).mean()))
    assert errors[1] < errors[0]


def test_a_budget_of_macs_is_met_by_hidden_units(graph):
    small = PruneChannels(macs=0.5, round_to=2).run(graph).graph
    verify(small)
    assert 0.3 < total_macs(small) / total_macs(graph) <= 0.5


def test_the_library_of_the_pruned_network_equals_the_interpreter(host):
    net = Network()
    x = net.input(STEPS, 6)
    both = net.node(
        Concat(2),
        recurrent_layer(net, x, Lstm(), "there", units=UNITS),
        recurrent_layer(net, x, Lstm(True), "back", units=UNITS),
        out="both",
    )
    graph = net.done(net.linear(net.node(Select(1, 2), both, out="one"), 3, out="head"))
    small = PruneChannels(ratio={"there.w_ih": 0.5, "back.w_ih": 0.25}, round_to=2).run(graph).graph
    assert [small.constants[name].array.shape for name in ("there.w_hh", "back.w_hh")] == [(16, 4), (24, 6)]
    program = api.lower(api.quantize(small, batches(small, 32)))
    report = run_model_suite(program, corner_samples(program, np.random.default_rng(0), 6), host, optimize="-O1")
    assert not report.problems, "\n".join(report.problems)


def test_a_budget_knows_that_gates_are_computed_for_16_units_at_a_time():
    net = Network()
    y = recurrent_layer(net, net.input(STEPS, 64), Lstm(), "lstm", units=32)
    made = net.linear(net.node(Select(1, 2), y, out="one"), 48, out="wide")
    graph = net.done(net.linear(made, 3, out="head"))
    scores = {("lstm.w_ih", 0): np.ones(128), ("wide.weight", 0): np.ones(48)}
    small = PruneChannels(macs=0.9, round_to=8, scores=scores).run(graph).graph
    assert small.constants["lstm.w_hh"].array.shape == (64, 16)
