"""Factors are the best of their rank for the samples, come only where they save work, and add up to the layer."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.structure.low_rank import LowRank
from penjing.core.errors import CalibrationError, InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant
from penjing.ops.conv1d import Conv1d
from penjing.ops.conv2d import Conv2d
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.operator import Operator
from penjing.ops.relu import Relu
from penjing.testing.networks import Network

# operator, sample shape, weight shape
LAYERS = {
    "linear": (Linear(), (24,), (20, 24)),
    "linear on rows": (Linear(), (3, 24), (20, 24)),
    "conv2d": (Conv2d(padding=(1, 1, 1, 1)), (10, 6, 6), (14, 10, 3, 3)),
    "strided": (Conv2d((2, 1), (1, 0, 1, 2), (1, 2)), (10, 7, 8), (14, 10, 3, 3)),
    "1x1": (Conv2d(), (16, 4, 4), (18, 16, 1, 1)),
    "sequence": (Conv1d(2, (1, 1)), (10, 9), (14, 10, 3)),
}


def network(kind: str, *, bias: bool = True, rank: int | None = None) -> Graph:
    op, shape, weight = LAYERS[kind]
    net = Network()
    array = net.rng.normal(size=weight)
    if rank is not None:
        rows = array.reshape(weight[0], -1)
        array = (rows[:, :rank] @ rows[:rank]).reshape(weight)
    names = [net.constant("w", array), *([net.weight("b", weight[0])] if bias else [])]
    return net.done(net.node(Relu(), net.node(op, net.input(*shape), *names, out="y"), out="z"))


def samples(graph: Graph, n: int = 60) -> np.ndarray:
    """Correlated, around a mean that is not zero."""
    rng = np.random.default_rng(2)
    shape = graph.types["x"].bounds[1:]
    x = rng.normal(size=(n, *shape))
    return (0.7 + x + 2 * np.roll(x, 1, 1) * rng.uniform(0, 1, size=shape)).astype(np.float32)


def factor(graph: Graph, **options):
    got, (log,) = run_passes(graph, [LowRank(**options)])
    return got, log


def output(graph: Graph, x: np.ndarray) -> np.ndarray:
    seen: dict[str, np.ndarray] = {}
    evaluate(graph, x, watch=lambda value, array: seen.update({value: array}))
    return seen["y"].astype(np.float64)


def told_error(log) -> float:
    return float(log.changed[0].text.split("error ")[1].split(",")[0])


def error(graph: Graph, got: Graph, x: np.ndarray) -> float:
    want, y = output(graph, x), output(got, x)
    channels = want.ndim - 1 if graph.nodes[0].op.name == "linear" else 1
    axes = tuple(axis for axis in range(want.ndim) if axis != channels)
    return float(np.linalg.norm(y - want) / np.linalg.norm(want - want.mean(axes, keepdims=True)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_of_low_rank_is_the_same_in_less_work(kind, bias):
    graph = network(kind, bias=bias, rank=4)
    got, log = factor(graph, energy=1.0)
    assert "rank 4:" in log.changed[0].text and told_error(log) == 0
    assert set(got.constants) == {"w.down", "w.up", *(["b"] if bias else [])}
    x = samples(graph)
    np.testing.assert_allclose(output(got, x), output(graph, x), atol=2e-4)


@pytest.mark.parametrize("kind", LAYERS)
def test_by_samples_the_error_is_the_least_of_that_rank_and_is_told(kind):
    graph = network(kind)
    x = samples(graph)
    seen = collect_layer_inputs(graph, [x])
    by_weight, _ = factor(graph, ranks={"w": 5})
    by_output, log = factor(graph, ranks={"w": 5}, inputs=seen)
    least = error(graph, by_output, x)
    assert least == pytest.approx(told_error(log), abs=1e-3)
    assert least < error(graph, by_weight, x)
    # Eckart and Young: what is left of the outputs' covariance are its smallest eigenvalues
    rows = np.moveaxis(output(graph, x), 1 if kind not in ("linear", "linear on rows") else -1, -1)
    values = np.linalg.eigvalsh(np.cov(rows.reshape(-1, rows.shape[-1]).T))[::-1]
    assert least == pytest.approx(np.sqrt(values[5:].sum() / values.sum()), rel=1e-3)


@pytest.mark.parametrize("form", ["channels", "tucker"])
@pytest.mark.parametrize("kind", ["conv2d", "strided", "sequence"])
def test_errors_fall_with_the_rank_and_work_is_what_is_told(kind, form):
    graph = network(kind)
    x = samples(graph)
    seen = collect_layer_inputs(graph, [x])
    errors = []
    for r in (1, 2, 4, 6):
        ranks = {"w": r if form == "channels" else (r, r)}
        got, log = factor(graph, ranks=ranks, inputs=seen, form=form)
        assert len(got.nodes) == (3 if form == "channels" else 4)
        spent = 0
        for node in got.nodes:
            assert isinstance(node.op, Operator)
            spent += node.op.cost(got.input_types(node), got.output_types(node)).macs
        assert f"-> {spent} MACs" in log.changed[0].text
        errors.append(error(graph, got, x))
        assert errors[-1] == pytest.approx(told_error(log), abs=1e-3)
    assert sorted(errors, reverse=True) == errors and errors[0] > 2 * errors[-1] - 1


def test_tucker_of_full_rank_is_the_layer_and_is_declined_as_it_saves_nothing():
    graph = network("conv2d", rank=3)
    seen = collect_layer_inputs(graph, [samples(graph)])
    got, log = factor(graph, ranks={"w": (10, 3)}, form="tucker", inputs=seen)
    x = samples(graph)
    np.testing.assert_allclose(output(got, x), output(graph, x), atol=1e-3)
    assert set(got.constants) == {"w.down", "w.core", "w.up", "b"} and log.changed
    got, log = factor(graph, ranks={"w": (10, 14)}, form="tucker")
    assert got.constants.keys() == graph.constants.keys() and "the layer" in log.declined[0].text


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 1), st.sampled_from(["channels", "tucker"]), st.sampled_from([1, 4]))
def test_a_budget_is_kept_and_used(budget, form, multiple):
    graph = network("conv2d")
    _, log = factor(graph, budget=budget, form=form, multiple=multiple)
    if not log.changed:
        assert re.search(r"rank .* needs \d+ ", log.declined[0].text)
        return
    whole, spent = map(int, re.findall(r"(\d+) -> (\d+) MACs", log.changed[0].text)[0])
    inner = {int(n) for n in log.changed[0].text.split(":")[0].removeprefix("rank ").split(" x ")}
    assert all(n % multiple == 0 or n in (10, 14) for n in inner)
    assert spent <= budget * whole
    if min(inner) > multiple:
        # one step more in every rank would be beyond
        assert spent * (1 + multiple / min(inner)) ** 2 * 1.4 > budget * whole


def test_a_budget_that_no_rank_meets_leaves_the_layer_and_says_so():
    _, log = factor(network("linear"), budget=0.01)
    assert not log.changed
    assert log.declined[0].text == "rank 1, the smallest, needs 44 of 480 MACs: more than the budget"


def test_energy_chooses_the_smallest_rank_that_keeps_it_and_multiples_round_up():
    graph = network("linear")
    values = np.linalg.svd(graph.constants["w"].array, compute_uv=False) ** 2
    share = np.cumsum(values) / values.sum()
    rank = int(np.argmax(share >= 0.6)) + 1
    _, log = factor(graph, energy=0.6)
    assert f"rank {rank}:" in log.changed[0].text
    _, log = factor(graph, energy=0.6, multiple=4)
    assert f"rank {-(-rank // 4) * 4}:" in log.changed[0].text


def test_what_would_not_save_work_or_cannot_be_cut_says_why():
    net = Network()
    value = net.node(Conv2d(groups=4), net.input(8, 5, 5), net.weight("grouped", 8, 2, 3, 3), out="a")
    value = net.node(Conv2d(), value, net.constant("zero", np.zeros((8, 8, 1, 1))), out="b")
    value = net.node(Linear(), net.flatten(value, out="f"), net.weight("wide", 30, 72), out="c")
    net.weight("twice", 30, 30)
    value = net.node(Linear(), net.node(Linear(), value, "twice", out="d"), "twice", out="e")
    graph = net.done(value)
    got, log = factor(graph, energy=0.999)
    why = {remark.where: remark.text for remark in log.declined}
    assert not log.changed and set(got.constants) == set(graph.constants)
    assert "4 groups" in why["grouped"] and "zero" in why["zero"] and "shared" in why["twice"]
    assert "needs" in why["wide"] and "2160" in why["wide"]
    _, log = factor(graph, budget=0.5, layers=("wide",))
    assert [remark.where for remark in log.changed] == ["wide"] and not log.declined


def test_zeros_that_are_lost_are_told():
    graph = network("linear")
    weight = graph.constants["w"].array
    graph.set_constant("w", Constant(np.where(np.abs(weight) < 0.7, np.float32(0), weight)))
    _, log = factor(graph, budget=0.5)
    assert "were zero and are not any more" in log.changed[0].text


@pytest.mark.parametrize(
    "options", [{}, {"energy": 0.5, "budget": 0.5}, {"energy": 1.01}, {"energy": 0}, {"budget": 0.0}, {"budget": 2},
                {"energy": float("nan")}, {"ranks": {"w": 0}}, {"ranks": {"w": (2, 0)}}, {"ranks": {"w": (2, 2)}},
                {"ranks": {"nowhere": 2}}, {"ranks": {"w": 2}, "layers": ("w",)}, {"energy": 0.5, "layers": ("b",)},
                {"energy": 0.5, "form": "cp"}, {"energy": 0.5, "multiple": 0}]
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(InvalidInput):
        factor(network("conv2d"), **options)


def test_a_pair_is_asked_for_where_inputs_are_cut_too():
    with pytest.raises(InvalidInput, match="1 ranks"):
        factor(network("conv2d"), ranks={"w": 3}, form="tucker")


def test_spoilt_weights_and_sums_are_refused():
    graph, other = network("linear"), network("conv2d")
    with pytest.raises(CalibrationError):
        factor(graph, energy=0.5, inputs=collect_layer_inputs(other, [samples(other)]))
    graph.set_constant("w", Constant(np.full((20, 24), np.nan, np.float32)))
    with pytest.raises(InvalidInput, match="NaN"):
        LowRank(energy=0.5).run(graph)
