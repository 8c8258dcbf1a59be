"""Calibration: watch a stream of activations in bounded memory, then say which range their 8-bit codes should cover.

`MinMaxObserver` keeps two numbers. `MseObserver` keeps a histogram of fixed size whose bins are
[k * 2**e, (k + 1) * 2**e) for whole k. When a value falls outside, neighbouring bins merge (e grows, k halves).
As bins lie on multiples of powers of two, merging loses nothing against binning anew: the histogram, and so the range,
depends on the values seen and not on their order or on how the stream was cut.

The range of least expected squared error is found from that histogram. With step d = (high - low) / (levels - 1),

    error(low, high) = d**2 / 12 * (values rounded)  +  sum over values outside of (distance)**2

Rounded are the values inside, taken as spread evenly within a step, but for those at zero or at an end of the range,
which are codes themselves (relu and relu6 pile values up there). Every pair of bin edges with low <= 0 <= high is
tried. NOTE: for values much closer together than one step (1000 +- 1, as zero must be a code) the even spread does not
hold, and the range found is merely a reasonable one.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from penjing.core.errors import CalibrationError, InvalidInput

ObserverKind = Literal["min-max", "mse"]

_BINS = 2048
_BLOCK = 2**16  # values binned at a time: 256 KiB of float32 stays in the cache
_MIN_EXPONENT = -126  # of a bin's width: the smallest whose reciprocal is a float32
_TINY = float(np.finfo(np.float32).tiny)

_Float64 = NDArray[np.float64]
_Float32 = NDArray[np.float32]


class Observer(Protocol):
    """Sees every activation of one value of the graph once; memory does not grow with the stream."""

    def update(self, array: np.ndarray) -> None:
        """Take in one array of activations, any shape.

        Raises:
            CalibrationError: NaN, infinity, beyond float32, or no values.
            InvalidInput: not real numbers.
        """
        ...

    def range(self) -> tuple[float, float]:
        """(low, high) for `activation_parameters`.

        Raises:
            CalibrationError: nothing was seen.
        """
        ...


def make_observer(kind: ObserverKind, name: str | None = None, levels: int = 256) -> Observer:
    """A fresh observer; `name` is the watched value, for errors.

    Raises:
        InvalidInput: no such kind.
    """
    if kind == "min-max":
        return MinMaxObserver(name)
    if kind == "mse":
        return MseObserver(name, levels)
    raise InvalidInput(f"there is no observer {kind!r}", hint="use 'min-max' or 'mse'")


class MinMaxObserver:
    """The smallest and the largest value seen."""

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        self._low, self._high = math.inf, -math.inf

    def update(self, array: np.ndarray) -> None:
        """See `Observer.update`."""
        _, low, high = _checked(array, self._name)
        self._low, self._high = min(self._low, low), max(self._high, high)

    def range(self) -> tuple[float, float]:
        """See `Observer.range`."""
        if self._low > self._high:
            raise _empty(self._name)
        return self._low, self._high


class MseObserver:
    """The range with the least expected squared error of `levels` asymmetric codes, zero being one of them."""

    def __init__(self, name: str | None = None, levels: int = 256) -> None:
        if levels < 2:
            raise InvalidInput(f"a quantizer needs at least 2 levels, not {levels}")
        self._name = name
        self._levels = levels
        self._low, self._high = math.inf, -math.inf
        self._zeros, self._at_low, self._at_high = 0, 0, 0
        self._exponent = _MIN_EXPONENT
        self._first = 0  # k of bin 0
        self._counts = np.zeros(_BINS, dtype=np.int64)

    def update(self, array: np.ndarray) -> None:
        """See `Observer.update`."""
        values, low, high = _checked(array, self._name)
        if low < self._low:
            self._at_low = 0
        if high > self._high:
            self._at_high = 0
        self._cover(min(self._low, low), max(self._high, high))
        self._at_low += int(np.count_nonzero(values == np.float32(self._low)))
        self._at_high += int(np.count_nonzero(values == np.float32(self._high)))
        self._zeros += values.size - int(np.count_nonzero(values))
        per_width = np.float32(2.0**-self._exponent)
        for start in range(0, values.size, _BLOCK):
            # Exact: a power of two moves only the exponent, and |k| <= 2**24.
            bins = np.floor(values[start : start + _BLOCK] * per_width).astype(np.intp)
            bins -= self._first
            self._counts += np.bincount(bins, minlength=_BINS)

    def range(self) -> tuple[float, float]:
        """See `Observer.range`; always low <= 0 <= high."""
        if self._low > self._high:
            raise _empty(self._name)
        # All lengths from here on are in widths of a bin. Negative bins end, and the others begin, at zero.
        zero = min(max(-self._first, 0), _BINS)
        lowest, highest = math.ldexp(-self._low, -self._exponent), math.ldexp(self._high, -self._exponent)
        below = _side(self._counts[:zero][::-1], -(self._first + zero), lowest, self._at_low)
        above = _side(self._counts[zero:], self._first + zero, highest, self._at_high)
        nonzero = int(self._counts.sum()) - self._zeros
        best, low, high = math.inf, 0.0, 0.0
        for end, spared, squares in zip(below.ends[::-1], below.spared[::-1], below.squares[::-1], strict=True):
            step = (end + above.ends) / (self._levels - 1)
            error = step * step / 12 * (nonzero - spared - above.spared) + squares + above.squares
            least = int(np.argmin(error))
            if error[least] < best:
                best, low, high = float(error[least]), 0.0 - float(end), float(above.ends[least])
        return math.ldexp(low, self._exponent), math.ldexp(high, self._exponent)

    def _cover(self, low: float, high: float) -> None:
        """Widen and shift the bins until `low` and `high` fit; merging keeps all counts."""
        if (low, high) == (self._low, self._high):
            return
        exponent = _bin_exponent(low, high)
        first = math.floor(math.ldexp(low, -exponent))
        used = np.flatnonzero(self._counts)
        moved = ((used + self._first) >> min(exponent - self._exponent, 63)) - first
        merged = np.zeros_like(self._counts)
        np.add.at(merged, moved, self._counts[used])
        self._low, self._high, self._exponent, self._first, self._counts = low, high, exponent, first, merged


def activation_parameters(low: float, high: float, bits: int = 8) -> tuple[np.float32, int]:
    """Scale and zero point of real = scale * (q - zero_point), codes 0..2**bits-1, for values in low..high.

    The range is first widened to hold zero, and the zero point is rounded to an integer, so that real zero is a code
    (padding and relu are then exact). That moves the ends by at most half a step. A value that was always the same,
    v, gets the scale |v| / (2**bits - 1); one that was always zero gets scale 1. A scale is never less than the
    smallest normal float32, because some CPUs treat smaller numbers as zero.

    Raises:
        CalibrationError: NaN, infinity or beyond float32, or low > high.
        InvalidInput: `bits` outside 2..16.
    """
    if not 2 <= bits <= 16:
        raise InvalidInput(f"activations take 2 to 16 bits, not {bits}")
    limit = float(np.finfo(np.float32).max)
    if not (abs(low) <= limit and abs(high) <= limit) or low > high:
        raise CalibrationError(f"a range of activations cannot be {low}..{high}")
    top = 2**bits - 1
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return np.float32(1), 0
    scale = np.float32(max((high - low) / top, _TINY))
    return scale, min(max(round(-low / float(scale)), 0), top)


@dataclass(frozen=True)
class _Side:
    """Candidate ends of the range on one side of zero, ascending; the last is the farthest value.

    ends: distance from zero.
    spared: how many values are not rounded, because they lie beyond the end, or at the last one.
    squares: summed squared distance of the values beyond.
    """

    ends: _Float64
    spared: _Float64
    squares: _Float64


def _side(cells: NDArray[np.int64], start: int, end: float, at_end: int) -> _Side:
    """`cells` count values outwards, the first beginning at distance `start`; `at_end` values lie at `end`."""
    if end <= 0:
        return _Side(np.zeros(1), np.zeros(1), np.zeros(1))
    count = _suffix_sums(cells.astype(np.float64))
    ramp = _suffix_sums(count)
    # A value in the t-th cell beyond an end lies t..t+1 from it; the mean square is t * (t + 1) + 1/3.
    squares = 2 * (_suffix_sums(ramp) - ramp) + count / 3
    ends = start + np.arange(cells.size, dtype=np.float64)
    keep = (ends > 0) & (ends < end)
    return _Side(np.append(ends[keep], end), np.append(count[keep], at_end), np.append(squares[keep], 0.0))


def _suffix_sums(values: _Float64) -> _Float64:
    return np.cumsum(values[::-1])[::-1]


def _bin_exponent(low: float, high: float) -> int:
    """The smallest e with which bins of width 2**e cover low..high; it can only grow when the range does."""
    peak = max(abs(low), abs(high))
    if peak == 0:
        return _MIN_EXPONENT
    exponent = max(_MIN_EXPONENT, math.frexp(peak)[1] - 24)  # keeps |k| <= 2**24, exact in float32
    if high > low:
        exponent = max(exponent, math.frexp((high - low) / _BINS)[1] - 1)
    while math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) >= _BINS:
        exponent += 1
    return exponent


def _checked(array: np.ndarray, name: str | None) -> tuple[_Float32, float, float]:
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


def _empty(name: str | None) -> CalibrationError:
    return CalibrationError(
        "empty calibration set: no activation was seen", where=name, hint="pass at least one batch of typical inputs"
    )
