"""A linear layer whose outputs have 16 bits, for sums that a norm reads (see `fusion.wide_values`):

y = rne(clamp(float32(acc) * m, -2^15, 2^15 - 1)),   acc = bias + sum over k of w * (x - zp_x)
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import S16_MAX, S16_MIN, round_clamped
from penjing.ir.types import DType, Type
from penjing.ops.conv2d import check_requantize
from penjing.ops.linear import QLinear
from penjing.ops.operator import Cost, IntegerOperator, Param, Sample, expect


@dataclass(frozen=True)
class QLinearWide(IntegerOperator):
    """x u8 (..., K), w s8 (O, K), bias s32 (O), multiplier f32 (O); output s16 (..., O), zero point 0."""

    name = "q_linear_wide"

    x_zero: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w, bias, m = inputs
        expect(x.rank >= 1 and w.rank == 2 and x.bounds[-1] == w.bounds[1], "x (..., K) and w (O, K) do not fit")
        check_requantize(x, w, bias, m, w.bounds[0])
        return (Type((*x.shape[:-1], w.shape[0]), DType.S16),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w, bias, m = inputs
        # float64 holds every int32 exactly, so the product is exact in any order
        acc = ((x.astype(np.float64) - self.x_zero) @ w.astype(np.float64).T).astype(np.int32) + bias
        return (round_clamped(acc.astype(np.float32) * m, 0, S16_MIN, S16_MAX, np.int16),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        channels, features = inputs[1].bounds
        return {"rows": inputs[0].elements // features, "k": features, "oc": channels, "x_zero": self.x_zero}

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        features = inputs[1].bounds[1]
        return 2 * features * min(2, inputs[0].elements // features)  # up to two rows, in 16 bits

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * inputs[1].bounds[1], sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for sample in QLinear.samples():
            assert isinstance(sample.op, QLinear)
            x, w, bias, m = sample.inputs
            assert m is not None
            for steps in (1.0, 256.0):  # 256: both ends of the range are reached
                yield Sample(cls(sample.op.x_zero), (x, w, bias, m * np.float32(steps)), constant=(1, 2, 3))
