"""The largest element of each window in float32, of equal ones (0 and -0) the first; padding never wins."""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.types import DType, Type
from penjing.ops.f_sums import LARGEST, check_floats, summands
from penjing.ops.operator import IntegerOperator, Param, Sample
from penjing.ops.pool2d import QMaxPool2d
from penjing.ops.windows import Pads, Pair, Window


@dataclass(frozen=True)
class FMaxPool2d(IntegerOperator):
    """x f32 (N, H, W, C); output (N, OH, OW, C)."""

    name = "f_max_pool2d"

    kernel: Pair
    stride: Pair
    padding: Pads
    dilation: Pair
    ceil: bool

    @property
    def _of_codes(self) -> QMaxPool2d:
        return QMaxPool2d(self.kernel, self.stride, self.padding, self.dilation, self.ceil)

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        check_floats(*inputs)
        (y,) = self._of_codes.infer(Type(inputs[0].shape, DType.U8))
        return (Type(y.shape, DType.F32),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, window = inputs[0], Window(self.kernel, self.stride, self.padding, self.dilation)
        output = window.output(x.shape[1], x.shape[2], ceil=self.ceil)
        y = np.full((x.shape[0], *output, x.shape[3]), -LARGEST, np.float32)
        for _, _, view in window.taps(x, output, -LARGEST):
            y = np.where(view > y, view, y)
        return (y,)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return self._of_codes.kernel_params(inputs, outputs)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(97)
        for c in (1, 3, 16, 17):
            yield Sample(cls((2, 2), (2, 2), (0, 0, 0, 0), (1, 1), False), (summands(rng, (1, 6, 7, c)),))
        yield Sample(cls((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), True), (summands(rng, (2, 7, 8, 5)),))
        yield Sample(cls((3, 2), (2, 1), (1, 0, 1, 0), (2, 2), False), (summands(rng, (1, 9, 8, 4)),))
        below = -np.abs(summands(rng, (1, 4, 4, 2))) - np.float32(1)
        yield Sample(cls((2, 2), (1, 2), (1, 1, 1, 1), (1, 1), False), (below,))
        zeros = np.where(rng.random((1, 4, 6, 3)) < 0.5, np.float32(-0.0), np.float32(0))
        yield Sample(cls((2, 2), (2, 2), (0, 0, 0, 0), (1, 1), False), (zeros,))
