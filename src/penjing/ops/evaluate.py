"""The float meaning of a whole graph: node by node in numpy, each value freed after its last use."""

from collections.abc import Callable

import numpy as np

from penjing.core.errors import InvalidGraph
from penjing.ir.graph import Graph
from penjing.ir.inputs import named_inputs
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
    values |= named_inputs(graph, inputs)
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
