"""Axes that a model joins with the batch and takes apart again, as torch writes attention: carried, or told."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from penjing.core.errors import UnsupportedOp
from penjing.core.length import Length
from penjing.frontends.onnx.capture import capture, coverage
from penjing.frontends.onnx.joined import at_probes, regrouped
from penjing.ops.evaluate import evaluate
from penjing.ops.onnx_call import BATCH

onnxruntime = pytest.importorskip("onnxruntime")
rng = np.random.default_rng(2)
HOWS = {"one length": {"shapes": {"x": (6, 8)}}, "any length": {"length": Length(9)}}


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], **attributes)


def scaled_dot_product():
    """Keys turned as torch.onnx does: K (n, h, l, d) -> (n * h, l, d) -> (n * h, d, l) -> (n, h, d, l)."""
    nodes = [
        node("Reshape", "x apart", "split"),
        node("Transpose", "split", "q", perm=[0, 2, 1, 3]),
        node("Shape", "q", "shape"),
        node("Slice", "shape zero two", "leads"),
        node("Slice", "shape two three", "steps"),
        node("Slice", "shape three four", "width"),
        node("Concat", "minus steps width", "joined", axis=0),
        node("Reshape", "q joined", "k1"),
        node("Transpose", "k1", "k2", perm=[0, 2, 1]),
        node("Concat", "leads width steps", "whole", axis=0),
        node("Reshape", "k2 whole", "k"),
        node("Mul", "k half", "k_half"),
        node("MatMul", "q k_half", "scores"),
        node("Softmax", "scores", "weights", axis=-1),
        node("MatMul", "weights q", "attended"),
        node("Transpose", "attended", "back", perm=[0, 2, 1, 3]),
        node("Reshape", "back flat", "y"),
    ]
    constants = {name: np.array([i]) for name, i in [("zero", 0), ("two", 2), ("three", 3), ("four", 4), ("minus", -1)]}
    constants |= {"apart": np.array([0, 0, 2, 4]), "flat": np.array([0, 0, 8]), "half": np.float32(0.5)}
    return nodes, constants


def batched_products(targets):
    """MultiheadAttention of steps first: heads join the batch, steps and batch are the rows of what comes behind."""
    nodes = [
        node("Transpose", "x", "rows", perm=[1, 0, 2]),
        node("Reshape", "rows with_heads", "split"),
        node("Transpose", "split", "q", perm=[1, 0, 2]),
        node("Mul", "q half", "scaled"),
        node("Transpose", "split", "k", perm=[1, 2, 0]),
        node("MatMul", "scaled k", "scores"),
        node("Add", "scores hidden", "masked"),
        node("Softmax", "masked", "weights", axis=2),
        node("MatMul", "weights q", "attended"),
        node("Transpose", "attended", "back", perm=[1, 0, 2]),
        node("Reshape", "back flat", "features"),
        node("Gemm", "features w b", "dense", transB=1),
        node("Relu", "dense", "positive"),
        node("Reshape", "positive steps", "z"),
        node("Transpose", "z", "y", perm=[1, 0, 2]),
    ]
    constants = {"half": np.float32(0.5), "flat": np.array([-1, 8]), "b": rng.normal(size=8).astype(np.float32)}
    constants["w"] = rng.normal(size=(8, 8)).astype(np.float32)
    constants["hidden"] = np.triu(np.full((1, 6, 6), -np.inf, np.float32), 1)
    return nodes, constants | targets


def of_any_batch():
    """`batched_products` with targets that are computed from the shape of x."""
    nodes = [
        node("Shape", "x", "shape"),
        node("Slice", "shape zero one", "n"),
        node("Slice", "shape one two", "l"),
        node("Mul", "n two", "n2"),
        node("Concat", "l n2 four", "with_heads", axis=0),
        node("Concat", "l n eight", "steps", axis=0),
        node("Concat", "one l l", "square", axis=0),
        node("Expand", "low square", "all"),
        node("Trilu", "all one_", "hidden"),
    ]
    numbers = {"zero": 0, "one": 1, "two": 2, "four": 4, "eight": 8}
    others, constants = batched_products({name: np.array([i]) for name, i in numbers.items()})
    del constants["hidden"]
    return nodes + others, constants | {"low": np.float32(-1e9), "one_": np.array(1)}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("network", [scaled_dot_product, of_any_batch])
def test_heads_that_join_the_batch_come_apart(save, network, how):
    nodes, constants = network()
    path = save(nodes, ("n", "l", 8), constants)
    graph = capture(path, **HOWS[how]).graph
    names = [n.op.name for n in graph.nodes]
    assert names.count("matmul") == names.count("attend") == 1
    (attend,) = [n.op for n in graph.nodes if n.op.name == "attend"]
    assert attend.causal == (network is of_any_batch)
    if network is scaled_dot_product:
        assert names == ["reshape", "permute", "permute", "matmul", "attend", "permute", "reshape"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for steps in (6,) if how == "one length" else (1, 4, 9):
        x = rng.normal(size=(3, steps, 8)).astype(np.float32)
        np.testing.assert_allclose(evaluate(graph, x)[0], session.run(None, {"x": x})[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_model_for_one_batch_is_carried_for_any(save, batch):
    targets = {"with_heads": np.array([6, 2 * batch, 4]), "steps": np.array([6, batch, 8])}
    nodes, constants = batched_products(targets)
    path = save(nodes, (batch, 6, 8), constants)
    graph = capture(path).graph
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = rng.normal(size=(2 * batch, 6, 8)).astype(np.float32)
    halves = [session.run(None, {"x": half})[0] for half in (x[:batch], x[batch:])]
    np.testing.assert_allclose(evaluate(graph, x)[0], np.concatenate(halves), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "readers",
    [
        [],
        [node("Softmax", "joined", "y", axis=0)],
        [node("ReduceMean", "joined", "y", axes=[1])],
        [node("Mul", "joined each", "y")],
        [node("Mul", "joined deep", "y")],
        [node("Squeeze", "joined", "z"), node("Reshape", "z uneven", "y")],
        [node("Add", "joined other", "y")],  # of as many elements, joined in other places
        [node("MatMul", "joined w", "z"), node("Reshape", "z uneven", "y")],
        [node("Transpose", "joined", "y", perm=[0, 1, 1])],
        [node("Relu", "joined", "a"), node("Concat", "a a", "y", axis=0)],
    ],
)
def test_what_never_comes_apart_is_told_of_the_node_that_joins(save, readers):
    nodes = [
        node("Reshape", "x target", "joined" if readers else "y"),
        node("Transpose", "x", "turned", perm=[1, 0, 2]),
        node("Reshape", "turned target", "other"),
        *readers,
    ]
    constants = {"target": np.array([-1, 3, 4]), "each": np.ones((3, 1, 1), np.float32), "uneven": np.array([9, -1])}
    constants |= {"w": np.ones((4, 4), np.float32), "deep": np.full((1, 1, 1, 1), 2, np.float32)}
    path = save(nodes, ("n", 6, 4), constants)
    with pytest.raises(UnsupportedOp):
        capture(path)
    table = coverage(path)
    turned = any("perm" in str(reader) for reader in readers)
    assert [row.target for row in table.unsupported] == (["Transpose"] if turned else ["Reshape"])


def test_moves_of_extents_of_one_vanish(save):
    nodes = [
        node("Unsqueeze", "x one", "a"),
        node("Transpose", "a", "b", perm=[0, 2, 1, 3]),
        node("Reshape", "b back", "c"),
        node("Relu", "c", "y"),
    ]
    path = save(nodes, ("n", 5, 4), {"one": np.array([1]), "back": np.array([0, 5, 4])})
    assert [n.op.name for n in capture(path).graph.nodes] == ["relu"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), max_size=5), st.integers(0, 5), st.lists(st.integers(1, 3), min_size=1, max_size=6))
def test_a_regrouping_has_the_extents_that_are_wanted(extents, at, sizes):
    shape = (*extents[:at], BATCH, *extents[at:])
    runs, left = [], list(shape)
    for size in sizes:
        runs.append(left[:size])
        left = left[size:]
    runs.append(left)
    wanted = tuple(tuple(map(math.prod, (at_probes(tuple(run))[probe] for run in runs))) for probe in (0, 1))
    found = regrouped(shape, wanted)
    assert found is not None
    parts, groups = found
    assert [axis for group in groups for axis in group] == list(range(len(parts)))
    for probe, extents_ in enumerate(wanted):
        held = at_probes(parts)[probe]
        assert tuple(math.prod(held[axis] for axis in group) for group in groups) == extents_
    assert regrouped(shape, (wanted[0], (*wanted[1][:-1], wanted[1][-1] + 1))) is None
