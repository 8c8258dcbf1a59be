"""Counting of steps:  y = x + steps.  With room for `capacity` of them, more are not counted.

In integers:  y = min(max(x, 0), capacity - steps) + steps.  Calls for which there is no room are refused before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.lowering import Epilogue, Lowering, identity
from penjing.ops.operator import IntegerOperator, Operator, Param, Sample, expect
from penjing.ops.position import check_position, first_steps


@dataclass(frozen=True)
class Advance(Operator):
    """Input and output a position s32 (N, 1)."""

    name = "advance"
    of_streams = True
    steps: int
    capacity: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return (_counted(self.steps, self.capacity, *inputs),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_advanced(inputs[0], self.steps, self.capacity),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return inputs[0].clamp(0, self.capacity - self.steps) + self.steps

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        op, x = QAdvance(self.steps, self.capacity), lowering.integers(node.inputs[0])
        name = lowering.emit(op, (x,), epilogue.output, None)
        lowering.define(epilogue.output, name, identity(2))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for steps, capacity, x in ((1, 4, 0), (3, 9, 6), (3, 3, 0), (2, 7, 6), (1, 5, -2)):
            yield Sample(cls(steps, capacity), (np.array([[x]], np.int32),))


def _counted(steps: int, capacity: int, position: Type) -> Type:
    check_position(position)
    expect(1 <= steps <= capacity < 2**31, f"steps of {steps} up to {capacity}")
    return Type(position.shape, DType.S32)


def _advanced(position: np.ndarray, steps: int, capacity: int) -> np.ndarray:
    return (first_steps(position, capacity - steps) + steps).astype(np.int32).reshape(position.shape)


@dataclass(frozen=True)
class QAdvance(IntegerOperator):
    """x s32 (1, 1), y s32 (1, 1)."""

    name = "q_advance"

    steps: int
    capacity: int

    @property
    def last(self) -> int:
        """The last position from which the steps still fit."""
        return self.capacity - self.steps

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return (_counted(self.steps, self.capacity, *inputs),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_advanced(inputs[0], self.steps, self.capacity),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {"steps": self.steps, "last": self.last}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for steps, capacity in ((1, 1), (1, 256), (5, 33), (7, 2**31 - 1)):
            for x in (0, 1, capacity - steps - 1, capacity - steps, capacity - steps + 1, 2**31 - 1, -1, -(2**31)):
                yield Sample(cls(steps, capacity), (np.array([[x]], np.int32),))
