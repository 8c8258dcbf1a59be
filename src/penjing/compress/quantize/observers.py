"""Calibration: watch a stream of activations in bounded memory, then say which range their 8-bit codes should cover.

`MinMaxObserver` keeps two numbers, the others a histogram of fixed size (see `histogram`). None depends on the order
of the values. `PercentileObserver` cuts off a fixed share of them at each end (Wu et al., "Integer quantization for
deep learning inference", 2020, section 3.2), `EntropyObserver` keeps their distribution (see `entropy`).

`MseObserver` finds the range of least expected squared error. With step d = (high - low) / (levels - 1),

    error(low, high) = d**2 / 12 * (values rounded)  +  sum over values outside of (distance)**2

Rounded are the values inside, taken as spread evenly within a step, but for those at zero or at an end of the range,
which are codes themselves (relu and relu6 pile values up there). Every pair of bin edges with low <= 0 <= high is
tried. NOTE: for values much closer together than one step (1000 +- 1, as zero must be a code) the even spread does not
hold, and the range found is merely a reasonable one.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from penjing.compress.quantize.entropy import least_divergence
from penjing.compress.quantize.histogram import Histogram, checked
from penjing.core.errors import CalibrationError, InvalidInput

ObserverKind = Literal["min-max", "mse", "percentile", "entropy"]

_BINS = 2048
_FINE_BINS = 4096  # a level of codes should hold several bins also when most of the range is cut off
_TINY = float(np.finfo(np.float32).tiny)

_Float64 = NDArray[np.float64]


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
        """(low, high) for `penjing.ir.grid.activation_parameters`.

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
    if kind == "percentile":
        return PercentileObserver(name)
    if kind == "entropy":
        return EntropyObserver(name, levels)
    raise InvalidInput(f"there is no observer {kind!r}", hint=f"use one of {', '.join(get_args(ObserverKind))}")


class MinMaxObserver:
    """The smallest and the largest value seen."""

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        self._low, self._high = math.inf, -math.inf

    def update(self, array: np.ndarray) -> None:
        """See `Observer.update`."""
        _, low, high = checked(array, self._name)
        self._low, self._high = min(self._low, low), max(self._high, high)

    def range(self) -> tuple[float, float]:
        """See `Observer.range`."""
        if self._low > self._high:
            raise _empty(self._name)
        return self._low, self._high


class _HistogramObserver:
    def __init__(self, name: str | None, bins: int, levels: int = 256) -> None:
        if levels < 2:
            raise InvalidInput(f"a quantizer needs at least 2 levels, not {levels}")
        self._name = name
        self._levels = levels
        self.histogram = Histogram(bins)

    def update(self, array: np.ndarray) -> None:
        """See `Observer.update`."""
        self.histogram.update(*checked(array, self._name))

    def range(self) -> tuple[float, float]:
        """See `Observer.range`; always low <= 0 <= high."""
        if self.histogram.empty:
            raise _empty(self._name)
        return self._found(self.histogram)

    def _found(self, seen: Histogram) -> tuple[float, float]:
        raise NotImplementedError


class MseObserver(_HistogramObserver):
    """The range with the least expected squared error of `levels` asymmetric codes, zero being one of them."""

    def __init__(self, name: str | None = None, levels: int = 256) -> None:
        super().__init__(name, _BINS, levels)

    def _found(self, seen: Histogram) -> tuple[float, float]:
        # All lengths from here on are in widths of a bin. Negative bins end, and the others begin, at zero.
        zero = min(max(-seen.first, 0), seen.counts.size)
        lowest, highest = math.ldexp(-seen.low, -seen.exponent), math.ldexp(seen.high, -seen.exponent)
        below = _side(seen.counts[:zero][::-1], -(seen.first + zero), lowest, seen.at_low)
        above = _side(seen.counts[zero:], seen.first + zero, highest, seen.at_high)
        nonzero = int(seen.counts.sum()) - seen.zeros
        best, low, high = math.inf, 0.0, 0.0
        for end, spared, squares in zip(below.ends[::-1], below.spared[::-1], below.squares[::-1], strict=True):
            step = (end + above.ends) / (self._levels - 1)
            error = step * step / 12 * (nonzero - spared - above.spared) + squares + above.squares
            least = int(np.argmin(error))
            if error[least] < best:
                best, low, high = float(error[least]), 0.0 - float(end), float(above.ends[least])
        return math.ldexp(low, seen.exponent), math.ldexp(high, seen.exponent)


class PercentileObserver(_HistogramObserver):
    """The narrowest range, up to the width of a bin, with at most 100 - `percent` % of the values beyond each end.

    Raises:
        InvalidInput: `percent` outside 50..100.
    """

    def __init__(self, name: str | None = None, percent: float = 99.99) -> None:
        if not 50 <= percent <= 100:
            raise InvalidInput(f"a percentile must lie in 50..100, not {percent}")
        super().__init__(name, _FINE_BINS)
        self._percent = percent

    def _found(self, seen: Histogram) -> tuple[float, float]:
        spared = int(seen.counts.sum()) * (100 - self._percent) / 100
        last = seen.counts.size - int(np.count_nonzero(np.cumsum(seen.counts[::-1]) <= spared))
        first = int(np.count_nonzero(np.cumsum(seen.counts) <= spared))
        low = max(seen.low, math.ldexp(seen.first + first, seen.exponent))
        high = min(seen.high, math.ldexp(seen.first + last, seen.exponent))
        return min(low, 0.0), max(high, 0.0)


class EntropyObserver(_HistogramObserver):
    """The range in which `levels` codes tell most of how the values are distributed."""

    def __init__(self, name: str | None = None, levels: int = 256) -> None:
        super().__init__(name, _FINE_BINS, levels)

    def _found(self, seen: Histogram) -> tuple[float, float]:
        return least_divergence(seen, self._levels)


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


def _empty(name: str | None) -> CalibrationError:
    return CalibrationError(
        "empty calibration set: no activation was seen", where=name, hint="pass at least one batch of typical inputs"
    )
