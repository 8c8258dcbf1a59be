"""The mean over neighbouring axes in float32 (see `f_sums`):

y = clamp(acc / float32(count)),   acc = ((0 + x_1) + x_2) + ...        in row-major order of the axes
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import Float32
from penjing.ir.types import DType, Type
from penjing.ops.f_sums import LARGEST, check_floats, clamp_params, clamped, overflowing, summands
from penjing.ops.mean import QMean
from penjing.ops.operator import IntegerOperator, Param, Sample


@dataclass(frozen=True)
class FMean(IntegerOperator):
    """x f32; output without the `count` axes from `start` on, or with extent 1 there if `keepdim`."""

    name = "f_mean"

    start: int
    count: int
    keepdim: bool
    low: float
    high: float

    @property
    def _of_codes(self) -> QMean:
        return QMean(self.start, self.count, self.keepdim, 0, 1.0, 0, 0, 255)

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        check_floats(*inputs)
        (y,) = self._of_codes.infer(Type(inputs[0].shape, DType.U8))
        return (Type(y.shape, DType.F32),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, end = inputs[0], self.start + self.count
        rows = x.reshape(*x.shape[: self.start], -1, *x.shape[end:])
        acc: Float32 = np.zeros(np.delete(rows.shape, self.start), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for row in np.moveaxis(rows, self.start, 0):
                acc += row
            mean: Float32 = np.divide(acc, np.float32(rows.shape[self.start]), dtype=np.float32)
        y = clamped(mean, self.low, self.high)
        kept = (1,) * self.count if self.keepdim else ()
        return (y.reshape(*x.shape[: self.start], *kept, *x.shape[end:]),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        of_codes = self._of_codes.kernel_params(inputs, outputs)
        return {**{name: of_codes[name] for name in ("outer", "reduce", "inner")}, **clamp_params(self.low, self.high)}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(98)
        for i, n in enumerate((1, 3, 15, 16, 17, 33)):
            ends = [(-LARGEST, LARGEST), (0.0, LARGEST), (-1.0, 6.0)][i % 3]
            yield Sample(cls(1, 1, False, *ends), (summands(rng, (2, 5, n)),))
            yield Sample(cls(1, 2, True, *ends), (summands(rng, (1, 3, n, 4)),))
        yield Sample(cls(2, 2, False, -LARGEST, LARGEST), (summands(rng, (2, 3, 7, 9)),))
        for x in overflowing((1, 4, 20)):
            yield Sample(cls(1, 1, False, -2.0, LARGEST), (x,))
            yield Sample(cls(2, 1, False, -2.0, 3.0), (x,))
