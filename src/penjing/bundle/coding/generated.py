"""Bytes that everyone can make: self-tests want inputs that reach all codes, and need not store them.

    h(i):  x = i 0x9E3779B9;  x ^= x >> 16;  x *= 0x7FEB352D;  x ^= x >> 15;  x *= 0x846CA68B;  x ^= x >> 16
    byte i = h(i) >> 24                                                     everything modulo 2^32

(The mixing steps are Wellons' "lowbias32", found by searching for the least bias.)
"""

from typing import Any

import numpy as np

_GOLDEN_RATIO = 0x9E3779B9
_LEAST = 16  # bytes that are no accident


def generated(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> np.ndarray:
    """The tensor whose little-endian bytes, in C order, are byte 0, 1, 2, ... of the sequence."""
    little = dtype.newbyteorder("<")
    x = np.arange(int(np.prod(shape, dtype=np.int64)) * little.itemsize, dtype=np.uint32) * np.uint32(_GOLDEN_RATIO)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    return (x >> np.uint32(24)).astype(np.uint8).view(little).reshape(shape)


def generated_tail(array: np.ndarray) -> int:
    """How many of the last slices of `array` (n, ...) are `generated((slices, ...))`: at least `_LEAST` bytes, or 0."""
    if array.ndim == 0 or array.nbytes < _LEAST:
        return 0
    made, found = generated(array.shape, array.dtype).tobytes(), array.tobytes()
    size, at = len(found) // len(array), found.find(made[:_LEAST])
    while at >= 0:
        if at % size == 0 and made.startswith(found[at:]):
            return (len(found) - at) // size
        at = found.find(made[:_LEAST], at + 1)
    return 0
