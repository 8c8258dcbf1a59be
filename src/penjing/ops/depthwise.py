"""Depthwise convolution in integers, which `conv2d` becomes where every channel has a window of its own:

    acc = bias[c] + sum over ky, kx of w[ky, kx, c] * (q_x[n, i*sh + ky*dh - top, j*sw + kx*dw - left, c] - zp_x)

and then y as in `conv2d`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import round_clamped
from penjing.ir.types import DType, Type
from penjing.ops.conv2d import check_requantize, requantize_params, window_params
from penjing.ops.integer_samples import depthwise_samples
from penjing.ops.operator import Cost, IntegerOperator, Param, Sample, expect
from penjing.ops.windows import Pads, Pair, Window


@dataclass(frozen=True)
class QDepthwise(IntegerOperator):
    """x u8 (N, H, W, C), w s8 (KH, KW, C), bias s32 (C), multiplier f32 (C): every channel has its own window."""

    name = "q_depthwise"

    stride: Pair
    padding: Pads
    dilation: Pair
    x_zero: int
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w, bias, m = inputs
        expect(x.rank == 4 and w.rank == 3, "q_depthwise needs x of rank 4 and weight of rank 3")
        expect(x.bounds[3] == w.bounds[2], f"{x.bounds[3]} channels, weight has {w.bounds[2]}")
        check_requantize(x, w, bias, m, w.bounds[2])
        size = self._window(w.bounds).extents(x.shape[1], x.shape[2])
        return (Type((x.shape[0], *size, x.shape[3]), DType.U8),)

    def _window(self, w: tuple[int, ...]) -> Window:
        return Window((w[0], w[1]), self.stride, self.padding, self.dilation)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w, bias, m = inputs
        window = self._window(w.shape)
        output = window.output(x.shape[1], x.shape[2])
        acc = np.zeros((x.shape[0], *output, x.shape[3]), np.int32) + bias
        for ky, kx, view in window.taps(x.astype(np.int32) - self.x_zero, output, 0):
            acc += view * w[ky, kx].astype(np.int32)
        return (round_clamped(acc.astype(np.float32) * m, self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        _, ih, iw, c = inputs[0].bounds
        kh, kw, _ = inputs[1].bounds
        n, oh, ow, _ = outputs[0].bounds
        return {
            **{"n": n, "ih": ih, "iw": iw, "c": c, "oh": oh, "ow": ow, "kh": kh, "kw": kw},
            **window_params(self.stride, self.padding, self.dilation),
            **requantize_params(self.x_zero, self.y_zero, self.qmin, self.qmax),
        }

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        taps = inputs[1].bounds[0] * inputs[1].bounds[1]
        return Cost(outputs[0].elements * taps, sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from depthwise_samples(cls)
