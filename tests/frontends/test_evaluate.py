"""A float graph in numpy: inputs are checked, every value can be watched, and memory is given back."""

import weakref

import numpy as np
import pytest

from penjing.core.errors import InvalidGraph, InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.types import Constant, Dim, State, Type
from penjing.ops.add import Add
from penjing.ops.evaluate import evaluate
from penjing.ops.relu import Relu
from penjing.ops.table import QTable


def chain() -> Graph:
    """y = relu(a + b) + shift"""
    graph = Graph("chain")
    for name in "ab":
        graph.add_input(name, Type((Dim("batch", 1), 2)))
    graph.add_constant("shift", Constant(np.array([10.0, 20.0], np.float32)))
    graph.add_node(Add(), ("a", "b"), ("sum",))
    graph.add_node(Relu(), ("sum",), ("relu",))
    graph.add_node(Add(), ("relu", "shift"), ("y",))
    graph.outputs = ("y", "sum")
    return graph


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_outputs_come_in_order_for_any_batch():
    for batch in (1, 3):
        y, total = evaluate(chain(), ones(batch, 2), -3 * ones(batch, 2))
        assert np.array_equal(total, np.full((batch, 2), -2.0))
        assert np.array_equal(y, np.tile([10.0, 20.0], (batch, 1)))


def test_every_input_and_node_output_is_watched_in_order():
    seen = []
    evaluate(chain(), ones(1, 2), ones(1, 2), watch=lambda name, array: seen.append((name, array.shape)))
    assert [name for name, _ in seen] == ["a", "b", "sum", "relu", "y"]
    assert {shape for _, shape in seen} == {(1, 2)}


def test_values_are_freed_after_their_last_use():
    graph = Graph("long")
    graph.add_input("x", Type((Dim("batch", 1), 2)))
    for i in range(5):
        graph.add_node(Relu(), ("x" if i == 0 else f"r{i - 1}",), (f"r{i}",))
    graph.outputs = ("r4",)
    made: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def watch(name: str, array: np.ndarray) -> None:
        alive.append(sum(earlier() is not None for earlier in made))
        if name != "x":  # the caller's own
            made.append(weakref.ref(array))

    evaluate(graph, ones(1, 2), watch=watch)
    assert alive == [0, 0, 1, 1, 1, 1]  # only what the node reads


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((ones(1, 2),), "1 inputs were given, chain takes 2"),
        ((ones(1, 2), ones(1, 3)), r"input %b has shape \(1, 3\), expected \(batch, 2\)"),
        ((ones(1, 2), ones(2)), "has shape"),
        ((ones(1, 2), ones(0, 2)), "has shape"),
        ((ones(1, 2), np.ones((1, 2))), "must be f32, not float64"),
        ((ones(1, 2), ones(2, 2)), "input %b has batch = 2, another input 1"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, said):
    with pytest.raises(InvalidInput, match=said):
        evaluate(chain(), *inputs)


def test_graphs_without_a_float_meaning_are_refused():
    graph = chain()
    graph.states["hidden"] = State(Type((1, 2)), "y")
    with pytest.raises(InvalidGraph, match="states"):
        evaluate(graph, ones(1, 2), ones(1, 2))
    program = Graph("integer")
    program.add_input("x", Type((Dim("batch", 1), 2)))
    program.nodes.append(type(chain().nodes[0])(QTable(), ("x",), ("y",)))
    with pytest.raises(InvalidGraph, match="q_table has no float meaning"):
        evaluate(program, ones(1, 2))
