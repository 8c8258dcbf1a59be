"""How weights lie for SIMD kernels: 16 output channels side by side, 4 input channels of each together.

`vpdpbusd`, `sdot` and their like take 4 codes and 4 weights per lane, so for every stretch of inputs a kernel reads
`[16 channels][4 weights]` in one go. Channels beyond the last are zero, as are weights that meet filled-up inputs.
"""

from typing import Any

import numpy as np

from penjing.core.arithmetic import U8_MAX

LANES = 16
QUAD = 4


def blocks(channels: int) -> int:
    """Vectors of 16 lanes that hold `channels`."""
    return -(-channels // LANES)


def round_up(value: int, step: int) -> int:
    """`value` rounded up to a multiple of `step`."""
    return -(-value // step) * step


def pack_quads(w: np.ndarray) -> np.ndarray:
    """Bytes (O, ..., C) -> (blocks, ..., C4, 16, 4), where C4 = ceil(C / 4)."""
    o, *middle, c = w.shape
    filled = np.ascontiguousarray(w)
    if o % LANES or c % QUAD:
        filled = np.zeros((blocks(o) * LANES, *middle, round_up(c, QUAD)), w.dtype)
        filled[:o, ..., :c] = w
    # four bytes move as one number: a quarter of the work, and the byte order does not matter
    quads = filled.reshape(blocks(o), LANES, -1).view(np.uint32).swapaxes(1, 2)
    return np.ascontiguousarray(quads).view(w.dtype).reshape(blocks(o), *middle, -1, LANES, QUAD)


def unpack_quads(packed: np.ndarray, o: int, c: int) -> np.ndarray:
    """The inverse of `pack_quads`."""
    moved = np.moveaxis(packed, -2, 1)
    filled = moved.reshape(moved.shape[0] * LANES, *moved.shape[2:-2], -1)
    return np.ascontiguousarray(filled[:o, ..., :c])


def fill(values: np.ndarray, step: int) -> np.ndarray:
    """(O, ...) -> (P, ...), filled up with zeros to a multiple of `step`."""
    more = round_up(len(values), step) - len(values)
    return np.concatenate([values, np.zeros((more, *values.shape[1:]), values.dtype)])


def folded_bias(w: np.ndarray, bias: np.ndarray, x_zero: int) -> np.ndarray:
    """s32 (O): the bias with which sums of w * q equal sums of w * (q - x_zero) with `bias`. It may wrap."""
    sums = w.reshape(len(w), -1).sum(1, dtype=np.int64)
    folded: np.ndarray = (bias.astype(np.int64) - x_zero * sums).astype(np.int32)
    return folded


def unfolded_bias(w: np.ndarray, bias: np.ndarray, x_zero: int) -> np.ndarray:
    """The inverse of `folded_bias`."""
    return folded_bias(w, bias, -x_zero)


def conversion_problem(w: Any, bias: Any, multiplier: Any, residual_scale: float = 0.0) -> str | None:
    """Why the float sums of a layer could leave the range of int32, where conversions differ; None when they cannot.

    w is (O, ...), bias and multiplier are (O).
    """
    reach = accumulator_bound_per_channel(w, bias) * np.abs(multiplier.astype(np.float64))
    largest = float(reach.max(initial=0.0)) + 255.0 * abs(residual_scale)
    return None if largest < 2.0**30 else f"its results may reach {largest:.3g} steps, beyond the range of int32"


def accumulator_bound_per_channel(w: Any, bias: Any) -> np.ndarray:
    """float64 (O): no sum of channel o of w s8 (O, ...), with any codes, is larger."""
    magnitudes = np.abs(w.reshape(len(w), -1)).view(np.uint8)  # that of -128 wraps to the byte 128
    sums = magnitudes.sum(axis=1, dtype=np.int64)
    bound: np.ndarray = (sums * U8_MAX + np.abs(bias.astype(np.int64))).astype(np.float64)
    return bound
