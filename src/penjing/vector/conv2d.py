"""Convolution on packed weights: the meaning of q_conv2d, with the zero point of x folded into the bias."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from penjing.ir.graph import Operation
from penjing.ir.types import DType, Type, is_length
from penjing.ops.conv2d import QConv2d, check_requantize, window_params
from penjing.ops.operator import Cost, Param, Sample, expect
from penjing.ops.pool2d import QMaxPool2d
from penjing.ops.windows import Pads, Pair
from penjing.vector.bands import MOST_PIXELS, bands, cut, is_pointwise
from penjing.vector.conv2d_samples import cut_samples, pooled_samples, tile_samples
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
from penjing.vector.rectified import plain_bias, started_bias


@dataclass(frozen=True)
class VConv2d(VectorOperator):
    """x u8 (N, H, W, C), w s8 (G * blocks, runs, quads, 16, 4), bias s32, multiplier f32 (G * blocks * 16), [residual].

    A window is cut into `runs` stretches of codes that lie side by side in x: its rows, or its taps when it is dilated
    across. `band` is how many output rows and columns are computed from one stretch of staged input, `pixels` how many
    pixels a tile has at most, of one vector of 16 channels and of two (0: there are none of two). An output pixel is
    the largest of `pool` (rows, columns) pixels of the convolution, as a q_max_pool2d would find it. With `rectified`,
    sums start as in `rectified.started_bias`.
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
    pixels: Pair
    pool: Pair
    rectified: bool
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
        started, rectified = started_bias(
            w, folded_bias(w, bias, conv.x_zero), m, (conv.y_zero, conv.qmin, conv.qmax), residual=len(types) > 4
        )
        packed = {
            1: np.concatenate([pack_quads(_stretches(w[part], conv.dilation)) for part in parts]),
            2: np.concatenate([fill(started[part], LANES) for part in parts]),
            3: np.concatenate([fill(m[part], LANES) for part in parts]),
        }
        made = cls(
            *(conv.stride, conv.padding, conv.dilation, conv.groups, w.shape[0], (w.shape[1], w.shape[2])),
            *(conv.x_zero, conv.y_zero, conv.qmin, conv.qmax),
            band=(1, 1),
            pixels=MOST_PIXELS,
            pool=(1, 1),
            rectified=rectified,
            residual_scale=conv.residual_scale,
            residual_zero=conv.residual_zero,
        )
        return Taken(made._with_bands(types[0], conv.infer(*types)[0]), packed)

    def pooled(self, pool: Pair, x: Type, y: Type) -> VConv2d:
        """This convolution on x, of whose output y the largest of `pool` (rows, columns) pixels are kept."""
        pooling = replace(self, pool=pool)
        return pooling._with_bands(x, pooling._pooling.infer(y)[0])

    def _with_bands(self, x: Type, y: Type) -> VConv2d:
        _, *size = self.rows(y)
        stride = (self.stride[0] * self.pool[0], self.stride[1] * self.pool[1])
        return replace(self, band=bands((size[0], size[1]), x.bounds[3] // self.groups, self._reach, stride, (1, 1)))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w, bias, m = inputs[:4]
        expect(x.rank == 4 and w.rank == 5, "v_conv2d needs x of rank 4 and packed weights of rank 5")
        per_in, per_out = x.bounds[3] // self.groups, self.channels // self.groups
        kh, kw = self.kernel
        runs, length = (kh, kw * per_in) if self.dilation[1] == 1 else (kh * kw, per_in)
        want = (self.groups * blocks(per_out), runs, round_up(length, QUAD) // QUAD, LANES, QUAD)
        expect(w.bounds == want, f"packed weights of shape {w.bounds}, not {want}")
        check_requantize(x, w, bias, m, self.groups * blocks(per_out) * LANES)
        (y,) = self._plain.infer(x, self._plain_weight(x), *self._plain_lanes(), *inputs[4:])
        expect(self.pool == (1, 1) or len(inputs) == 4, "a pool after the sum with a residual is none of v_conv2d")
        return (y,) if self.pool == (1, 1) else self._pooling.infer(y)

    @property
    def _pooling(self) -> QMaxPool2d:
        return QMaxPool2d(self.pool, self.pool, (0, 0, 0, 0), (1, 1), ceil=False)

    @property
    def _reach(self) -> Pair:
        """Rows and columns of x that one pixel of the output sees."""
        down, across = (
            (pool - 1) * stride + (kernel - 1) * dilation + 1
            for pool, stride, kernel, dilation in zip(self.pool, self.stride, self.kernel, self.dilation, strict=True)
        )
        return down, across

    @property
    def _is_long_row(self) -> bool:
        """Whether images are one long row to the kernel."""
        return self.pool == (1, 1) and is_pointwise(self.kernel, self.stride, self.padding)

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
        bias = unfolded_bias(w, plain_bias(lanes[0], rectified=self.rectified), self.x_zero)
        return self._pooling.integer_reference(*self._plain.integer_reference(x, w, bias, lanes[1], *inputs[4:]))

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        (n, ih, iw), ic = inputs[0].bounds[:3], inputs[0].bounds[3]
        (_, oh, ow), oc = self.rows(outputs[0]), outputs[0].bounds[3]
        kh, kw = self.kernel
        if self._is_long_row:
            n, ih, iw = _flat((n, ih, iw))
        length = ic // self.groups * (kw if self.dilation[1] == 1 else 1)
        return {
            **{"n": n, "ih": ih, "iw": iw, "ic": ic, "oh": oh, "ow": ow, "oc": oc, "kh": kh, "kw": kw},
            **window_params(self.stride, self.padding, self.dilation),
            "groups": self.groups,
            **{"pool_h": self.pool[0], "pool_w": self.pool[1]},
            **{"band_h": self.band[0], "band_w": self.band[1], "pixels": self.pixels},
            "stage": int(any(self.padding) or self.groups > 1 or length % QUAD != 0),
            **{"x_zero": self.x_zero, "y_zero": self.y_zero, "qmin": self.qmin, "qmax": self.qmax},
            "rectified": int(self.rectified),
            "has_residual": int(len(inputs) > 4),
            "residual_zero": self.residual_zero,
            "residual_scale": self.residual_scale,
            "step": oc,
        }

    def writes_pieces(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...], nbytes: int) -> bool:
        return nbytes == self.channels and len(inputs) <= 4  # a residual lies like the output

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        kh, kw = self.kernel
        rows = (self.band[0] - 1) * self.pool[0] * self.stride[0] + self._reach[0]
        columns = (self.band[1] - 1) * self.pool[1] * self.stride[1] + self._reach[1]
        codes = rows * columns * (inputs[0].bounds[3] // self.groups) + QUAD - 1
        starts = round_up(kh * (1 if self.dilation[1] == 1 else kw), 16)
        return 4 * starts + 2 * codes  # codes of 16 bits, as AVX2 stages them

    def rows(self, y: Type) -> tuple[int, ...]:
        """(images, rows, columns) of the output as the kernel sees them."""
        return _flat(y.bounds[:3]) if self._is_long_row else y.bounds[:3]

    def tiled_widths(self, y: Type) -> set[int]:
        """Widths of the rows that are cut into tiles: that of a band, and of the last one; any, in any sequence."""
        width, band = self.rows(y)[2], self.band[1]
        if any(is_length(extent) for extent in y.shape):
            return set(range(1, band + 1))
        return {min(band, width), width % band or band}

    @property
    def blocks_per_group(self) -> int:
        """Vectors of 16 output channels."""
        return blocks(self.channels // self.groups)

    def inner_loops(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, set[int]]:
        pairs = self.blocks_per_group // 2 if self.pixels[1] else 0
        widths = self.tiled_widths(outputs[0])
        one, two = ({size for width in widths for size in self.tile_sizes(width, most)} for most in self.pixels)
        taken = (one if self.blocks_per_group > 2 * pairs else set(), two if pairs else set())
        return {"PJ_CONV2D_SIZES_1": taken[0], "PJ_CONV2D_SIZES_2": taken[1]}

    def tile_sizes(self, width: int, most: int) -> set[int]:
        """Pixels in the tiles of a row of the output: those that a pool compares stand in one tile."""
        return {self.pool[1] * size for size in cut(width, most // self.pool[1])} if most else set()

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        kh, kw = self.kernel
        per_output = kh * kw * (inputs[0].bounds[3] // self.groups)
        pixels = self.pool[0] * self.pool[1]
        return Cost(outputs[0].elements * pixels * per_output, sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QConv2d.samples())
        yield from cls.taken(tile_samples())
        for sample, pool in pooled_samples():
            yield from (cls._pooled_sample(taken, pool) for taken in cls.taken(iter([sample])))
        for one, two, band in ((5, 0, (2, 3)), (3, 4, (1, 7)), (16, 1, (3, 2))):
            for sample in cls.taken(cut_samples()):
                yield replace(sample, op=replace(cast(VConv2d, sample.op), pixels=(one, two), band=band))

    @classmethod
    def _pooled_sample(cls, sample: Sample, pool: Pair) -> Sample:
        op = cast(VConv2d, sample.op)
        return replace(sample, op=op.pooled(pool, sample.types[0], op.infer(*sample.types)[0]))


def _flat(size: tuple[int, ...]) -> tuple[int, int, int]:
    return 1, 1, int(np.prod(size))


def _stretches(w: np.ndarray, dilation: Pair) -> np.ndarray:
    """(O, KH, KW, C) -> (O, runs, codes side by side)."""
    o, kh, kw, c = w.shape
    return w.reshape(o, kh, kw * c) if dilation[1] == 1 else w.reshape(o, kh * kw, c)
