"""A cache of steps:  y = x, with the steps of `new` in the place of those from a position on.

    y[..., position + t, ...] = new[..., t, ...]        along one axis; codes are moved, and only those of the new steps

A state that it updates is written where it lies (`program/plan.py`), so that a call costs as much at any position.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.coupling import Coupling, alone, on_input, on_output
from penjing.ops.integer_samples import LENGTHS, codes
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.operator import IntegerOperator, Operator, Param, QuantRule, Sample, expect
from penjing.ops.position import check_position, first_steps


@dataclass(frozen=True)
class Append(Operator):
    """Inputs x (N, ..., S, ...), new (N, ..., steps, ...) and a position s32 (N, 1); output of x's shape."""

    name = "append"
    of_streams = True
    quant_rule = QuantRule.SAME

    axis: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        _check(self.axis, *inputs)
        return (Type(inputs[0].shape),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_appended(self.axis, *inputs),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x, new, position = inputs
        last = x.shape[self.axis] - new.shape[self.axis]
        rows = []
        for one, some, at in zip(x, new, first_steps(position.numpy(), last), strict=True):
            along = self.axis - 1
            behind = one.narrow(along, int(at) + some.shape[along], int(last - at))
            rows.append(torch.cat([one.narrow(along, 0, int(at)), some, behind], along))
        return torch.stack(rows)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        y = outputs[0]
        others = ((axis, alone(y.bounds[axis])) for axis in range(1, y.rank) if axis != self.axis)
        return Coupling(tuple((on_input(0, k, n), on_input(1, k, n), on_output(k, n)) for k, n in others))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        x, new, position = node.inputs
        order, target = lowering.order(x), lowering.quant(epilogue.output)
        parts = tuple(lowering.rescaled(lowering.placed(value, order), target) for value in (x, new))
        inputs = (*parts, lowering.integers(position))
        lowering.finish(epilogue, QAppend(order.index(self.axis)), inputs, order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(95)
        for axis, shape, steps, at in (
            (1, (1, 5, 3), 2, 1),
            (2, (1, 2, 4, 3), 1, 3),
            (3, (1, 2, 3, 6), 6, 0),
            (2, (1, 3, 9), 3, 6),
        ):
            x = rng.normal(size=shape).astype(np.float32)
            new = 0.5 * rng.normal(size=(*shape[:axis], steps, *shape[axis + 1 :])).astype(np.float32)
            yield Sample(cls(axis), (x, new, np.array([[at]], np.int32)), constant=(2,))


def _check(axis: int, x: Type, new: Type, position: Type) -> None:
    expect(1 <= axis < x.rank == new.rank, f"steps of rank {new.rank} appended along axis {axis} of rank {x.rank}")
    expect(isinstance(x.shape[axis], int) and isinstance(new.shape[axis], int), "a symbolic extent has no places")
    rest = [(*t.shape[:axis], *t.shape[axis + 1 :]) for t in (x, new)]
    fits = rest[0] == rest[1] and new.bounds[axis] <= x.bounds[axis]
    expect(fits, f"steps of {new.bounds} appended along axis {axis} to {x.bounds}")
    check_position(position)


def _appended(axis: int, x: np.ndarray, new: np.ndarray, position: np.ndarray) -> np.ndarray:
    y = x.copy()
    steps = new.shape[axis]
    for n, at in enumerate(first_steps(position, x.shape[axis] - steps)):
        y[n][(slice(None),) * (axis - 1) + (slice(int(at), int(at) + steps),)] = new[n]
    return y


@dataclass(frozen=True)
class QAppend(IntegerOperator):
    """x u8 (..., S, ...), new u8 (..., steps, ...), position s32 (1, 1); output u8 of x's shape."""

    name = "q_append"
    in_place = True

    axis: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect([t.dtype for t in inputs[:2]] == [DType.U8, DType.U8], "q_append moves u8")
        _check(self.axis, *inputs)
        return (Type(inputs[0].shape, DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_appended(self.axis, *inputs),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        x = inputs[0].bounds
        return {
            "outer": int(np.prod(x[: self.axis], dtype=np.int64)),
            "all_steps": x[self.axis],
            "steps": inputs[1].bounds[self.axis],
            "inner": int(np.prod(x[self.axis + 1 :], dtype=np.int64)),
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(96)

        def made(axis: int, shape: tuple[int, ...], steps: int, at: int) -> Sample:
            new = codes(rng, (*shape[:axis], steps, *shape[axis + 1 :]))
            return Sample(cls(axis), (codes(rng, shape), new, np.array([[at]], np.int32)))

        for i, n in enumerate(LENGTHS):
            yield made(1, (1, 5, n), 1 + i % 3, i % 3)
            yield made(2, (1, 3, n), 1 + i % n, (i + 1) // 2 % n)
        for at in (0, 3, 4, 5, 1000, -1, -(2**31)):  # what does not fit is written to the last places or the first
            yield made(2, (1, 2, 7, 3), 3, at)
        yield made(3, (1, 2, 3, 6), 6, 0)
        yield made(1, (1, 256), 256, 0)
