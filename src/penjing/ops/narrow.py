"""From 16-bit codes to 8-bit ones:  y = rne(clamp(float32(q) * m, -zp_y, 255 - zp_y)) + zp_y,  with m = s_x / s_y."""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import requantize
from penjing.ir.types import DType, Type
from penjing.ops.integer_samples import LENGTHS, float32
from penjing.ops.operator import IntegerOperator, Param, Sample, expect


@dataclass(frozen=True)
class QNarrow(IntegerOperator):
    """x s16 of any shape, zero point 0; output u8 of x's shape."""

    name = "q_narrow"

    multiplier: float
    y_zero: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(inputs[0].dtype is DType.S16, "q_narrow takes s16")
        return (Type(inputs[0].shape, DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (requantize(inputs[0].astype(np.int32), np.array(self.multiplier, np.float32), self.y_zero),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {
            "n": inputs[0].elements,
            "y_zero": self.y_zero,
            "multiplier": self.multiplier,
            "low": float(-self.y_zero),
            "high": float(255 - self.y_zero),
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(72)
        # at 2^-8 every 128th code is a tie
        for i, (m, zero) in enumerate(((2.0**-8, 128), (float32(0.0131), 0), (float32(0.007), 255), (2.0**-9, 101))):
            every = np.r_[
                -(2**15), 2**15 - 1, np.arange(256), np.arange(-640, 640, 64), rng.integers(-(2**15), 2**15, 300)
            ]
            yield Sample(cls(m, zero), (every.astype(np.int16).reshape(1, -1),))
            for n in LENGTHS[i::4]:
                yield Sample(cls(m, zero), (rng.integers(-(2**15), 2**15, (1 + n % 2, n)).astype(np.int16),))
