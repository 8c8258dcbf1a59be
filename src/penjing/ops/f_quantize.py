"""From float32 to codes, as the reals that a caller gives:  y = rne(clamp(x / s, qmin - zp, qmax - zp)) + zp.

One division. Codes have 8 bits, or 16 for sums that a norm reads (see `wide`).
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import S16_MAX, S16_MIN, U8_MAX, U8_MIN, round_clamped
from penjing.ir.types import DType, Type
from penjing.ops.f_sums import LARGEST
from penjing.ops.integer_samples import LENGTHS, float32
from penjing.ops.operator import IntegerOperator, Param, Sample, expect


@dataclass(frozen=True)
class FQuantize(IntegerOperator):
    """x f32 of any shape, finite; output u8, or s16 where `wide`, of x's shape."""

    name = "f_quantize"

    scale: float
    zero_point: int
    wide: bool = False

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(inputs[0].dtype is DType.F32, "f_quantize takes f32")
        return (Type(inputs[0].shape, DType.S16 if self.wide else DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        with np.errstate(over="ignore"):
            steps = inputs[0] / np.float32(self.scale)
        low, high = self._ends()
        return (round_clamped(steps, self.zero_point, low, high, np.int16 if self.wide else np.uint8),)

    def _ends(self) -> tuple[int, int]:
        return (S16_MIN, S16_MAX) if self.wide else (U8_MIN, U8_MAX)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        low, high = (float(end - self.zero_point) for end in self._ends())
        place: dict[str, Param] = {"n": inputs[0].elements, "zero": self.zero_point, "wide": int(self.wide)}
        return {**place, "scale": self.scale, "low": low, "high": high}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(91)
        ends = np.array([0.0, -0.0, 1e-45, -1e-45, 1e30, -1e30, LARGEST, -LARGEST], np.float32)
        for scale, zero in ((0.5, 0), (float32(0.1), 128), (float32(1 / 3), 255), (float32(2.0**-126), 7)):
            with np.errstate(under="ignore"):
                ties = (np.arange(-600, 600, dtype=np.float32) / np.float32(2)) * np.float32(scale)
            near = [np.nextafter(ties, np.float32(end)) for end in (-np.inf, np.inf)]
            yield Sample(cls(scale, zero), (np.concatenate([ends, ties, *near]).reshape(1, -1),))
            yield Sample(cls(scale, 0, wide=True), (np.concatenate([ends, ties, ties * 128, *near]).reshape(1, -1),))
        for n in LENGTHS:
            x = (20 * rng.normal(size=(1 + n % 2, n))).astype(np.float32)
            yield Sample(cls(float32(0.17), 100), (x,))
            yield Sample(cls(float32(0.0017), 0, wide=True), (x,))
