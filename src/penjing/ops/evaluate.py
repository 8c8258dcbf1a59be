"""The float meaning of a whole graph: node by node in numpy, each value freed after its last use."""

from collections.abc import Callable

import numpy as np

from penjing.core.errors import InvalidGraph, InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.types import Dim
from penjing.ops.operator import Operator

Watch = Callable[[str, np.ndarray], None]


def evaluate(graph: Graph, *inputs: np.ndarray, watch: Watch | None = None) -> tuple[np.ndarray, ...]:
    """Run a float graph with the operators' own references.

    Args:
        graph: a graph of network operators, in stage imported, cleaned or compressed.
        inputs: one float32 array per graph input; a symbolic extent may have any size, the same one wherever its name
            occurs.
        watch: called with the name and the array of every graph input and every node output, in order. The array may
            be read, not kept for writing.

    Returns:
        One float32 array per graph output.

    Raises:
        InvalidInput: the number, shape or dtype of the inputs does not fit.
        InvalidGraph: the graph carries states or integer operators, which have no float meaning of one call.
    """
    if graph.states:
        raise InvalidGraph("states have no float meaning of a single call", where=f"graph {graph.name}")
    values = {name: constant.array for name, constant in graph.constants.items()}
    values |= _checked_inputs(graph, inputs)
    if watch is not None:
        for name in graph.inputs:
            watch(name, values[name])
    kept = {*graph.constants, *graph.outputs}
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    for i, node in enumerate(graph.nodes):
        if not isinstance(node.op, Operator):
            raise InvalidGraph(f"{node.op.name} has no float meaning", where=str(node))
        arguments = [values[name] if name else None for name in node.inputs]
        results = dict(zip(node.outputs, node.op.float_reference(*arguments), strict=True))
        if watch is not None:
            for name, array in results.items():
                watch(name, array)
        values |= {name: array for name, array in results.items() if name in last_use or name in kept}
        for name in node.inputs:
            if last_use[name] == i and name not in kept:
                values.pop(name, None)
    return tuple(values[name] for name in graph.outputs)


def _checked_inputs(graph: Graph, inputs: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    if len(inputs) != len(graph.inputs):
        raise InvalidInput(f"{len(inputs)} inputs were given, {graph.name} takes {len(graph.inputs)}")
    extents: dict[str, int] = {}
    for name, array in zip(graph.inputs, inputs, strict=True):
        type_ = graph.types[name]
        if array.dtype != type_.dtype.numpy:
            raise InvalidInput(f"input %{name} must be {type_.dtype}, not {array.dtype}")
        if not type_.matches(array.shape):
            expected = ", ".join(e.name if isinstance(e, Dim) else str(e) for e in type_.shape)
            raise InvalidInput(f"input %{name} has shape {array.shape}, expected ({expected})")
        for extent, n in zip(type_.shape, array.shape, strict=True):
            if isinstance(extent, Dim) and extents.setdefault(extent.name, n) != n:
                raise InvalidInput(f"input %{name} has {extent.name} = {n}, another input {extents[extent.name]}")
    return dict(zip(graph.inputs, inputs, strict=True))
