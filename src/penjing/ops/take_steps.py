"""The steps of a table from a position on:  y[..., t, ...] = x[..., position + t, ...].  Codes are moved."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.graph import Node
from penjing.ir.types import DType, Shape, Type
from penjing.ops.coupling import Coupling, kept_axes
from penjing.ops.integer_samples import LENGTHS, codes
from penjing.ops.lowering import Epilogue, Lowering, identity
from penjing.ops.operator import IntegerOperator, Operator, Param, QuantRule, Sample, expect
from penjing.ops.position import check_position, first_steps


@dataclass(frozen=True)
class TakeSteps(Operator):
    """Inputs x (1, ..., T, ...) and a position s32 (N, 1); output (N, ..., steps, ...), cut along `axis`."""

    name = "take_steps"
    of_streams = True
    quant_rule = QuantRule.SAME

    axis: int
    steps: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return (Type(_shape(self.axis, self.steps, *inputs)),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_taken(self.axis, self.steps, *inputs),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x, position = inputs
        starts = first_steps(position.numpy(), x.shape[self.axis] - self.steps)
        return torch.stack([x[0].narrow(self.axis - 1, int(at), self.steps) for at in starts])

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        x, position = node.inputs
        order = identity(len(lowering.shape(x)))
        inputs = (lowering.placed(x, order), lowering.integers(position))
        lowering.finish(epilogue, QTakeSteps(self.axis, self.steps), inputs, order)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x = inputs[0]
        assert x is not None
        return Coupling(kept_axes(x, outputs[0], [axis for axis in range(1, x.rank) if axis != self.axis]))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(97)
        for axis, shape, steps, at in ((1, (1, 5, 3), 2, 1), (2, (1, 2, 4), 1, 3), (1, (1, 6), 6, 0)):
            x = rng.normal(size=shape).astype(np.float32)
            yield Sample(cls(axis, steps), (x, np.array([[at]], np.int32)), constant=(1,))


def _shape(axis: int, steps: int, x: Type, position: Type) -> Shape:
    expect(1 <= axis < x.rank and x.bounds[0] == 1, f"steps along axis {axis} of {x.bounds}")
    expect(isinstance(x.shape[axis], int) and 1 <= steps <= x.bounds[axis], f"{steps} steps of {x.shape[axis]}")
    check_position(position)
    return (position.shape[0], *x.shape[1:axis], steps, *x.shape[axis + 1 :])


def _taken(axis: int, steps: int, x: np.ndarray, position: np.ndarray) -> np.ndarray:
    starts = first_steps(position, x.shape[axis] - steps)
    every = np.broadcast_to(x, (len(starts), *x.shape[1:]))
    return np.stack([np.take(one, range(at, at + steps), axis - 1) for one, at in zip(every, starts, strict=True)])


@dataclass(frozen=True)
class QTakeSteps(IntegerOperator):
    """x u8 (1, ..., T, ...), position s32 (1, 1); output u8 (1, ..., steps, ...)."""

    name = "q_take_steps"

    axis: int
    steps: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(inputs[0].dtype is DType.U8, "q_take_steps moves u8")
        return (Type(_shape(self.axis, self.steps, *inputs), DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_taken(self.axis, self.steps, *inputs),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        x = inputs[0].bounds
        return {
            "outer": int(np.prod(x[: self.axis], dtype=np.int64)),
            "all_steps": x[self.axis],
            "steps": self.steps,
            "inner": int(np.prod(x[self.axis + 1 :], dtype=np.int64)),
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(98)

        def made(axis: int, shape: tuple[int, ...], steps: int, at: int) -> Sample:
            return Sample(cls(axis, steps), (codes(rng, shape), np.array([[at]], np.int32)))

        for i, n in enumerate(LENGTHS):
            yield made(1, (1, 5, n), 1 + i % 3, i % 3)
            yield made(2, (1, 3, n), 1 + i % n, (i + 1) // 2 % n)
        for at in (0, 3, 4, 5, 1000, -1, -(2**31)):
            yield made(2, (1, 2, 7, 3), 3, at)
