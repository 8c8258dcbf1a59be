"""One-shot pruning with compensation: exact where the mathematics says so, and better than magnitude on real layers."""

import numpy as np
import pytest

from penjing.compress.layer_inputs import LayerInputs, collect_layer_inputs
from penjing.compress.prune.hessian_importance import hessian_importance
from penjing.compress.prune.obs import costs, damped, refit, squared_error, sweep
from penjing.compress.prune.patterns import Anywhere, Blocks, NOfM
from penjing.compress.prune.prune_blocks import PruneBlocks
from penjing.compress.prune.prune_magnitude import PruneMagnitude
from penjing.compress.prune.prune_n_of_m import PruneNOfM
from penjing.compress.prune.prune_obs import PruneObs
from penjing.core.errors import InvalidInput, PruningError
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ops.evaluate import evaluate
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu
from penjing.testing.networks import Network

SMALL = 1e-9  # damping that changes nothing to speak of


def network() -> Graph:
    """Three convolutions and a linear layer; behind the first, channels are anything but independent."""
    net = Network(seed=5)
    x = net.node(Relu(), net.conv(net.input(6, 6, 6), 16, out="a"), out="ra")
    y = net.node(Relu(), net.conv(x, 20, out="b"), out="rb")
    z = net.node(Relu(), net.conv(y, 32, out="c", kernel=1), out="rc")
    z = net.node(MaxPool2d((2, 2), (2, 2)), z, out="pool")
    return net.done(net.linear(net.flatten(z, out="flat"), 12, out="d"))


def samples(seed: int = 0, n: int = 48) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 3, 6, 6)) @ rng.normal(size=(6, 6))).repeat(2, axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return network()


@pytest.fixture(scope="module")
def inputs(graph) -> dict[str, LayerInputs]:
    return collect_layer_inputs(graph, [samples()])


def error(graph: Graph, other: Graph, name: str, x: np.ndarray) -> float:
    """Mean squared difference of one layer's outputs, by running both on what the layer of `graph` reads."""
    node = next(node for node in graph.nodes if name in node.inputs)
    seen: dict[str, np.ndarray] = {}
    evaluate(graph, x, watch=lambda value, array: seen.update({value: array}))
    before, after = (node.op.float_reference(seen[node.inputs[0]], g.constants[name].array)[0] for g in (graph, other))
    return float(np.square(before - after).mean())


PATTERNS = [
    (NOfM(4, 16), PruneNOfM(4)),
    (NOfM(2, 4), PruneNOfM(2, 4)),
    (Blocks(0.5, 8, 4), PruneBlocks(0.5, (8, 4))),
    (Anywhere(0.7), PruneMagnitude(0.7)),
]


@pytest.mark.parametrize(("pattern", "by_magnitude"), PATTERNS)
def test_outputs_differ_less_than_by_magnitude_at_the_same_pattern(graph, inputs, pattern, by_magnitude):
    got, (log,) = run_passes(graph, [PruneObs(inputs, pattern, damping=1e-3)])
    plain, _ = run_passes(graph, [by_magnitude])
    assert {remark.where for remark in log.changed} == {"a.weight", "b.weight", "c.weight", "d.weight"}
    for name in ("b.weight", "c.weight", "d.weight"):
        kept, wanted = (g.constants[name].array != 0 for g in (got, plain))
        if not isinstance(pattern, Blocks):  # of which as many stay, but those at an edge are smaller
            assert kept.sum() == wanted.sum()
        # on samples that were not collected from: what is gained is no accident of them
        assert error(graph, got, name, samples(1)) < 0.7 * error(graph, plain, name, samples(1))


@pytest.mark.parametrize("pattern", [NOfM(3, 8), Blocks(0.6, 4, 4), Anywhere(0.8)])
@pytest.mark.parametrize("rounds", [None, 1, 5])
def test_the_pattern_is_met_exactly_and_zeros_stay_zero(graph, inputs, pattern, rounds):
    thinned, _ = run_passes(graph, [PruneMagnitude(0.3)])
    named = {"b.weight": pattern, "c.weight": pattern}
    got, _ = run_passes(thinned, [PruneObs(inputs, per_layer=named, rounds=rounds)])
    for name in named:
        before, after = thinned.constants[name].array, got.constants[name].array
        assert (after[before == 0] == 0).all()
        # its own mask changes nothing more, which is to say that the pattern holds
        again = pattern.mask(after)
        np.testing.assert_array_equal(again, after != 0)


def test_more_rounds_cost_less_error(graph, inputs):
    errors = []
    for rounds in (1, 4, 16):
        got, _ = run_passes(
            graph, [PruneObs(inputs, per_layer={"c.weight": Anywhere(0.8)}, rounds=rounds, damping=SMALL)]
        )
        change = (got.constants["c.weight"].array - graph.constants["c.weight"].array).reshape(32, -1)
        errors.append(squared_error(change, inputs["c.weight"].gram[0]))
    assert errors[0] > errors[1] > errors[2]


def test_what_stays_is_the_least_squares_solution_and_the_costs_are_the_errors():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 8)) @ rng.normal(size=(8, 8))
    h, w = x.T @ x / 200, rng.normal(size=(3, 8))
    mask = rng.random((3, 8)) < 0.6
    best = refit(w, h, mask)
    for row in range(3):
        solved = np.linalg.lstsq(x[:, mask[row]], x @ w[row], rcond=None)[0]
        np.testing.assert_allclose(best[row, mask[row]], solved, rtol=1e-8)
    for groups in (np.arange(8)[:, None], np.array([[0, 1, 2], [3, 4, 5], [6, 7, -1]])):
        predicted = costs(best, h, mask, groups)
        base = [squared_error((best - w)[[row]], h) for row in range(3)]
        for group in groups:
            columns = group[group >= 0]
            for row in range(3):
                less = mask[[row]].copy()
                less[0, columns] = False
                added = squared_error(refit(w[[row]], h, less) - w[[row]], h) - base[row]
                shared = predicted[row, columns[mask[row, columns]]]
                whole = shared.sum() * len(columns) / max(1, len(shared))
                assert whole == pytest.approx(added, rel=1e-6, abs=1e-9)


