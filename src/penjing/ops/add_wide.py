"""Addition whose result has 16 bits, for sums that a norm reads (see `wide.wide_values`):

    y = rne(clamp(float32(a - zp_a) * s_a + float32(b - zp_b) * s_b, -2^15, 2^15 - 1))

with s_a = scale_a / scale_y and s_b = scale_b / scale_y, and zero points of 0 for operands of 16 bits.
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import S16_MAX, S16_MIN, round_clamped
from penjing.ir.types import DType, Type
from penjing.ops.add import binary_samples, broadcast, broadcast_params
from penjing.ops.integer_samples import float32
from penjing.ops.operator import IntegerOperator, Param, Sample, expect

_CODES = (DType.U8, DType.S16)


@dataclass(frozen=True)
class QAddWide(IntegerOperator):
    """a, b u8 or s16, broadcast together; scales are in steps of the output, s16."""

    name = "q_add_wide"

    a_scale: float
    a_zero: int
    b_scale: float
    b_zero: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        for type_, zero in zip(inputs, (self.a_zero, self.b_zero), strict=True):
            expect(type_.dtype in _CODES, f"q_add_wide takes u8 and s16, not {type_.dtype}")
            expect(type_.dtype is DType.U8 or zero == 0, f"a zero point of {zero} in 16 bits")
        return (Type(broadcast(inputs[0].shape, inputs[1].shape), DType.S16),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        a = (inputs[0].astype(np.int32) - self.a_zero).astype(np.float32) * np.float32(self.a_scale)
        b = (inputs[1].astype(np.int32) - self.b_zero).astype(np.float32) * np.float32(self.b_scale)
        return (round_clamped(a + b, 0, S16_MIN, S16_MAX, np.int16),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        wide = {f"{which}_wide": int(t.dtype is DType.S16) for which, t in zip("ab", inputs, strict=True)}
        return {
            **broadcast_params(inputs, outputs[0]),
            **{"a_scale": self.a_scale, "b_scale": self.b_scale, "a_zero": self.a_zero, "b_zero": self.b_zero},
            **wide,
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        scales = ((0.5, 0.5), (float32(0.3), float32(0.7)), (float32(100.3), float32(77.1)), (160.0, -90.5))
        every = np.r_[-(2**15), 2**15 - 1, np.arange(-40, 40)].astype(np.int16)
        for i, sample in enumerate(binary_samples(lambda i: cls(scales[i % 4][0], 0, scales[i % 4][1], 0))):
            a, b = sample.inputs
            assert a is not None and b is not None
            a_scale, b_scale = scales[i % 4]
            a_wide, b_wide = (np.resize(every * np.int16(1 + k), x.shape) for k, x in enumerate((a, b)))
            pairs = [(a, 3, b, 250), (a_wide, 0, b, 128), (a, 255, b_wide, 0), (a_wide, 0, b_wide, 0)]
            for x, x_zero, y, y_zero in pairs if a.size < 2**12 else pairs[:2]:
                yield Sample(cls(a_scale, x_zero, b_scale, y_zero), (x, y))
