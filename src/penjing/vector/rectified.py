"""The shorter way from sums to codes that a rectifier ends at zero: sums start at the bits of 2^23.

Read as a float, such a sum is 2^23 + sum, exactly, from 0 up to 2^23: no conversion is needed. Below 0 it is some float
between 0 and 2^23, and its code is 0, as it should be.
"""

import numpy as np

from penjing.core.arithmetic import U8_MAX

START = 0x4B000000  # the bits of 2^23
_END = 2**23
_LOWEST = -(2**30)  # sums from here on leave bits of a float above 0


def started_bias(
    w: np.ndarray, bias: np.ndarray, multiplier: np.ndarray, codes: tuple[int, int, int], *, residual: bool
) -> tuple[np.ndarray, bool]:
    """s32 (O), whether rectified: what sums start from, the bits of 2^23 above `bias` where this is proven exact.

    Args:
        w: s8 (O, ...).
        bias: s32 (O), with the zero point of the input in it.
        multiplier: f32 (O).
        codes: zero point, least and largest code of the output.
        residual: whether something is added before codes are clamped.
    """
    flat = w.reshape(len(w), -1).astype(np.int64)
    most = U8_MAX * np.maximum(flat, 0).sum(axis=1) + bias
    least = U8_MAX * np.minimum(flat, 0).sum(axis=1) + bias
    tame = (most < _END) & (least >= _LOWEST) & (multiplier >= 0)
    if residual or codes != (0, 0, U8_MAX) or not tame.all():
        return bias, False
    return bias + np.int32(START), True


def plain_bias(bias: np.ndarray, *, rectified: bool) -> np.ndarray:
    """The bias that `started_bias` was given."""
    return bias - np.int32(START) if rectified else bias