def test_with_independent_inputs_the_sweep_keeps_what_magnitude_keeps():
    w = np.random.default_rng(1).normal(size=(6, 24))
    np.testing.assert_array_equal(sweep(w, np.eye(24), NOfM(3, 8), (24,)), NOfM(3, 8).mask(w))


def test_an_input_that_repeats_another_costs_nothing_to_drop():
    h = damped(np.kron(np.eye(4), np.ones((2, 2))), 1e-8)
    w = np.arange(1.0, 9.0)[None]
    mask = sweep(w, h, NOfM(1, 2), (8,))
    got = refit(w, h, mask)
    np.testing.assert_allclose(got[mask], [3, 7, 11, 15], rtol=1e-4)


def test_hessian_importance_is_half_the_error_of_dropping_each_weight_alone(graph, inputs):
    found = hessian_importance(graph, inputs, damping=SMALL)
    w, h = graph.constants["c.weight"].array.reshape(32, -1).astype(np.float64), inputs["c.weight"].gram[0]
    h = damped(h, SMALL)
    mask = np.ones_like(w, np.bool_)
    mask[:, 5] = False
    change = refit(w, h, mask) - w
    wanted = [squared_error(change[[row]], h) / 2 for row in range(32)]
    np.testing.assert_allclose(found["c.weight"].reshape(32, -1)[:, 5], wanted, rtol=1e-5)
    assert set(found) == set(inputs)


def test_layers_are_declined_with_a_reason(graph, inputs):
    some = {name: seen for name, seen in inputs.items() if name != "c.weight"}
    pass_ = PruneObs(some, NOfM(4), per_layer={"b.weight": None})
    _, (log,) = run_passes(graph, [pass_])
    assert {remark.where: remark.text for remark in log.declined} == {
        "b.weight": "no pattern is asked for",
        "c.weight": "nothing is known of what it reads",
    }


def test_a_depthwise_layer_is_pruned_when_it_is_named():
    net = Network()
    graph = net.done(net.conv(net.input(8, 6, 6), 8, out="depthwise", groups=8))
    x = np.random.default_rng(0).normal(size=(16, 8, 6, 6)).astype(np.float32)
    seen = collect_layer_inputs(graph, [x])
    got, (log,) = run_passes(graph, [PruneObs(seen, Anywhere(0.5))])
    assert log.changed == () and "groups" in log.declined[0].text
    got, _ = run_passes(graph, [PruneObs(seen, per_layer={"depthwise.weight": Anywhere(0.5)})])
    plain, _ = run_passes(graph, [PruneMagnitude(0.5)])
    assert (got.constants["depthwise.weight"].array == 0).sum() == 36
    assert error(graph, got, "depthwise.weight", x) < error(graph, plain, "depthwise.weight", x)


def test_bad_options_and_statistics_of_another_graph_are_refused(graph, inputs):
    for bad in ({}, {"pattern": NOfM(4), "rounds": 0}, {"pattern": NOfM(4), "damping": 0.0}):
        with pytest.raises(PruningError):
            run_passes(graph, [PruneObs(inputs, **bad)])
    other = dict.fromkeys(inputs, inputs["a.weight"])
    with pytest.raises(InvalidInput, match="from this very graph") as caught:
        run_passes(graph, [PruneObs(other, NOfM(4))])
    assert caught.value.where == "b.weight"


def test_a_layer_that_saw_only_zeros_is_pruned_by_what_is_left_to_go_by(graph, inputs):
    dead = {name: LayerInputs(np.zeros_like(seen.gram), seen.mean, seen.rows) for name, seen in inputs.items()}
    got, _ = run_passes(graph, [PruneObs(dead, NOfM(4))])
    plain, _ = run_passes(graph, [PruneNOfM(4)])
    np.testing.assert_allclose(got.constants["b.weight"].array, plain.constants["b.weight"].array, rtol=1e-5)
