"""Quantizing without a division: reals times 1 / scale in two parts, where that gives the same codes.

    steps = rne32(x * inverse + rne32(x * rest))        inverse = rne32(1 / scale), rest = rne32(1 / scale - inverse)

is one multiplication and one fused multiply-add. It never decreases with x, and neither does `x / scale` rounded to
float32. So both give the same codes for all x if they do on both sides of the places where one code ends and the next
begins. These are few enough to be tried for every scale: `rounds_alike` does. docs/spec/arithmetic.md has the proof.
"""

from fractions import Fraction

import numpy as np

_TIES = np.arange(255) + 0.5  # of either sign: no code is farther from the zero point
_BESIDE = 3  # floats on both sides of a tie, two more than rounding can move the end of a code
FARTHEST = 512  # steps; kernels clamp reals there
_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


def two_part_inverse(scale: np.float32) -> tuple[float, float] | None:
    """(inverse, rest), both exactly float32, or None where only a division is sure to give the codes of `scale`."""
    exact = 1 / Fraction(float(scale))
    inverse = float(np.float32(float(exact)))
    rest = float(np.float32(float(exact - Fraction(inverse))))
    if float(scale) * FARTHEST > _LARGEST or inverse < _SMALLEST or 0 < abs(rest) < _SMALLEST:
        return None
    return (inverse, rest) if rounds_alike(scale, inverse, rest) else None


def rounds_alike(scale: np.float32, inverse: float, rest: float) -> bool:
    """Whether the formula above and `x / scale` round to the same integers around every tie between two codes."""
    x = _around_ties(np.float32(scale))
    return np.array_equal(np.rint(x / np.float32(scale)), np.rint(_steps(x, inverse, rest)))


def _around_ties(scale: np.float32) -> np.ndarray:
    """(ties, floats): increasing, so that each row holds the last float of a code and the first of the next."""
    middle = (_TIES * float(scale)).astype(np.float32)
    before, after = [middle], [middle]
    for _ in range(_BESIDE):
        before.append(np.nextafter(before[-1], np.float32(-np.inf)))
        after.append(np.nextafter(after[-1], np.float32(np.inf)))
    return np.stack([*before[:0:-1], *after], axis=1)


def _steps(x: np.ndarray, inverse: float, rest: float) -> np.ndarray:
    """rne32(x * inverse + rne32(x * rest)): products of two float32 are exact in float64."""
    wide = x.astype(np.float64)
    product, correction = wide * inverse, (wide * rest).astype(np.float32).astype(np.float64)
    total = product + correction
    back = total - product
    error = (product - (total - back)) + (correction - back)
    # a sum that is not exact becomes the odd one of its neighbours, so that rounding once more is rounding once
    inexact_even = (error != 0) & (total.view(np.int64) % 2 == 0)
    odd = np.where(inexact_even, np.nextafter(total, np.copysign(np.inf, error)), total)
    return odd.astype(np.float32)
