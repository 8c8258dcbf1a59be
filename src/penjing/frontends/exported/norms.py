"""Norms that a module computes by their formulas become the norms of torch, before they are read:

    x * rsqrt(mean(x^2) + eps) * gamma                    aten.rms_norm
    (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * gamma + beta    aten.layer_norm

over the last axis, with or without casts between, as language models write them. What others read of the parts stays.
"""

import math
from collections.abc import Iterator
from typing import Any

from penjing.frontends.exported.arithmetic import CASTS
from penjing.frontends.exported.places import target_of
from penjing.frontends.exported.trace import import_torch

_PURE = ("sub", "mean", "add", "mul")


def whole_norms(graph: Any) -> None:
    """Rewrite an fx graph in place; its dead nodes stay."""
    for node in list(graph.nodes):
        found = _norm(node)
        if found is not None:
            _replace(graph, node, *found)
    for node in list(graph.nodes):
        _take_parameter(node)


def _norm(node: Any) -> tuple[Any, float, bool] | None:
    """(x, eps, whether x is centred) of the last node of a norm."""
    for x, other, root in _quotients(node):
        radicand = _one(other, root)
        mean, eps = _plus(radicand) if radicand is not None else (None, 0.0)
        square = _mean(mean) if mean is not None else None
        if square is None or not _is_square(square, x):
            continue
        centre = _centred(x)
        return (x, eps, False) if centre is None else (centre, eps, True)
    return None


def _quotients(node: Any) -> Iterator[tuple[Any, Any, str]]:
    """(x, other, what makes other of the radicand) wherever a node may be x over a root."""
    operation, operands = _call(node)
    if operation == "div" and len(operands) == 2:
        yield operands[0], operands[1], "sqrt"
    if operation == "mul" and len(operands) == 2:
        yield operands[0], operands[1], "rsqrt"
        yield operands[1], operands[0], "rsqrt"


def _call(node: Any) -> tuple[str, list[Any]]:
    """(`mul`, its operands without casts) of a call of ATen."""
    if not hasattr(node, "op") or node.op != "call_function" or not hasattr(node.target, "_schema"):
        return "", []
    return target_of(node).split(".")[1], [_uncast(x) for x in node.args]


def _uncast(node: Any) -> Any:
    while hasattr(node, "op") and node.op == "call_function" and target_of(node) in CASTS:
        node = node.args[0]
    return node


def _one(node: Any, operation: str) -> Any | None:
    """The operand of a call of one operand."""
    name, operands = _call(node)
    return operands[0] if name == operation else None


def _plus(node: Any) -> tuple[Any | None, float]:
    """(value, number) of a sum with a number that is not negative."""
    name, operands = _call(node)
    if name != "add" or len(operands) != 2 or node.kwargs:
        return None, 0.0
    x, number = operands if isinstance(operands[1], int | float) else operands[::-1]
    return (x, float(number)) if isinstance(number, int | float) and 0 <= number < math.inf else (None, 0.0)


def _mean(node: Any) -> Any | None:
    """x of a mean over the last axis that keeps it."""
    name, operands = _call(node)
    if name != "mean" or len(operands) != 3 or operands[2] is not True or not isinstance(operands[1], list | tuple):
        return None
    rank = operands[0].meta["val"].dim()
    return operands[0] if rank > 1 and list(operands[1]) in ([-1], [rank - 1]) else None


def _is_square(node: Any, x: Any) -> bool:
    name, operands = _call(node)
    if name not in ("square", "pow", "mul") or not _same(operands[0], x):
        return False
    return name == "square" or (operands[1] == 2 if name == "pow" else _same(operands[1], x))


def _centred(node: Any) -> Any | None:
    """x of x - mean of x."""
    name, operands = _call(node)
    if name != "sub" or len(operands) != 2 or node.kwargs:
        return None
    x = _mean(operands[1])
    return x if x is not None and _same(x, operands[0]) else None


def _same(a: Any, b: Any, depth: int = 4) -> bool:
    """Whether two values are one, or computed by equal calls."""
    if a is b or not (hasattr(a, "op") and hasattr(b, "op")):
        return a is b or (not hasattr(a, "op") and not hasattr(b, "op") and bool(a == b))
    (name, mine), (other, theirs) = _call(a), _call(b)
    if depth == 0 or not name or name != other or a.kwargs != b.kwargs or len(mine) != len(theirs):
        return False
    return name in _PURE and all(_same(x, y, depth - 1) for x, y in zip(mine, theirs, strict=True))


def _replace(graph: Any, node: Any, x: Any, eps: float, is_centred: bool) -> None:
    aten = import_torch().ops.aten
    shape = [x.meta["val"].shape[-1]]
    with graph.inserting_before(node):
        if is_centred:
            new = graph.call_function(aten.layer_norm.default, (x, shape, None, None, eps))
        else:
            new = graph.call_function(aten.rms_norm.default, (x, shape, None, eps))
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)


def _take_parameter(node: Any) -> None:
    """A factor or offset behind a norm that lacks it, if only this node reads the norm."""
    operation, operands = _call(node)
    place = {"mul": 2, "add": 3}.get(operation)
    if place is None or len(operands) != 2 or node.kwargs:
        return
    for norm, parameter in (operands, operands[::-1]):
        name, arguments = _call(norm)
        if name not in ("rms_norm", "layer_norm") or (place == 3 and name == "rms_norm") or _readers(norm) != [node]:
            continue
        shape = list(arguments[1])
        is_known = getattr(parameter, "op", "") == "placeholder" and list(parameter.meta["val"].shape) == shape
        if is_known and arguments[place] is None and (place == 3 or name == "rms_norm" or arguments[3] is None):
            norm.update_arg(place, parameter)
            node.replace_all_uses_with(norm)
            return


def _readers(node: Any) -> list[Any]:
    """What reads a value or a cast of it."""
    found: list[Any] = []
    for user in node.users:
        if target_of(user) in CASTS:
            found += _readers(user)
        elif user.users or user.op == "output":  # not what export asserts of a cast
            found.append(user)
    return found
