"""A linear layer whose outputs have 16 bits, for sums that a norm reads (see `wide.wide_values`):

y = rne(clamp(float32(acc) * m, -2^15, 2^15 - 1)),   acc = bias + sum over k of w * (x - zp_x)
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import S16_MAX, S16_MIN, round_clamped
from penjing.ir.types import DType, Type
from penjing.ops.linear import LinearCodes, QLinear, linear_sums, linear_type
from penjing.ops.operator import Param, Sample


@dataclass(frozen=True)
class QLinearWide(LinearCodes):
    """`LinearCodes` whose output is s16, zero point 0."""

    name = "q_linear_wide"

    x_zero: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return (linear_type(inputs, DType.S16),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w, bias, m = inputs
        acc = linear_sums(x, self.x_zero, w, bias)
        return (round_clamped(acc.astype(np.float32) * m, 0, S16_MIN, S16_MAX, np.int16),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        channels, features = inputs[1].bounds
        return {"rows": inputs[0].elements // features, "k": features, "oc": channels, "x_zero": self.x_zero}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for sample in QLinear.samples():
            assert isinstance(sample.op, QLinear)
            x, w, bias, m = sample.inputs
            assert m is not None
            for steps in (1.0, 256.0):  # 256: both ends of the range are reached
                yield Sample(cls(sample.op.x_zero), (x, w, bias, m * np.float32(steps)), constant=(1, 2, 3))
