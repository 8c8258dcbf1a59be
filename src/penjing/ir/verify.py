"""The verifier: run after every pass, it states what a legal graph is."""

import numpy as np

from penjing.core.errors import InvalidGraph, PenjingError
from penjing.ir.graph import Graph, Node
from penjing.ir.types import MAX_RANK, DType

STAGES = ("imported", "cleaned", "compressed", "lowered", "planned")
_INTEGER_STAGES = ("lowered", "planned")


def verify(graph: Graph) -> None:
    """Raise InvalidGraph naming the first node that breaks a rule.

    Rules: a known stage; every value defined once and before its use; recorded types equal to what the operators' shape
    rules say; ranks at most 6; constants finite; outputs and state updates exist; in the integer stages no float
    activations and only operators that have an integer meaning.
    """
    if graph.stage not in STAGES:
        raise InvalidGraph(f"unknown stage {graph.stage!r}", where=f"graph {graph.name}")
    defined = _entry_values(graph)
    for node in graph.nodes:
        _check_node(graph, node, defined)
        defined.update(node.outputs)
    for name in graph.sinks():
        if name not in defined:
            raise InvalidGraph(f"output %{name} is never computed", where=f"graph {graph.name}")
    extra = set(graph.types) - defined
    if extra:
        raise InvalidGraph(f"types recorded for values that do not exist: {sorted(extra)}", where=f"graph {graph.name}")


def _entry_values(graph: Graph) -> set[str]:
    defined: set[str] = set()
    for name in (*graph.inputs, *graph.constants, *graph.states):
        if not name or name in defined:
            raise InvalidGraph(f"value %{name} is defined twice", where=f"graph {graph.name}")
        if name not in graph.types:
            raise InvalidGraph(f"value %{name} has no type", where=f"graph {graph.name}")
        defined.add(name)
    for name, constant in graph.constants.items():
        if constant.type != graph.types[name]:
            raise InvalidGraph(f"constant %{name} is {constant.type}, recorded as {graph.types[name]}")
        if constant.array.dtype.kind == "f" and not np.isfinite(constant.array).all():
            raise InvalidGraph(f"constant %{name} holds NaN or infinity", hint="check the training run that made it")
    return defined


def _check_node(graph: Graph, node: Node, defined: set[str]) -> None:
    for name in node.inputs:
        if name and name not in defined:
            raise InvalidGraph(f"input %{name} is not defined before its use", where=str(node))
    for name in node.outputs:
        if not name or name in defined:
            raise InvalidGraph(f"value %{name} is defined twice", where=str(node))
    try:
        inferred = node.op.infer(*graph.input_types(node))
    except PenjingError as error:
        error.where = error.where or str(node)
        raise
    recorded = tuple(graph.types.get(name) for name in node.outputs)
    for name, got, expected in zip(node.outputs, recorded, inferred, strict=True):
        if got is None or (got.shape, got.dtype) != (expected.shape, expected.dtype):
            raise InvalidGraph(f"%{name} is recorded as {got}, the shape rule says {expected}", where=str(node))
        if got.rank > MAX_RANK:
            raise InvalidGraph(f"%{name} has rank {got.rank}, more than {MAX_RANK}", where=str(node))
        if graph.stage in _INTEGER_STAGES and got.dtype is DType.F32:
            raise InvalidGraph(f"float value %{name} in the {graph.stage} stage", where=str(node))
    if graph.stage in _INTEGER_STAGES and not hasattr(node.op, "integer_reference"):
        raise InvalidGraph(f"{node.op.name} has no integer meaning and cannot stand in a program", where=str(node))
