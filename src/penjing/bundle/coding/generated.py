"""Bytes that everyone can make: self-tests want inputs that reach all codes, and need not store them.

    h(i):  x = i 0x9E3779B9;  x ^= x >> 16;  x *= 0x7FEB352D;  x ^= x >> 15;  x *= 0x846CA68B;  x ^= x >> 16
    byte i = h(i) >> 24                                                     everything modulo 2^32

(The mixing steps are Wellons' "lowbias32", found by searching for the least bias.)
"""

from typing import Any

import numpy as np

_GOLDEN_RATIO = 0x9E3779B9


def generated(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> np.ndarray:
    """The tensor whose little-endian bytes, in C order, are byte 0, 1, 2, ... of the sequence."""
    little = dtype.newbyteorder("<")
    x = np.arange(int(np.prod(shape, dtype=np.int64)) * little.itemsize, dtype=np.uint32) * np.uint32(_GOLDEN_RATIO)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    return (x >> np.uint32(24)).astype(np.uint8).view(little).reshape(shape)


def generated_tail(array: np.ndarray) -> int:
    """How many of the last slices of `array` (n, ...) are `generated((slices, ...))`."""
    if array.ndim == 0:
        return 0
    made = generated(array.shape, array.dtype).reshape(-1)
    flat = array.astype(made.dtype, copy=False).reshape(-1)
    size = flat.size // len(array)
    same = (n for n in range(len(array), 0, -1) if made[: n * size].tobytes() == flat[flat.size - n * size :].tobytes())
    return next(same, 0)
