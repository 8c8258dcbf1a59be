"""A histogram of a stream of numbers in bounded memory, that depends on the values seen and on nothing else.

Its bins are [k * 2**e, (k + 1) * 2**e) for whole k. When a value falls outside, neighbouring bins merge (e grows, k
halves). As bins lie on multiples of powers of two, merging loses nothing against binning anew: the histogram depends on
the values and not on their order or on how the stream was cut.
"""

import math

import numpy as np
from numpy.typing import NDArray

from penjing.core.errors import CalibrationError, InvalidInput

_BLOCK = 2**16  # values binned at a time: 256 KiB of float32 stays in the cache
_MIN_EXPONENT = -126  # of a bin's width: the smallest whose reciprocal is a float32

_Float32 = NDArray[np.float32]


class Histogram:
    """Counts of finite float32 values.

    Attributes:
        low: the smallest value seen, infinity before any.
        high: the largest.
        zeros: how many values were zero; they are counted in their bin as well.
        at_low: how many were `low`.
        at_high: how many were `high`.
        exponent: e, bins are 2**e wide.
        first: k of bin 0.
        counts: of each bin.
    """

    def __init__(self, bins: int) -> None:
        self.low, self.high = math.inf, -math.inf
        self.zeros, self.at_low, self.at_high = 0, 0, 0
        self.exponent = _MIN_EXPONENT
        self.first = 0
        self.counts = np.zeros(bins, dtype=np.int64)

    @property
    def empty(self) -> bool:
        """Whether nothing was seen."""
        return self.low > self.high

    def update(self, values: _Float32, low: float, high: float) -> None:
        """Take in flat `values`, whose smallest is `low` and whose largest is `high`."""
        if low < self.low:
            self.at_low = 0
        if high > self.high:
            self.at_high = 0
        self._cover(min(self.low, low), max(self.high, high))
        self.at_low += int(np.count_nonzero(values == np.float32(self.low)))
        self.at_high += int(np.count_nonzero(values == np.float32(self.high)))
        self.zeros += values.size - int(np.count_nonzero(values))
        per_width = 2.0**-self.exponent
        for start in range(0, values.size, _BLOCK):
            # Exact: a power of two moves only the exponent, which float64 has room for, and |k| <= 2**24.
            bins = np.floor(values[start : start + _BLOCK].astype(np.float64) * per_width).astype(np.intp)
            bins -= self.first
            self.counts += np.bincount(bins, minlength=self.counts.size)

    def _cover(self, low: float, high: float) -> None:
        """Widen and shift the bins until `low` and `high` fit; merging keeps all counts."""
        if (low, high) == (self.low, self.high):
            return
        exponent = _bin_exponent(low, high, self.counts.size)
        first = math.floor(math.ldexp(low, -exponent))
        used = np.flatnonzero(self.counts)
        moved = ((used + self.first) >> min(exponent - self.exponent, 63)) - first
        merged = np.zeros_like(self.counts)
        np.add.at(merged, moved, self.counts[used])
        self.low, self.high, self.exponent, self.first, self.counts = low, high, exponent, first, merged


def _bin_exponent(low: float, high: float, bins: int) -> int:
    """The smallest e with which bins of width 2**e cover low..high; it can only grow when the range does."""
    peak = max(abs(low), abs(high))
    if peak == 0:
        return _MIN_EXPONENT
    exponent = max(_MIN_EXPONENT, math.frexp(peak)[1] - 24)  # keeps |k| <= 2**24, exact in float32
    if high > low:
        exponent = max(exponent, math.frexp((high - low) / bins)[1] - 1)
    while math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) >= bins:
        exponent += 1
    return exponent


def checked(array: np.ndarray, name: str | None) -> tuple[_Float32, float, float]:
    """The values as a flat float32 array, and their smallest and largest."""
    given = np.asarray(array)
    if given.dtype.kind not in "fiu":
        raise InvalidInput(f"calibration needs real numbers, not {given.dtype}", where=name)
    if given.size == 0:
        raise CalibrationError(f"a calibration array of shape {given.shape} holds no values", where=name)
    with np.errstate(over="ignore"):
        values = given.astype(np.float32, copy=False).ravel()
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = ~np.isfinite(values)
        raise CalibrationError(
            f"{np.count_nonzero(bad)} of {values.size} calibration values are NaN, infinite or beyond float32, "
            f"the first at flat index {int(np.argmax(bad))}",
            where=name,
            hint="check the calibration inputs and their normalisation, then the weights before this place",
        )
    return values, low, high
