"""The element types of a tensor, and their bytes as symbols.

A wide element is a sum of balanced digits, v = d0 + 2^8 d1 + 2^16 d2 + 2^24 d3 modulo its width, each digit in
-128..127: small numbers of either sign have zeros above. Floats are read as the integers of their bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("i1"),
    3: np.dtype("<i2"),
    4: np.dtype("<i4"),
    5: np.dtype("<f4"),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
DTYPE_NAMES = {"u8": DTYPES[1], "s8": DTYPES[2], "s16": DTYPES[3], "s32": DTYPES[4], "f32": DTYPES[5]}


def as_integers(array: np.ndarray) -> NDArray[np.int64]:
    """(n,) the elements in C order, as signed integers of the same bits."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(f"<i{flat.dtype.itemsize}").astype(np.int64)


def from_integers(values: NDArray[np.int64], dtype: np.dtype[Any]) -> np.ndarray:
    """The elements whose bits are those of `values` (n,), modulo their width."""
    return values.astype(f"<i{dtype.itemsize}").view(dtype)


def digits(values: NDArray[np.int64], count: int) -> NDArray[np.int8]:
    """(count, n) balanced digits of `values` (n,), the lowest first."""
    found = np.empty((count, len(values)), np.int8)
    for i in range(count):
        found[i] = values.astype(np.int8)
        values = values - found[i] >> 8
    return found


def from_digits(found: NDArray[np.int8]) -> NDArray[np.int64]:
    """(n,) the numbers of which `found` (count, n) are the digits."""
    return sum((digit.astype(np.int64) << 8 * i for i, digit in enumerate(found)), np.zeros(found.shape[1], np.int64))


def differences(values: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """(n,) each of `values` (n,) less the one before it, modulo 2^`width`, in the signed range."""
    half = 1 << width - 1
    return (np.diff(values, prepend=0) + half) % (2 * half) - half
