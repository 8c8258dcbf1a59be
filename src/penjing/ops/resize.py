"""The integer operators that resize images, and the places that they read.

With a pitch of so many input elements per output element, in float32 and in torch's order of operations:

    nearest        source(i) = min(floor(i * pitch), extent - 1)
    linear         place(i)  = max((i + 1/2) * pitch - 1/2, 0), or i * pitch where the corners are aligned
                   i0 = min(floor(place), extent - 1), i1 = min(i0 + 1, extent - 1), f = min(place - i0, 1)
                   y = (1 - f) * x[i0] + f * x[i1], along each axis

The pitch is extent / size, or 1 / scale where the network gives a scale, or (extent - 1) / (size - 1) with aligned
corners. All this is evaluated when a program is built: devices read tables. In integers, nearest moves codes. Linear
has weights of 11 fraction bits along each axis, w1 = rne(2048 * f) and w0 = 2048 - w1, and

    acc = sum over the four neighbours of wy * wx * (q_x - zp_x)          |acc| <= 255 * 2^22 < 2^31
    y   = rne(clamp(float32(acc) * m, qmin - zp_y, qmax - zp_y)) + zp_y,  m = s_x / (s_y * 2^22) in float32
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import requantize
from penjing.ir.types import DType, Type
from penjing.ops.integer_samples import codes
from penjing.ops.operator import Cost, IntegerOperator, Param, Sample, expect

FRACTION_BITS = 11  # of each axis: two of them and 8 bits of code fit into an int32
ONE = 1 << FRACTION_BITS


def pitch(extent: int, size: int, scale: float = 0.0, corners: bool = False) -> np.float32:
    """Input elements per output element; a scale of 0 is none."""
    if corners:
        return np.float32(extent - 1) / np.float32(size - 1) if size > 1 else np.float32(0)
    return np.float32(1.0 / scale) if scale > 0 else np.float32(extent) / np.float32(size)


def nearest(extent: int, size: int, pitch: np.float32) -> np.ndarray:
    """s32 (size): the source of every output element."""
    places = np.floor(np.arange(size, dtype=np.float32) * pitch)
    sources: np.ndarray = np.minimum(places, extent - 1).astype(np.int32)
    return sources


def between(extent: int, size: int, pitch: np.float32, corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(i0 s32, i1 s32, f float32), each (size): the two neighbours of every output element and the second's part."""
    i = np.arange(size, dtype=np.float32)
    if extent == size:
        return i.astype(np.int32), i.astype(np.int32), np.zeros_like(i)
    half = np.float32(0.5)
    place = i * pitch if corners else np.maximum((i + half) * pitch - half, np.float32(0))
    first = np.minimum(np.floor(place), extent - 1)
    fraction = np.minimum(place - first, np.float32(1))
    return first.astype(np.int32), np.minimum(first + 1, extent - 1).astype(np.int32), fraction


def integer_weights(first: np.ndarray, second: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """s32 (size, 3): i0, i1, w1."""
    return np.stack([first, second, np.rint(fraction * np.float32(ONE)).astype(np.int32)], axis=1)


def _check_image(inputs: tuple[Type, ...], table: tuple[int, ...]) -> tuple[Type, ...]:
    x, rows, columns = inputs
    expect(x.rank == 4 and x.dtype is DType.U8, "resizing needs u8 of rank 4")
    expect(rows.dtype is DType.S32 and columns.dtype is DType.S32, "tables of places are s32")
    fits = rows.rank == columns.rank == 1 + len(table) and rows.bounds[1:] == table == columns.bounds[1:]
    expect(fits, f"tables of shape {rows.bounds} and {columns.bounds}")
    return (Type((x.shape[0], rows.bounds[0], columns.bounds[0], x.shape[3]), DType.U8),)


def _check_places(places: np.ndarray, extent: int) -> None:
    expect(bool(((places >= 0) & (places < extent)).all()), f"a place outside an axis of {extent}")


def _image_params(x: Type, y: Type) -> dict[str, Param]:
    n, oh, ow, c = y.bounds
    return {"n": n, "ih": x.bounds[1], "iw": x.bounds[2], "c": c, "oh": oh, "ow": ow}


@dataclass(frozen=True)
class QResizeNearest(IntegerOperator):
    """x u8 (N, H, W, C), rows s32 (OH), columns s32 (OW): the sources; output (N, OH, OW, C)."""

    name = "q_resize_nearest"

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return _check_image(inputs, ())

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, rows, columns = inputs
        _check_places(rows, x.shape[1])
        _check_places(columns, x.shape[2])
        return (np.ascontiguousarray(x[:, rows[:, None], columns]),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return _image_params(inputs[0], outputs[0])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(49)
        for channels in (1, 3, 15, 16, 17, 33):
            x = codes(rng, (1 + channels % 2, 4, 3, channels))
            rows, columns = (nearest(extent, size, pitch(extent, size)) for extent, size in ((4, 8), (3, 7)))
            yield Sample(cls(), (x, rows, columns), constant=(1, 2))
        shrink = (np.array([0, 2, 3], np.int32), np.array([1], np.int32))
        yield Sample(cls(), (codes(rng, (2, 4, 3, 64)), *shrink), constant=(1, 2))


@dataclass(frozen=True)
class QResizeBilinear(IntegerOperator):
    """x u8 (N, H, W, C), rows s32 (OH, 3), columns s32 (OW, 3): i0, i1, w1 of 2048; output (N, OH, OW, C)."""

    name = "q_resize_bilinear"

    x_zero: int
    multiplier: float
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return _check_image(inputs, (3,))

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, rows, columns = inputs
        acc = x.astype(np.int32) - self.x_zero
        for axis, table in ((1, rows), (2, columns)):
            _check_places(table[:, :2], x.shape[axis])
            _check_places(table[:, 2], ONE + 1)
            w = table[:, 2].reshape(-1, *(1,) * (3 - axis))
            acc = np.take(acc, table[:, 0], axis=axis) * (ONE - w) + np.take(acc, table[:, 1], axis=axis) * w
        return (requantize(acc, np.asarray(self.multiplier, np.float32), self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {
            **_image_params(inputs[0], outputs[0]),
            **{"x_zero": self.x_zero, "multiplier": self.multiplier, "y_zero": self.y_zero},
            **{"low": float(self.qmin - self.y_zero), "high": float(self.qmax - self.y_zero)},
        }

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(4 * outputs[0].elements, sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(50)
        step = 2.0**-22  # a multiplier of one step: halves of weights 1024 give exact ties
        tails = (
            (128, step, 128, 0, 255),
            (0, step, 0, 0, 255),
            (255, 4 * step, 255, 0, 255),
            (3, float(np.float32(1.37 * step)), 7, 20, 200),
        )
        for i, channels in enumerate((1, 3, 15, 16, 17, 33, 65)):
            x = codes(rng, (1 + i % 2, 4, 4, channels))
            corners = i % 3 == 2
            tables = [
                integer_weights(*between(4, size, pitch(4, size, corners=corners), corners))
                for size in (8, 7 - 4 * (i % 2))
            ]
            yield Sample(cls(*tails[i % 4]), (x, *tables), constant=(1, 2))
        every = np.stack([np.arange(256), np.roll(np.arange(256), 1)]).astype(np.uint8).reshape(1, 2, 256, 1)
        ties = (np.array([[0, 1, ONE // 2], [1, 1, 0], [0, 1, ONE]], np.int32), np.zeros((256, 3), np.int32))
        ties[1][:, 0] = ties[1][:, 1] = np.arange(256)
        for tail in tails:
            yield Sample(cls(*tail), (every, *ties), constant=(1, 2))
