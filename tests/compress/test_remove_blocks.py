"""Residual blocks that lose their branch: which there are, what is left, how much each does, and what is refused."""

import numpy as np
import pytest

from penjing.compress.structure.remove_blocks import RemoveBlocks
from penjing.compress.structure.residual_blocks import block_effects, residual_blocks
from penjing.core.errors import CalibrationError, InvalidInput, PruningError
from penjing.ir.graph import Graph
from penjing.ir.passes import PassLog, run_passes
from penjing.ir.text import print_graph
from penjing.ir.types import Constant
from penjing.ir.verify import verify
from penjing.ops.add import Add
from penjing.ops.evaluate import evaluate
from penjing.ops.mean import Mean
from penjing.ops.relu import Relu
from penjing.testing.networks import Network, batches


def remove(graph: Graph, effects: dict[str, float], count: int = 1) -> tuple[Graph, PassLog]:
    before = print_graph(graph)
    small, (log,) = run_passes(graph, [RemoveBlocks(effects, count)])
    verify(small)
    assert print_graph(graph) == before
    assert (small.inputs, small.outputs) == (graph.inputs, graph.outputs)
    return small, log


def residual(count: int = 3) -> Graph:
    """`count` blocks of two convolutions, each after the one before, the branch on either side of the sum."""
    net = Network("residual", seed=4)
    x = net.node(Relu(), net.conv(net.input(2, 6, 6), 4, out="stem"), out="h")
    for i in range(count):
        inner = net.node(Relu(), net.conv(x, 6, out=f"a{i}"), out=f"r{i}")
        operands = (net.conv(inner, 4, out=f"b{i}"), x)
        x = net.node(Relu(), net.node(Add(), *(operands if i % 2 else operands[::-1]), out=f"s{i}"), out=f"x{i}")
    return net.done(net.linear(net.node(Mean((2, 3)), x, out="mean"), 3, out="fc"))


def without_branch(graph: Graph, number: int) -> Graph:
    """The same with the weights of the branch's last layer zero: what a removed branch adds."""
    zeroed = graph.copy()
    for name in (f"b{number}.weight", f"b{number}.bias"):
        zeroed.set_constant(name, Constant(np.zeros_like(graph.constants[name].array)))
    return zeroed


def test_the_blocks_are_the_sums_with_one_operand_that_carries_the_input():
    blocks, reasons = residual_blocks(residual())
    assert [(b.output, b.shortcut, b.branch) for b in blocks] == [
        ("s0", "h", "b0"), ("s1", "x0", "b1"), ("s2", "x1", "b2")
    ]  # fmt: skip
    assert [node.output for node in blocks[1].nodes] == ["a1", "r1", "b1"]
    assert not reasons


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_graph_without_a_block_is_the_graph_whose_branch_adds_nothing(number):
    graph = residual()
    small, log = remove(graph, {f"s{number}": 0.1})
    inputs = next(batches(graph, 3))
    (want,), (got,) = evaluate(without_branch(graph, number), *inputs), evaluate(small, *inputs)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * float(np.abs(want).max()))
    assert len(small.nodes) == len(graph.nodes) - 4
    assert f"a{number}.weight" not in small.constants
    assert log.changed[0].where == f"s{number}" and "0.1" in log.changed[0].text
    assert len([remark for remark in log.declined if "no effect" in remark.text]) == 2


def test_the_blocks_of_least_effect_go_first_also_one_after_the_other():
    graph = residual(4)
    small, log = remove(graph, {"s0": 0.3, "s1": 0.1, "s2": 0.1, "s3": 0.7}, count=2)
    assert [remark.where for remark in log.changed] == ["s1", "s2"]
    assert [remark.where for remark in log.declined] == ["s0", "s3"]
    inputs = next(batches(graph, 2))
    (want,) = evaluate(without_branch(without_branch(graph, 1), 2), *inputs)
    np.testing.assert_allclose(evaluate(small, *inputs)[0], want, rtol=0, atol=1e-5 * float(np.abs(want).max()))


def test_an_effect_is_the_ratio_of_the_norms_of_branch_and_shortcut():
    graph = residual()
    seen: dict[str, list[np.ndarray]] = {}
    data = [x[0] for x in batches(graph, 4, count=2)]
    for x in data:
        evaluate(graph, x, watch=lambda name, array: seen.setdefault(name, []).append(array))
    norm = {name: np.linalg.norm(np.concatenate([a.ravel() for a in arrays])) for name, arrays in seen.items()}
    counts: list[int] = []
    effects = block_effects(graph, data, counts.append)
    assert counts == [4, 8]
    assert effects == pytest.approx({"s0": norm["b0"] / norm["h"], "s1": norm["b1"] / norm["x0"],
                                     "s2": norm["b2"] / norm["x1"]}, rel=1e-5)  # fmt: skip


def test_what_is_no_block_stays_with_the_reason():
    net = Network()
    x = net.conv(net.input(3, 4, 4), 3, out="x0")
    y = net.input(3, 4, 4, name="y")
    both = net.node(Add(), net.conv(x, 3, out="left"), net.conv(x, 3, out="right"), out="both")
    neither = net.node(Add(), both, net.node(Relu(), both, out="bent"), out="neither")
    read = net.conv(neither, 3, out="read")
    twice = net.node(Add(), read, neither, out="twice")
    foreign = net.node(Add(), net.conv(twice, 3, out="elsewhere"), y, out="foreign")
    shifted = net.node(Add(), foreign, net.constant("shift", np.ones((3, 1, 1))), out="shifted")
    last = net.node(Add(), net.conv(shifted, 3, out="branch"), shifted, out="last")
    graph = net.done(last, net.node(Relu(), read, out="other"))
    blocks, reasons = residual_blocks(graph)
    assert not blocks
    for name, reason in {
        "both": "both operands hold layers",
        "neither": "neither operand holds a layer",
        "twice": "reads its branch too",
        "foreign": "what the shortcut does not carry",
        "shifted": "other shapes",
        "last": "an output of the graph",
    }.items():
        assert reason in reasons[name], name
    _, log = remove(graph, {}, count=0)
    assert {remark.where for remark in log.declined} == set(reasons)
    with pytest.raises(PruningError, match="no residual block: both operands"):
        remove(graph, {"both": 1.0})


@pytest.mark.parametrize(
    ("effects", "count", "reason"),
    [
        ({"s0": 0.1}, 2, "2 blocks cannot go of the 1"),
        ({"s0": 0.1}, -1, "-1 blocks"),
        ({"s9": 0.1}, 1, "%s9 is no residual block"),
        ({"s0": float("nan")}, 1, "finite"),
        ({"s0": float("inf")}, 1, "finite"),
    ],
)
def test_options_that_make_no_sense_are_refused(effects, count, reason):
    with pytest.raises(PruningError, match=reason):
        remove(residual(), effects, count)


def test_effects_need_samples_that_fit_and_are_finite():
    graph = residual()
    with pytest.raises(CalibrationError, match="empty"):
        block_effects(graph, [])
    with pytest.raises(CalibrationError, match="NaN"):
        block_effects(graph, [np.full((1, 2, 6, 6), np.nan, np.float32)])
    with pytest.raises(InvalidInput):
        block_effects(graph, [np.zeros((1, 2, 6, 5), np.float32)])
