"""One node of an ONNX model as the front end saw it, in plain Python: operators read it without the onnx package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.ir.types import LENGTH, Constant, Dim, Extent, Quant, Shape, is_batch
from penjing.ops.torch_call import Imported, Ref

BATCH = Dim("batch", 1)
# What does not depend on the data is evaluated for both of these batch sizes, the longest sequences and those that are
# one step shorter; what differs as they do is the batch, or the length. Small, as masks may follow both.
PROBES = (5, 7)

__all__ = ["BATCH", "PROBES", "Imported", "Known", "OnnxCall", "Ref", "at_probe", "probed_extent"]


def at_probe(shape: Shape, probe: int) -> tuple[int, ...]:
    """A shape as it is at the first (0) or second (1) probe."""
    return tuple(n if isinstance(n, int) else PROBES[probe] if is_batch(n) else n.max - probe for n in shape)


def probed_extent(first: int, second: int, longest: int | None) -> Extent | None:
    """The extent that is `first` and `second` at the probes; None where it is a mixture."""
    if first == second:
        return first
    if (first, second) == PROBES:
        return BATCH
    return Dim(LENGTH, longest) if longest is not None and (first, second) == (longest, longest - 1) else None


@dataclass(frozen=True, eq=False)
class Known:
    """A tensor that is known before any input is, such as a weight or what `Shape` gives.

    Attributes:
        name: of the ONNX value.
        array: the numbers; where they follow the batch or the length, those at the first probe.
        other: those at the second; the same object where neither has a say.
        quant: of floats that are scale * int8 code.
    """

    name: str
    array: np.ndarray
    other: np.ndarray
    quant: Quant | None = None

    @property
    def is_constant(self) -> bool:
        """Whether neither the batch nor the length has a say."""
        return self.array is self.other or (
            self.array.shape == self.other.shape and bool(np.array_equal(self.array, self.other))
        )


Operand = Ref | Known


@dataclass(frozen=True)
class OnnxCall:
    """One node.

    Attributes:
        target: the operator, such as `Conv`.
        opset: version of the operator set that the model asks for.
        inputs: None for an absent one.
        attributes: those that are given: int, float, str, tuples of these, arrays.
        outputs: how many outputs the model reads.
        batch: the batch that the model is written for; None when it takes any.
        make: adds a constant to the graph under construction.
        longest: the longest sequence; None where all lengths are fixed.
    """

    target: str
    opset: int
    inputs: tuple[Operand | None, ...]
    attributes: Mapping[str, object]
    outputs: int
    batch: int | None
    make: Callable[[str, Constant], Ref]
    longest: int | None = None

    def require(self, condition: bool, what: str) -> None:
        """Raise UnsupportedOp unless a restriction holds."""
        if not condition:
            raise UnsupportedOp(f"{self.target} with {what} is not supported")

    def has(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def name(self, position: int) -> str:
        """The name of an input in the model."""
        return self._operand(position).name

    def activation(self, position: int) -> Ref:
        """An input that is computed from the model's inputs."""
        operand = self._operand(position)
        if not isinstance(operand, Ref):
            raise UnsupportedOp(f"{self.target}: its input {position} is a constant, where an activation is needed")
        return operand

    def operand(self, position: int) -> Ref:
        """An input, activation or constant; the constant becomes one of the graph."""
        operand = self._operand(position)
        return operand if isinstance(operand, Ref) else self._made(operand, self.array(position), operand.quant)

    def array(self, position: int) -> np.ndarray:
        """A constant input."""
        operand = self._operand(position)
        if not isinstance(operand, Known):
            raise UnsupportedOp(f"{self.target}: its input {position}, %{operand.name}, is computed from the data")
        self.require(operand.is_constant, f"%{operand.name} that follows the size of the batch or the length")
        return operand.array

    def weight(self, position: int, perm: tuple[int, ...] | None = None, factor: float = 1.0) -> Ref:
        """A constant float input, its axes in the order `perm`, times `factor`; it keeps its grid where it can."""
        operand = self._operand(position)
        array = self.array(position)
        assert isinstance(operand, Known)
        self.require(array.dtype.kind == "f", f"a weight of {array.dtype}")
        quant = operand.quant
        if perm is not None:
            self.require(array.ndim == len(perm), f"a weight of rank {array.ndim}, where {len(perm)} is needed,")
            array = array.transpose(perm)
            if quant is not None and quant.axis is not None:
                quant = Quant(quant.scales, quant.zero_point, perm.index(quant.axis))
        if factor != 1:
            array, quant = array * np.float32(factor), None
        return self._made(operand, array, quant)

    def optional_weight(self, position: int) -> tuple[str, ...]:
        """The name of a constant float input, alone in a tuple; () where it is absent."""
        return (self.weight(position).name,) if self.has(position) else ()

    def constant(self, stem: str, array: np.ndarray) -> Ref:
        """A new float constant of the graph."""
        return self.make(stem, Constant(np.asarray(array, np.float32)))

    def probed(self, position: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """A known input of integers, at both probes."""
        operand = self._operand(position)
        if not isinstance(operand, Known):
            raise UnsupportedOp(f"{self.target}: its input {position}, %{operand.name}, is computed from the data")
        self.require(operand.array.dtype.kind in "iu", f"numbers of {operand.array.dtype}")
        first, second = (tuple(int(n) for n in array.reshape(-1)) for array in (operand.array, operand.other))
        self.require(len(first) == len(second), "as many numbers as there are samples")
        return first, second

    def extents(self, position: int) -> tuple[Extent, ...]:
        """A known input as numbers, of which some may be the batch or the length."""
        return self.as_extents(*self.probed(position))

    def as_extents(self, first: tuple[int, ...], second: tuple[int, ...]) -> tuple[Extent, ...]:
        """Numbers at both probes as extents."""
        found = [probed_extent(a, b, self.longest) for a, b in zip(first, second, strict=True)]
        what = "the batch" if self.longest is None else "the batch or the length"
        self.require(None not in found, f"an extent that mixes {what} with another")
        return tuple(extent for extent in found if extent is not None)

    def integers(self, position: int) -> tuple[int, ...]:
        """A constant input of integers."""
        array = self.array(position)
        self.require(array.dtype.kind in "iu", f"numbers of {array.dtype}")
        return tuple(int(n) for n in array.reshape(-1))

    def scalar(self, position: int, default: float) -> float:
        """A constant input of one number, or the default where it is absent."""
        if not self.has(position):
            return default
        array = self.array(position)
        self.require(array.size == 1, f"{array.size} numbers in the place of one")
        return float(array.reshape(-1)[0])

    def number(self, name: str, default: float) -> float:
        """A float attribute."""
        value = self.attributes.get(name, default)
        self.require(isinstance(value, int | float), f"{name} = {value!r}")
        assert isinstance(value, int | float)
        return float(value)

    def integer(self, name: str, default: int) -> int:
        """An int attribute."""
        value = self.attributes.get(name, default)
        self.require(isinstance(value, int), f"{name} = {value!r}")
        assert isinstance(value, int)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """An int attribute that is 0 or 1."""
        return self.integer(name, int(default)) != 0

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        self.require(isinstance(value, str), f"{name} = {value!r}")
        return str(value)

    def given(self, name: str) -> tuple[int, ...] | None:
        """A list of ints, None where it is absent."""
        value: Any = self.attributes.get(name)
        if value is None:
            return None
        self.require(isinstance(value, tuple) and all(isinstance(n, int) for n in value), f"{name} = {value!r}")
        return tuple(value)

    def per_axis(self, name: str, count: int, default: int = 1) -> tuple[int, ...]:
        """A list of `count` ints, one per spatial axis."""
        value = self.given(name)
        if value is None:
            return (default,) * count
        self.require(len(value) == count, f"{name} = {value} for {count} spatial axes")
        return value

    def axis(self, value: int, rank: int) -> int:
        """An axis counted from the front."""
        self.require(-rank <= value < rank, f"axis {value} for rank {rank}")
        return value % rank

    def axes(self, position: int, since: int) -> tuple[int, ...] | None:
        """Axes, which are an attribute before opset `since` and input `position` from then on; None where absent."""
        if self.opset < since:
            return self.given("axes")
        return self.integers(position) if self.has(position) else None

    def _operand(self, position: int) -> Operand:
        operand = self.inputs[position] if position < len(self.inputs) else None
        if operand is None:
            raise UnsupportedOp(f"{self.target} lacks its input {position}")
        return operand

    def _made(self, known: Known, array: np.ndarray, quant: Quant | None) -> Ref:
        self.require(array.dtype.kind == "f", f"a constant %{known.name} of {array.dtype}")
        return self.make(known.name, Constant(array.astype(np.float32), quant=quant))
