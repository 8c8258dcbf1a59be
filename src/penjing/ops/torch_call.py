"""One call of a torch operator as the front end saw it, in plain Python: operators read it without torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Operation
from penjing.ir.types import Shape, Type


@dataclass(frozen=True)
class Ref:
    """A tensor argument: the name of a value of the graph under construction, and its type."""

    name: str
    type: Type


@dataclass(frozen=True)
class Imported:
    """What a call becomes: an operator and its inputs ('' for an absent one); no operator: its first input as it is.

    `then` are operators of one input that follow, each on the output of the one before.
    """

    op: Operation | None
    inputs: tuple[str, ...]
    then: tuple[Operation, ...] = ()


class Nodes(Protocol):
    """The graph under construction, for a call that becomes several nodes."""

    def add(self, op: Operation, *inputs: str) -> tuple[str, ...]:
        """Append a node; names of its outputs."""

    def constant(self, stem: str, array: np.ndarray) -> str:
        """Name of a new constant."""

    def value(self, name: str) -> np.ndarray | None:
        """The array of a constant; None for an activation."""

    def type(self, name: str) -> Type:
        """Type of a value."""


@dataclass(frozen=True)
class Composed:
    """A call that becomes several nodes: `build` is given the positions of the outputs that are read; it names them."""

    build: Callable[[Nodes, Collection[int]], Mapping[int, str]]


@dataclass(frozen=True)
class TorchCall:
    """A call: `target` such as `aten.conv2d.default`, arguments by the names of its schema, and the output shapes."""

    target: str
    arguments: Mapping[str, object]
    outputs: tuple[Shape, ...]

    def ref(self, name: str) -> Ref:
        """A tensor argument; UnsupportedOp when a number stands there."""
        value = self.arguments[name]
        if not isinstance(value, Ref):
            raise UnsupportedOp(f"{self.target}: argument {name!r} is {value!r}, not a tensor")
        return value

    def optional(self, name: str) -> str:
        """Name of a tensor argument, '' when it is None or absent."""
        value = self.arguments.get(name)
        return value.name if isinstance(value, Ref) else ""

    def pair(self, name: str) -> tuple[int, int]:
        """An int or a list of one or two ints, as a pair."""
        value = self.arguments[name]
        items = list(value) if isinstance(value, list | tuple) else [value]
        self.require(len(items) in (1, 2) and all(isinstance(i, int) for i in items), f"{name} = {value!r}")
        first, last = items[0], items[-1]
        assert isinstance(first, int) and isinstance(last, int)
        return first, last

    def number(self, name: str) -> float:
        """An int or float argument."""
        value = self.arguments[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UnsupportedOp(f"{self.target}: {name} = {value!r} is not a number")
        return float(value)

    def integer(self, name: str) -> int:
        """An int argument."""
        value = self.arguments[name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise UnsupportedOp(f"{self.target}: {name} = {value!r} is not an integer")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of ints; an int is a list of one."""
        value = self.arguments[name]
        items: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
        self.require(all(isinstance(i, int) and not isinstance(i, bool) for i in items), f"{name} = {value!r}")
        return tuple(int(i) for i in items)

    def flag(self, name: str) -> bool:
        """A bool argument."""
        return bool(self.arguments[name])

    def axis(self, name: str, rank: int) -> int:
        """An axis argument, counted from the front."""
        axis = self.integer(name)
        self.require(-rank <= axis < rank, f"{name} = {axis} for rank {rank}")
        return axis % rank

    def require(self, condition: bool, what: str) -> None:
        """Raise UnsupportedOp unless a restriction holds."""
        if not condition:
            raise UnsupportedOp(f"{self.target} with {what} is not supported")
