"""The verifier: run after every pass, it states what a legal graph is."""

import math
import re

import numpy as np

from penjing.core.errors import InvalidGraph, PenjingError
from penjing.ir.graph import Graph, Node
from penjing.ir.lengths import check_any_length, length_bound
from penjing.ir.types import MAX_RANK, Dim, DType, State, Type, bound, is_length

STAGES = ("imported", "cleaned", "compressed", "lowered", "planned")
INTEGER_STAGES = ("lowered", "planned")
DIM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,255}")
_CODE_RANGES = {DType.U8: (0, 255), DType.S8: (-128, 127), DType.S16: (-(2**15), 2**15 - 1)}
# what a shape rule may run into before it can say what is wrong: too few inputs, other ranks, huge numbers
_RULE_FAULTS = (ArithmeticError, LookupError, TypeError, ValueError)


def verify(graph: Graph) -> None:
    """Raise InvalidGraph naming the first value or node that breaks a rule.

    Rules: a known stage; every value defined once and before its use; recorded types equal to what the operators' shape
    rules say; ranks at most 6 and extents at least 1; scales positive and finite, one per slice of their axis, zero
    points among the codes; constants finite; outputs and state updates exist. In the integer stages moreover: no float
    enters or leaves, operators have an exact meaning, and outputs and updates are distinct values made by nodes. With a
    length of sequences: one bound, no states, and shape rules that hold at shorter ones too.
    """
    if graph.stage not in STAGES:
        raise InvalidGraph(f"unknown stage {graph.stage!r}", where=_place(graph))
    defined = _entry_values(graph)
    for node in graph.nodes:
        _check_node(graph, node, defined)
        defined.update(node.outputs)
    _check_ends(graph, defined)
    _check_length(graph)
    extra = set(graph.types) - defined
    if extra:
        raise InvalidGraph(f"types recorded for values that do not exist: {sorted(extra)}", where=_place(graph))


def _entry_values(graph: Graph) -> set[str]:
    defined: set[str] = set()
    for name in (*graph.inputs, *graph.constants, *graph.states):
        if not name or name in defined:
            raise InvalidGraph(f"value %{name} is defined twice", where=_place(graph))
        if name not in graph.types:
            raise InvalidGraph(f"value %{name} has no type", where=_place(graph))
        if name not in graph.constants:
            _check_type(name, graph.types[name], _place(graph))
            _check_codes(graph, name)
        defined.add(name)
    for name, constant in graph.constants.items():
        if constant.type != graph.types[name]:
            raise InvalidGraph(
                f"constant %{name} is {constant.type}, recorded as {graph.types[name]}", where=_place(graph)
            )
        _check_type(name, constant.type, _place(graph))
        if constant.array.dtype.kind == "f" and not np.isfinite(constant.array).all():
            raise InvalidGraph(
                f"constant %{name} holds NaN or infinity",
                where=_place(graph),
                hint="check the training run that made it",
            )
    return defined


def _check_node(graph: Graph, node: Node, defined: set[str]) -> None:
    for name in node.inputs:
        if name and name not in defined:
            raise InvalidGraph(f"input %{name} is not defined before its use", where=str(node))
    for name in node.outputs:
        if not name or name in defined or node.outputs.count(name) > 1:
            raise InvalidGraph(f"value %{name} is defined twice", where=str(node))
    inferred = _inferred(graph, node)
    if len(inferred) != len(node.outputs):
        raise InvalidGraph(f"{node.op.name} makes {len(inferred)} values, not {len(node.outputs)}", where=str(node))
    for name, expected in zip(node.outputs, inferred, strict=True):
        got = graph.types.get(name)
        if got is None or (got.shape, got.dtype) != (expected.shape, expected.dtype):
            raise InvalidGraph(f"%{name} is recorded as {got}, the shape rule says {expected}", where=str(node))
        _check_type(name, graph.types[name], str(node))
    if graph.stage in INTEGER_STAGES and not hasattr(node.op, "integer_reference"):
        raise InvalidGraph(f"{node.op.name} has no integer meaning and cannot stand in a program", where=str(node))


