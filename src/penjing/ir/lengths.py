"""Sequences of any length: what of a graph follows the length, and which lengths stand for all when it is checked."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import cast

from penjing.core.errors import InvalidGraph, PenjingError
from penjing.ir.graph import Graph, Operation
from penjing.ir.types import LENGTH, Dim, Type, is_length

_FIRST = 34  # lengths that are all looked at: those around every width of vectors


def length_bound(graph: Graph) -> int | None:
    """The longest sequence that a graph takes; None where all shapes of a sample are fixed.

    Raises:
        InvalidGraph: values follow lengths of different bounds.
    """
    found = {extent.max for type_ in graph.types.values() for extent in type_.shape if is_length(extent)}
    if len(found) > 1:
        raise InvalidGraph(f"lengths with different bounds: {sorted(found)}", where=f"graph {graph.name}")
    return found.pop() if found else None


def length_axes(type_: Type) -> tuple[int, ...]:
    """The axes that are the length of a sequence."""
    return tuple(axis for axis, extent in enumerate(type_.shape) if is_length(extent))


def lengths_to_check(bound: int) -> list[int]:
    """Lengths 1 to `bound` at which a rule is checked: all short ones, those around powers of two, and the longest."""
    around = {2**k + d for k in range(5, bound.bit_length() + 1) for d in (-1, 0, 1)}
    return sorted(n for n in {*range(1, _FIRST), *around, bound - 1, bound} if 1 <= n <= bound)


def at_length(op: Operation, n: int) -> Operation:
    """The operator with the lengths among its attributes at most `n`."""
    assert is_dataclass(op)
    values = {field.name: getattr(op, field.name) for field in fields(op)}
    changed = {name: _cut(value, n) for name, value in values.items() if _cut(value, n) != value}
    return cast(Operation, replace(op, **changed)) if changed else op


def check_any_length(op: Operation, inputs: Sequence[Type], outputs: Sequence[Type]) -> None:
    """Raise InvalidGraph unless a shape rule that gave `outputs` at the bound holds at shorter lengths too.

    A rule may take the bound for a fixed extent, or compute with it.
    """
    bounds = {extent.max for type_ in (*inputs, *outputs) for extent in type_.shape if is_length(extent)}
    for n in sorted({1, 2, *(b - 1 for b in bounds)} - {0} if bounds else ()):
        given = tuple(type_.at_length(n) for type_ in inputs)
        try:
            found = at_length(op, n).infer(*given)
        except PenjingError as error:
            raise InvalidGraph(f"cannot take sequences of any length: at {n}, {error.what}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise InvalidGraph("cannot take sequences of any length") from error
        for got, want in zip(found, outputs, strict=True):
            if got.shape != want.at_length(n).shape:
                said = " and ".join(f"({', '.join(map(str, t.shape))})" for t in (want, got))
                raise InvalidGraph(
                    f"cannot take sequences of any length: its outputs at the bound and at {n} are {said}"
                )


def _cut(value: object, n: int) -> object:
    if isinstance(value, tuple):
        return tuple(_cut(item, n) for item in value)
    return Dim(LENGTH, n) if is_length(value) else value
