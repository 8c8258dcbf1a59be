"""Kernels shrink to the 1x1 that least squares says, outputs stay where they were, and what cannot shrink says why."""

import dataclasses

import numpy as np
import pytest

from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.structure.shrink_kernels import ShrinkKernels
from penjing.core.errors import CalibrationError, InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ops.add import Add
from penjing.ops.conv1d import Conv1d
from penjing.ops.conv2d import Conv2d
from penjing.ops.evaluate import evaluate
from penjing.ops.relu import Relu
from penjing.testing.networks import Network

# operator, sample shape, weight shape
LAYERS = {
    "same": (Conv2d(padding=(1, 1, 1, 1)), (4, 6, 7), (5, 4, 3, 3)),
    "5x5": (Conv2d(padding=(2, 2, 2, 2)), (3, 6, 6), (4, 3, 5, 5)),
    "stride 2": (Conv2d((2, 2), (1, 1, 1, 1)), (4, 7, 6), (5, 4, 3, 3)),
    "valid": (Conv2d(), (4, 6, 7), (5, 4, 3, 3)),
    "valid, stride 2": (Conv2d((2, 3)), (4, 9, 8), (5, 4, 3, 3)),
    "dilated": (Conv2d((1, 2), (2, 1, 2, 3), (2, 1)), (2, 8, 9), (3, 2, 3, 3)),
    "much padding": (Conv2d(padding=(3, 2, 2, 3)), (2, 5, 4), (3, 2, 3, 1)),
    "grouped": (Conv2d(padding=(1, 1, 1, 1), groups=2), (4, 5, 5), (6, 2, 3, 3)),
    "depthwise": (Conv2d(padding=(1, 1, 1, 1), groups=4), (4, 5, 5), (4, 1, 3, 3)),
    "sequence": (Conv1d(2, (2, 2)), (3, 11), (4, 3, 5)),
}


def network(kind: str, *, bias: bool = True) -> Graph:
    op, shape, weight = LAYERS[kind]
    net = Network()
    names = [net.weight("w", *weight)] + ([net.weight("b", weight[0])] if bias else [])
    return net.done(net.node(Relu(), net.node(op, net.input(*shape), *names, out="y"), out="z"))


def samples(graph: Graph, n: int = 40) -> np.ndarray:
    """Smooth around 1, so that neighbours know of one another and means matter."""
    x = np.random.default_rng(2).normal(1, 1, size=(n, *graph.types["x"].bounds[1:]))
    return (x + np.roll(x, 1, -1) + np.roll(x, 2, -1)).astype(np.float32)


def shrink(graph: Graph, x: np.ndarray, **options):
    seen = collect_layer_inputs(graph, [x])
    got, (log,) = run_passes(graph, [ShrinkKernels(seen, **options)])
    return got, log


def output(graph: Graph, x: np.ndarray, name: str) -> np.ndarray:
    seen: dict[str, np.ndarray] = {}
    evaluate(graph, x, watch=lambda value, array: seen.update({value: array}))
    return seen[name].astype(np.float64)


def told_error(text: str) -> float:
    return float(text.split("error ")[1].split(",")[0])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_shrunken_layer_is_the_least_squares_answer_of_the_same_shape(kind, bias):
    graph = network(kind, bias=bias)
    x = samples(graph)
    got, log = shrink(graph, x, layers=("w",))
    assert got.types["y"] == graph.types["y"] and got.outputs == graph.outputs
    assert set(got.constants["w"].array.shape[2:]) == {1}
    want, y = output(graph, x, "y"), output(got, x, "y")
    residual = y - want
    # the normal equations: what is left is orthogonal to all that the 1x1 can say, constants included
    read = collect_layer_inputs(got, [x])["w"]
    node = next(node for node in got.nodes if "w" in node.inputs)
    seen_x = x if node.inputs[0] == "x" else output(got, x, node.inputs[0]).astype(np.float32)
    operands = node.op.weight_operands(seen_x, got.constants["w"].array)
    rest = np.moveaxis(residual, 1, -1).reshape(operands.shape[1], len(read.gram), -1)
    scale = np.abs(want).max() * np.abs(operands).max()
    assert np.abs(np.einsum("gnk,ngo->gko", operands, rest)).max() < 1e-5 * scale * len(rest)
    assert np.abs(residual.mean((0, *range(2, residual.ndim)))).max() < 1e-5 * np.abs(want).max()
    deviation = want - want.mean((0, *range(2, want.ndim)), keepdims=True)
    error = np.sqrt(np.square(residual).sum() / np.square(deviation).sum())
    assert told_error(log.changed[0].text) == pytest.approx(error, abs=1e-3)