def _inferred(graph: Graph, node: Node) -> tuple[Type, ...]:
    try:
        return node.op.infer(*graph.input_types(node))
    except PenjingError as error:
        error.where = error.where or str(node)
        raise
    except _RULE_FAULTS as error:
        taken = ", ".join(
            f"%{name} {graph.types[name].dtype}{graph.types[name].bounds}" for name in node.inputs if name
        )
        raise InvalidGraph(f"{node.op.name} cannot take ({taken}): {error}", where=str(node)) from error


def _check_length(graph: Graph) -> None:
    """Shape rules hold at every length, not only at the bound, which some may take for a fixed extent."""
    longest = length_bound(graph)
    if longest is None:
        return
    if graph.states:
        raise InvalidGraph("it has states, and sequences of any length", where=_place(graph))
    for name in graph.inputs:
        if is_length(graph.types[name].shape[0]):
            raise InvalidGraph(f"the length of input %{name} is its axis 0, that of the batch", where=_place(graph))
    for node in graph.nodes:
        try:
            check_any_length(node.op, graph.input_types(node), graph.output_types(node))
        except InvalidGraph as error:
            raise InvalidGraph(f"{node.op.name} {error.what}", where=str(node)) from error


def _check_codes(graph: Graph, name: str) -> None:
    """What enters and leaves a program are codes; between, operators may hand on float32."""
    if graph.stage in INTEGER_STAGES and graph.types[name].dtype is DType.F32:
        raise InvalidGraph(f"float value %{name} enters or leaves the {graph.stage} stage", where=_place(graph))


def _check_type(name: str, type_: Type, where: str) -> None:
    if type_.rank > MAX_RANK:
        raise InvalidGraph(f"%{name} has rank {type_.rank}, more than {MAX_RANK}", where=where)
    for extent in type_.shape:
        if bound(extent) < 1 or (isinstance(extent, Dim) and not DIM_NAME.fullmatch(extent.name)):
            raise InvalidGraph(f"%{name} has an extent of {extent}", where=where)
    quant = type_.quant
    if quant is None:
        return
    if not all(math.isfinite(scale) and scale > 0 for scale in quant.scales):
        raise InvalidGraph(f"%{name} has a scale that is not a positive number", where=where)
    slices = 1
    if quant.axis is not None:
        slices = type_.bounds[quant.axis] if 0 <= quant.axis < type_.rank else -1
    if len(quant.scales) != slices:
        raise InvalidGraph(f"%{name} of {type_.bounds} has {len(quant.scales)} scales along {quant.axis}", where=where)
    low, high = _CODE_RANGES.get(type_.dtype, (quant.zero_point, quant.zero_point))
    if not low <= quant.zero_point <= high:
        raise InvalidGraph(f"%{name} has zero point {quant.zero_point}, which is no {type_.dtype} code", where=where)


def _check_ends(graph: Graph, defined: set[str]) -> None:
    if not graph.outputs:
        raise InvalidGraph("it has no outputs", where=_place(graph))
    for name in (*graph.outputs, *(state.update for state in graph.states.values())):
        if name not in defined:
            raise InvalidGraph(f"output %{name} is never computed", where=_place(graph))
    for name, state in graph.states.items():
        _check_start(graph, name, state)
        recorded, update = graph.types[name], graph.types[state.update]
        if len({(type_.shape, type_.dtype) for type_ in (recorded, state.type, update)}) > 1:
            raise InvalidGraph(
                f"state %{name} is {state.type}, recorded as {recorded}, and its update %{state.update} is {update}",
                where=_place(graph),
            )
    if graph.stage not in INTEGER_STAGES:
        return
    made = {name for node in graph.nodes for name in node.outputs}
    ends = (*graph.outputs, *(state.update for state in graph.states.values()))
    for i, name in enumerate(ends):
        if name not in made or name in ends[:i]:
            raise InvalidGraph(f"output %{name} is not a value of its own", where=_place(graph))
        _check_codes(graph, name)


def _check_start(graph: Graph, name: str, state: State) -> None:
    first = state.initial if isinstance(state.initial, tuple) else (state.initial,)
    if not all(map(math.isfinite, first)):
        raise InvalidGraph(f"state %{name} starts at {state.initial}", where=_place(graph))
    wanted = math.prod(state.type.bounds[1:])
    if isinstance(state.initial, tuple) and len(first) != wanted:
        raise InvalidGraph(f"state %{name} of {wanted} elements starts at {len(first)} numbers", where=_place(graph))


def _place(graph: Graph) -> str:
    return f"graph {graph.name}"
