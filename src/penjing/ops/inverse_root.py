"""1 / sqrt of an integer, the same on every machine: what norms divide by.

For 1 <= w < 2^62, h is the smallest number with w * 4^h >= 2^60, and

    root = floor(sqrt(w * 4^h))                     2^30 .. 2^31 - 1, digit by digit, no division
    inverse_root(w) = 2^h / float32(root)           one conversion, one IEEE division

A norm's w is a sum of squares and its eps, both integers: w = floor(v * 2^shift) + eps. The shift is the largest up to
30 with which w stays below 2^62: the rounding of eps is nothing beside v. docs/spec/arithmetic.md has the bounds.
"""

import math
from dataclasses import dataclass

import numpy as np

from penjing.ops.operator import Param, expect

LIMIT = 2**62
_MOST_BITS, _LEAST_BITS = 30, -62  # below, nothing is left of a sum of squares
_NORMAL = 2**60  # what the radicand is brought to
_LOW_BITS = 31


@dataclass(frozen=True)
class Radicand:
    """w = floor(v * 2^shift) + eps for a sum of squares v, and what 1 / sqrt(v + exact eps) is of 1 / sqrt(w)."""

    shift: int
    eps: int
    factor: float


def radicand(eps: float, largest: int) -> Radicand:
    """For an eps in units of v, which is at most `largest`."""
    shift = _MOST_BITS
    while eps * 2.0**shift + largest * 2.0**shift >= LIMIT / 2:
        shift -= 1
    return Radicand(shift, round(eps * 2.0**shift), math.sqrt(2.0**shift))


def check_radicand(shift: int, eps: int, largest: int) -> None:
    """InvalidGraph unless no sum of squares up to `largest` leads to a radicand of 2^62."""
    expect(shift <= _MOST_BITS and 0 <= eps < LIMIT, f"a norm with shift {shift} and eps {eps}")
    scaled = largest << shift if shift >= 0 else largest >> min(-shift, -_LEAST_BITS)
    expect(scaled + eps < LIMIT, f"the radicand of a norm could reach {scaled + eps}, over the limit of {LIMIT}")


def radicand_params(shift: int, eps: int) -> dict[str, Param]:
    """Fields of a kernel's struct, which has 32 bits for each."""
    return {"shift": shift, "eps_high": eps >> _LOW_BITS, "eps_low": eps & (2**_LOW_BITS - 1)}


def inverse_root(v: np.ndarray, shift: int, eps: int) -> np.ndarray:
    """float32: `inverse_root` of the radicand of every v, int64 and not negative; a radicand of 0 counts as 1."""
    w = v << np.int64(shift) if shift >= 0 else v >> np.int64(min(-shift, -_LEAST_BITS))
    w = np.maximum(w + np.int64(eps), 1)
    scale = np.ones(w.shape, np.float32)
    while (w < _NORMAL).any():
        small = w < _NORMAL
        w, scale = np.where(small, w * 4, w), np.where(small, scale * np.float32(2), scale)
    root = np.sqrt(w.astype(np.float64)).astype(np.int64)  # may be one off
    root -= root * root > w
    root += (root + 1) * (root + 1) <= w
    inverse: np.ndarray = scale / root.astype(np.float32)
    return inverse