def test_a_kernel_that_is_its_centre_shrinks_without_an_error():
    for kind, (_, _, shape) in LAYERS.items():
        graph = network(kind)
        weight = np.zeros(shape, np.float32)
        centre = (slice(None), slice(None), *(n // 2 for n in shape[2:]))
        weight[centre] = np.random.default_rng(0).normal(size=shape[:2])
        graph.set_constant("w", dataclasses.replace(graph.constants["w"], array=weight))
        x = samples(graph)
        got, log = shrink(graph, x, count=1)
        np.testing.assert_allclose(*(evaluate(g, x)[0] for g in (got, graph)), atol=2e-5)
        assert "error 0.000" in log.changed[0].text, kind


def chain() -> Graph:
    net = Network()
    value = net.input(3, 6, 6)
    for i, kernel in enumerate((3, 5, 3, 1)):
        value = net.node(Relu(), net.conv(value, 4, out=f"c{i}", kernel=kernel), out=f"r{i}")
    net.weight("even", 4, 4, 2, 2)
    value = net.node(Conv2d(), value, "even", out="e")
    net.weight("twice", 4, 4, 3, 3)
    value = net.node(Conv2d(padding=(1, 1, 1, 1)), value, "twice", out="t0")
    return net.done(net.node(Conv2d(padding=(1, 1, 1, 1)), value, "twice", out="t1"))


def test_those_that_lose_least_shrink_first_and_the_rest_say_why_not():
    graph = chain()
    x = samples(graph)
    _, log = shrink(graph, x, count=3)
    errors = {r.where: told_error(r.text) for r in log.changed}
    assert set(errors) == {"c0.weight", "c1.weight", "c2.weight"}
    least = min(errors, key=errors.get)
    _, log = shrink(graph, x, count=1)
    assert [remark.where for remark in log.changed] == [least]
    why = {remark.where: remark.text for remark in log.declined}
    assert "one position" in why["c3.weight"] and "2x2 has no centre" in why["even"] and "shared" in why["twice"]
    assert sum("others lose less" in text for text in why.values()) == 2
    _, log = shrink(graph, x, ratio=0.99)
    assert len(log.changed) == 2
    _, log = shrink(graph, x, layers=("even",))
    assert not log.changed and len(log.declined) == 1


def test_macs_and_bytes_are_those_of_the_layer():
    graph = network("same", bias=False)
    _, log = shrink(graph, samples(graph), count=1)
    assert f"{5 * 4 * 9 * 42} -> {5 * 4 * 42} MACs, {5 * 4 * 9 * 4} -> {5 * 4 * 4 + 20} bytes" in log.changed[0].text


@pytest.mark.parametrize(
    "options", [{}, {"count": 1, "ratio": 0.5}, {"count": 0}, {"count": 9}, {"ratio": 0}, {"ratio": 1.5},
                {"ratio": float("nan")}, {"layers": ("nowhere",)}, {"layers": ("b",)}]
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(options):
    graph = network("same")
    with pytest.raises(InvalidInput):
        shrink(graph, samples(graph), **options)


def test_sums_of_another_layer_are_refused_and_missing_ones_decline():
    graph, other = network("same"), network("valid, stride 2")
    seen = collect_layer_inputs(network("5x5"), [samples(network("5x5"))])
    with pytest.raises(CalibrationError, match="sums of shape"):
        run_passes(graph, [ShrinkKernels(seen, layers=("w",))])
    spoilt = {
        "w": dataclasses.replace(collect_layer_inputs(other, [samples(other)])["w"], mean=np.full((1, 36), np.nan))
    }
    with pytest.raises(CalibrationError, match="NaN"):
        run_passes(other, [ShrinkKernels(spoilt, layers=("w",))])
    _, (log,) = run_passes(graph, [ShrinkKernels({}, layers=("w",))])
    assert "not among the inputs" in log.declined[0].text


def test_a_short_cut_around_a_shrunken_layer_still_fits():
    net = Network()
    x = net.input(4, 5, 5)
    graph = net.done(net.node(Add(), net.conv(x, 4, out="c"), x, out="y"))
    got, _ = shrink(graph, samples(graph), ratio=1)
    assert got.types["y"] == graph.types["y"]
