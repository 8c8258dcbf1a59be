"""Depthwise convolution on packed weights: the meaning of q_depthwise, with the zero point of x folded into the bias.

Three kernels share it: two for windows of up to 3 x 3, which nearly all depthwise layers of small networks have, with
many channels and with few, and one for any window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from penjing.ir.graph import Operation
from penjing.ir.types import DType, Type
from penjing.ops.conv2d import check_requantize, window_params
from penjing.ops.depthwise import QDepthwise
from penjing.ops.operator import Cost, Param, Sample, expect
from penjing.ops.windows import Pads, Pair
from penjing.vector.depthwise_samples import small_window_samples, window_samples
from penjing.vector.operator import Taken, VectorOperator
from penjing.vector.packing import (
    LANES,
    QUAD,
    accumulator_bound_per_channel,
    conversion_problem,
    folded_bias,
    round_up,
    unfolded_bias,
)

_WIDE, _HALF = 64, 8  # channels of the widest and of the narrowest block
_RECTIFIED_BOUND = 2**22  # of sums, for the rule that finishes them without a conversion
_BAND_BYTES = 128 * 1024  # of x, read once for each block of channels: what stays in a second-level cache
_STAGED_BYTES = 8 * 1024
_PREPARED_BYTES = 2 * 3 * LANES * QUAD * 2  # weights of 16 lanes for two rows of output, in up to 16 bits


@dataclass(frozen=True)
class _PackedDepthwise(VectorOperator):
    """x u8 (N, H, W, C), w s8 (vectors, quads, KW, 16, 4), bias s32 and multiplier f32 (vectors * 16).

    A vector holds 16 lanes, a quad 4 taps one above the other. `lanes(C)` tells which channel each lane is.
    """

    replaces = "q_depthwise"
    widest: ClassVar[int]

    kernel: Pair
    stride: Pair
    padding: Pads
    dilation: Pair
    x_zero: int
    y_zero: int
    qmin: int
    qmax: int

    @classmethod
    def lanes(cls, channels: int) -> np.ndarray:
        """int (vectors, 16): the channel of each lane, -1 where there is none."""
        return channel_lanes(channels, cls.widest)

    @classmethod
    def _packed(cls, plain: QDepthwise, constants: Sequence[np.ndarray | None], *more: Any) -> Taken | str:
        w, bias, m = (cast(np.ndarray, constants[i]) for i in (1, 2, 3))
        filters = np.moveaxis(w, 2, 0)
        problem = conversion_problem(filters, bias, m)
        if problem is not None:
            return problem
        geometry = ((w.shape[0], w.shape[1]), plain.stride, plain.padding, plain.dilation)
        made = cls(*geometry, plain.x_zero, plain.y_zero, plain.qmin, plain.qmax, *more)
        at = cls.lanes(w.shape[2])
        folded = folded_bias(filters, bias, plain.x_zero)
        lanes = [np.append(values, values.dtype.type(0))[at].reshape(-1) for values in (folded, m)]
        return Taken(made, {1: _pack(w, at), 2: lanes[0], 3: lanes[1]})

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w, bias, m = inputs
        expect(x.rank == 4 and w.rank == 5, f"{self.name} needs x of rank 4 and packed weights of rank 5")
        channels, vectors = x.bounds[3], len(self.lanes(x.bounds[3]))
        want = (vectors, round_up(self.kernel[0], QUAD) // QUAD, self.kernel[1], LANES, QUAD)
        expect(w.bounds == want, f"packed weights of shape {w.bounds}, not {want}")
        check_requantize(x, w, bias, m, vectors * LANES)
        lanes = Type((channels,), DType.S32), Type((channels,), DType.F32)
        return self._plain.infer(x, Type((*self.kernel, channels), DType.S8), *lanes)

    @property
    def _plain(self) -> QDepthwise:
        quant = (self.x_zero, self.y_zero, self.qmin, self.qmax)
        return QDepthwise(self.stride, self.padding, self.dilation, *quant)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, packed, bias, m = inputs
        lanes = self.lanes(x.shape[3]).reshape(-1)
        at = [int(np.flatnonzero(lanes == c)[0]) for c in range(x.shape[3])]
        w = _unpack(packed, self.kernel[0])[:, :, at]
        plain_bias = unfolded_bias(np.moveaxis(w, 2, 0), bias[at], self.x_zero)
        return self._plain.integer_reference(x, w, plain_bias, m[at])

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        n, ih, iw, c = inputs[0].bounds
        _, oh, ow, _ = outputs[0].bounds
        kh, kw = self.kernel
        return {
            **{"n": n, "ih": ih, "iw": iw, "c": c, "oh": oh, "ow": ow, "kh": kh, "kw": kw},
            **window_params(self.stride, self.padding, self.dilation),
            **{"x_zero": self.x_zero, "y_zero": self.y_zero, "qmin": self.qmin, "qmax": self.qmax},
        }

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * self.kernel[0] * self.kernel[1], sum(t.nbytes for t in (*inputs, *outputs)))


@dataclass(frozen=True)
class _SmallWindow(_PackedDepthwise):
    """Windows of up to 3 x 3.

    `rectified` says that codes are 0..255 around zero point 0, that no multiplier is negative and no sum reaches 2^22.
    `band` is how many rows of output are computed before the next block of channels.
    """

    rectified: bool
    band: int

    @classmethod
    def _fits(cls, plain: QDepthwise, channels: int) -> bool:
        raise NotImplementedError

    @classmethod
    def _band(cls, x: Type, y: Type, stride: int) -> int:
        raise NotImplementedError

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        plain = cast(QDepthwise, op)
        if any(constants[i] is None for i in (1, 2, 3)):
            return "its weights are not constants of the program"
        w, bias, m = (cast(np.ndarray, constants[i]) for i in (1, 2, 3))
        if w.shape[0] > 3 or w.shape[1] != 3 or not cls._fits(plain, w.shape[2]):
            return "its window is another, or its channels are"
        reach = accumulator_bound_per_channel(np.moveaxis(w, 2, 0), bias).max(initial=0.0)
        tame = bool((m >= 0).all()) and bool(reach < _RECTIFIED_BOUND)
        codes = (plain.y_zero, plain.qmin, plain.qmax)
        band = max(2, cls._band(types[0], plain.infer(*types)[0], plain.stride[0]) // 2 * 2)
        return cls._packed(plain, constants, tame and codes == (0, 0, 255), band)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        own = {"rectified": int(self.rectified), "band": self.band, "step": outputs[0].bounds[3]}
        return {**super().kernel_params(inputs, outputs), **own}

    def writes_pieces(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...], nbytes: int) -> bool:
        return nbytes == outputs[0].bounds[3]


@dataclass(frozen=True)
class VDepthwise(_SmallWindow):
    """Windows of up to 3 x 3 over 16 channels or more, with strides of 1, or of 2 from column to column."""

    name = "v_depthwise"
    splits = True
    widest = _WIDE

    @classmethod
    def _fits(cls, plain: QDepthwise, channels: int) -> bool:
        single = plain.stride == plain.dilation == (1, 1)
        return channels >= LANES and (single or (plain.stride[1] == 2 and plain.dilation[1] == 1))

    @classmethod
    def _band(cls, x: Type, y: Type, stride: int) -> int:
        return min(round_up(y.bounds[1], 2), _BAND_BYTES // (x.bounds[2] * x.bounds[3] * stride))

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        zeros = inputs[0].bounds[2] * inputs[0].bounds[3]  # a row of x
        return _PREPARED_BYTES * (_WIDE // LANES) + zeros

    def inner_loops(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, set[int]]:
        rows, channels, single = outputs[0].bounds[1], outputs[0].bounds[3], self.stride[1] == 1
        sweeps = {0 if single else 1} if channels % _WIDE else set()
        if channels >= _WIDE:  # by pairs of rows, and a last row alone
            sweeps |= ({2} if single and rows > 1 else set()) | ({3} if not single or rows % 2 else set())
        plain, rectified = (set(), sweeps) if self.rectified else (sweeps, set())
        return {"PJ_DEPTHWISE_PLAIN": plain, "PJ_DEPTHWISE_RECTIFIED": rectified}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QDepthwise.samples())
        yield from cls.taken(small_window_samples((16, 20, 33, 48, 64, 72, 80, 128, 150), (16, 64)))


@dataclass(frozen=True)
class VDepthwiseFew(_SmallWindow):
    """Windows of up to 3 x 3 over fewer than 16 channels, with strides of 1."""

    name = "v_depthwise_few"
    widest = _HALF

    @classmethod
    def _fits(cls, plain: QDepthwise, channels: int) -> bool:
        return channels < LANES and plain.stride == plain.dilation == (1, 1)

    @classmethod
    def _band(cls, x: Type, y: Type, stride: int) -> int:
        return min(round_up(y.bounds[1], 2), _STAGED_BYTES // _staged_row(y.bounds[2]) - 2)

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return _PREPARED_BYTES + (self.band + 2) * _staged_row(outputs[0].bounds[2])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QDepthwise.samples())
        yield from cls.taken(small_window_samples((1, 3, 7, 8, 9, 12, 15), (5, 8, 11)))


@dataclass(frozen=True)
class VDepthwiseAny(_PackedDepthwise):
    """Every window."""

    name = "v_depthwise_any"
    preference = -1  # the others are faster where they can stand
    widest = LANES

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        if any(constants[i] is None for i in (1, 2, 3)):
            return "its weights are not constants of the program"
        return cls._packed(cast(QDepthwise, op), constants)

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        quads, kw = inputs[1].bounds[1:3]
        wide = inputs[0].bounds[3] >= LANES
        tile = 4 if wide else 8
        columns = round_up(outputs[0].bounds[2], tile) + (kw - 1) * self.dilation[1] // self.stride[1]
        vectors = 2 * quads * kw + quads * self.stride[1] * columns  # of weights, and of staged taps
        rows = inputs[0].bounds[2] * inputs[0].bounds[3] if wide else 4 * (columns + 1) * _HALF
        return vectors * LANES * QUAD * 2 + rows

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QDepthwise.samples())
        yield from cls.taken(window_samples())


def channel_lanes(channels: int, widest: int) -> np.ndarray:
    """int (vectors, 16): the channel of each lane of the blocks that a kernel takes, -1 where there is none.

    A block of 64 is four vectors, in the order in which registers of 128 bits unpack. A block of 8 fills a vector
    twice, for two pixels. The last block overlaps with the one before, so that none ends beyond the channels.
    """
    found, c = [], 0
    while c < channels:
        lanes = _WIDE if channels - c >= _WIDE == widest else LANES if channels >= LANES else _HALF
        block = max(0, min(c, channels - lanes)) + np.arange(lanes)
        if lanes == _WIDE:
            found += list(block.reshape(4, 4, 4).swapaxes(0, 1).reshape(4, LANES))
        else:
            found.append(np.tile(np.where(block < channels, block, -1), LANES // lanes))
        c += lanes
    return np.array(found, np.int64).reshape(-1, LANES)


def _pack(w: np.ndarray, lanes: np.ndarray) -> np.ndarray:
    """s8 (KH, KW, C) -> (vectors, quads, KW, 16, 4)."""
    kh, kw, c = w.shape
    filled = np.zeros((round_up(kh, QUAD), kw, c + 1), w.dtype)
    filled[:kh, :, :c] = w  # the channel -1 stays zero
    split = filled[:, :, lanes].reshape(-1, QUAD, kw, len(lanes), LANES)
    return np.ascontiguousarray(split.transpose(3, 0, 2, 4, 1))


def _unpack(packed: np.ndarray, kh: int) -> np.ndarray:
    """(vectors, quads, KW, 16, 4) -> (KH, KW, vectors * 16)."""
    vectors, quads, kw = packed.shape[:3]
    return packed.transpose(1, 4, 2, 0, 3).reshape(quads * QUAD, kw, vectors * LANES)[:kh]


def _staged_row(width: int) -> int:
    """Bytes of a row of 8 channels with its border, for `width` pixels of output."""
    return (round_up(width, 4) + 2) * _HALF
