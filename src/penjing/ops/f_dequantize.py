"""From codes to float32, as the reals that a caller gets:  y = float32(q - zp) * s.  One multiplication."""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import dequantize
from penjing.ir.types import DType, Type
from penjing.ops.integer_samples import LENGTHS, codes, float32
from penjing.ops.operator import IntegerOperator, Param, Sample, expect


@dataclass(frozen=True)
class FDequantize(IntegerOperator):
    """x u8 of any shape; output f32 of x's shape."""

    name = "f_dequantize"

    scale: float
    zero_point: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(inputs[0].dtype is DType.U8, "f_dequantize takes u8")
        return (Type(inputs[0].shape, DType.F32),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (dequantize(inputs[0], np.float32(self.scale), self.zero_point),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {"n": inputs[0].elements, "zero": self.zero_point, "scale": self.scale}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(92)
        every = np.arange(256, dtype=np.uint8).reshape(1, 256)
        for scale, zero in ((0.5, 0), (float32(0.1), 128), (float32(1 / 3), 255), (float32(2.0**-126), 7)):
            yield Sample(cls(scale, zero), (every,))
        for n in LENGTHS:
            yield Sample(cls(float32(0.037), 100), (codes(rng, (1 + n % 2, n)),))
