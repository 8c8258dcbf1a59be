"""Convolution on packed weights: the meaning of q_conv2d, with the zero point of x folded into the bias."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from penjing.ir.graph import Operation
from penjing.ir.types import DType, Type
from penjing.ops.conv2d import QConv2d, check_requantize, window_params
from penjing.ops.operator import Cost, Param, Rows, Sample, expect
from penjing.ops.windows import Pads, Pair
from penjing.vector.bands import bands, is_pointwise
from penjing.vector.conv2d_samples import tile_samples
from penjing.vector.operator import Taken, VectorOperator
from penjing.vector.packing import (
    LANES,
    QUAD,
    blocks,
    conversion_problem,
    fill,
    folded_bias,
    pack_quads,
    round_up,
    unfolded_bias,
    unpack_quads,
)


@dataclass(frozen=True)
class VConv2d(VectorOperator):
    """x u8 (N, H, W, C), w s8 (G * blocks, runs, quads, 16, 4), bias s32, multiplier f32 (G * blocks * 16), [residual].

    A window is cut into `runs` stretches of codes that lie side by side in x: its rows, or its taps when it is dilated
    across. `band` is how many output rows and columns are computed from one stretch of staged input.
    """

    name = "v_conv2d"
    replaces = "q_conv2d"
    splits = True

    stride: Pair
    padding: Pads
    dilation: Pair
    groups: int
    channels: int
    kernel: Pair
    x_zero: int
    y_zero: int
    qmin: int
    qmax: int
    band: Pair
    residual_scale: float = 0.0
    residual_zero: int = 0

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        conv = cast(QConv2d, op)
        if any(constants[i] is None for i in (1, 2, 3)):
            return "its weights are not constants of the program"
        w, bias, m = (cast(np.ndarray, constants[i]) for i in (1, 2, 3))
        problem = conversion_problem(w, bias, m, conv.residual_scale)
        if problem is not None:
            return problem
        per_out = w.shape[0] // conv.groups
        parts = [slice(g * per_out, (g + 1) * per_out) for g in range(conv.groups)]
        folded = folded_bias(w, bias, conv.x_zero)
        packed = {
            1: np.concatenate([pack_quads(_stretches(w[part], conv.dilation)) for part in parts]),
            2: np.concatenate([fill(folded[part], LANES) for part in parts]),
            3: np.concatenate([fill(m[part], LANES) for part in parts]),
        }
        (y,) = conv.infer(*types)
        kernel = (w.shape[1], w.shape[2])
        size = _flat(y.bounds[:3]) if is_pointwise(kernel, conv.stride, conv.padding) else y.bounds[:3]
        band = bands((size[1], size[2]), w.shape[3], kernel, conv.stride, conv.dilation)
        made = cls(
            *(conv.stride, conv.padding, conv.dilation, conv.groups, w.shape[0], kernel),
            *(conv.x_zero, conv.y_zero, conv.qmin, conv.qmax),
            *(band, conv.residual_scale, conv.residual_zero),
        )
        return Taken(made, packed)

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w, bias, m = inputs[:4]
        expect(x.rank == 4 and w.rank == 5, "v_conv2d needs x of rank 4 and packed weights of rank 5")
        per_in, per_out = x.bounds[3] // self.groups, self.channels // self.groups
        kh, kw = self.kernel
        runs, length = (kh, kw * per_in) if self.dilation[1] == 1 else (kh * kw, per_in)
        want = (self.groups * blocks(per_out), runs, round_up(length, QUAD) // QUAD, LANES, QUAD)
        expect(w.bounds == want, f"packed weights of shape {w.bounds}, not {want}")
        check_requantize(x, w, bias, m, self.groups * blocks(per_out) * LANES)
        return self._plain.infer(x, self._plain_weight(x), *self._plain_lanes(), *inputs[4:])

    @property
    def _plain(self) -> QConv2d:
        quant = (self.x_zero, self.y_zero, self.qmin, self.qmax)
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return QConv2d(*geometry, *quant, self.residual_scale, self.residual_zero)

    def _plain_weight(self, x: Type) -> Type:
        return Type((self.channels, *self.kernel, x.bounds[3] // self.groups), DType.S8)

    def _plain_lanes(self) -> tuple[Type, Type]:
        return Type((self.channels,), DType.S32), Type((self.channels,), DType.F32)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, packed, bias, m = inputs[:4]
        per_in, per_out = x.shape[3] // self.groups, self.channels // self.groups
        length = per_in * (self.kernel[1] if self.dilation[1] == 1 else 1)
        parts = [unpack_quads(part, per_out, length) for part in np.split(packed, self.groups)]
        w = np.concatenate(parts).reshape(self.channels, *self.kernel, per_in)
        lanes = [values.reshape(self.groups, -1)[:, :per_out].reshape(-1) for values in (bias, m)]
        plain_bias = unfolded_bias(w, lanes[0], self.x_zero)
        return self._plain.integer_reference(x, w, plain_bias, lanes[1], *inputs[4:])

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        (n, ih, iw), ic = inputs[0].bounds[:3], inputs[0].bounds[3]
        (_, oh, ow), oc = self._rows(outputs[0]), outputs[0].bounds[3]
        kh, kw = self.kernel
        if is_pointwise(self.kernel, self.stride, self.padding):
            n, ih, iw = _flat((n, ih, iw))
        length = ic // self.groups * (kw if self.dilation[1] == 1 else 1)
        return {
            **{"n": n, "ih": ih, "iw": iw, "ic": ic, "oh": oh, "ow": ow, "oc": oc, "kh": kh, "kw": kw},
            **window_params(self.stride, self.padding, self.dilation),
            "groups": self.groups,
            **{"band_h": self.band[0], "band_w": self.band[1]},
            "stage": int(any(self.padding) or self.groups > 1 or length % QUAD != 0),
            **{"x_zero": self.x_zero, "y_zero": self.y_zero, "qmin": self.qmin, "qmax": self.qmax},
            "has_residual": int(len(inputs) > 4),
            "residual_zero": self.residual_zero,
            "residual_scale": self.residual_scale,
        }

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        kh, kw = self.kernel
        rows = (self.band[0] - 1) * self.stride[0] + (kh - 1) * self.dilation[0] + 1
        columns = (self.band[1] - 1) * self.stride[1] + (kw - 1) * self.dilation[1] + 1
        codes = rows * columns * (inputs[0].bounds[3] // self.groups) + QUAD - 1
        starts = round_up(kh * (1 if self.dilation[1] == 1 else kw), 16)
        return 4 * starts + 2 * codes  # codes of 16 bits, as AVX2 stages them

    def _rows(self, y: Type) -> tuple[int, ...]:
        """(images, rows, columns) of the output as the kernel sees them."""
        return _flat(y.bounds[:3]) if is_pointwise(self.kernel, self.stride, self.padding) else y.bounds[:3]

    def tiled_rows(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Rows:
        """The rows of pixels that tiles are cut from."""
        width, band = self._rows(outputs[0])[2], self.band[1]
        count = blocks(self.channels // self.groups)
        vectors = (1,) if count == 1 else (2,) if count % 2 == 0 else (1, 2)
        return Rows("conv2d", tuple({min(band, width), width % band or band}), vectors)

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        kh, kw = self.kernel
        per_output = kh * kw * (inputs[0].bounds[3] // self.groups)
        return Cost(outputs[0].elements * per_output, sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QConv2d.samples())
        yield from cls.taken(tile_samples())


def _flat(size: tuple[int, ...]) -> tuple[int, int, int]:
    return 1, 1, int(np.prod(size))


def _stretches(w: np.ndarray, dilation: Pair) -> np.ndarray:
    """(O, KH, KW, C) -> (O, runs, codes side by side)."""
    o, kh, kw, c = w.shape
    return w.reshape(o, kh, kw * c) if dilation[1] == 1 else w.reshape(o, kh * kw, c)
