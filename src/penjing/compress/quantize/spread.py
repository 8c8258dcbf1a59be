"""What is known of a value without data: for each channel a mean, a standard deviation, and bounds.

Means and deviations are those of normal numbers, clipped where an activation clips them (Nagel et al., "Data-free
quantization through weight equalization and bias correction", 2019, appendix C): for a..b in place of x ~ N(mu, s^2),
with A = (a - mu) / s, B = (b - mu) / s, the density phi and the distribution Phi of N(0, 1), and Z = Phi(B) - Phi(A),

    E[y]   = mu Z + s (phi(A) - phi(B)) + a Phi(A) + b (1 - Phi(B))
    E[y^2] = (mu^2 + s^2) Z + s ((mu + a) phi(A) - (mu + b) phi(B)) + a^2 Phi(A) + b^2 (1 - Phi(B))

Different channels, and the terms of a sum, count as independent. Bounds follow by interval arithmetic and are cut to
`sigmas` deviations around the mean where values are summed, as a sum hardly ever reaches all its bounds at once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_Float64 = NDArray[np.float64]
_FAR = 40.0  # deviations; what lies beyond has no weight in float64
_NODES = np.linspace(-6, 6, 241)
_DENSITY = np.exp(-np.square(_NODES) / 2) / np.exp(-np.square(_NODES) / 2).sum()
_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True, eq=False)
class Spread:
    """Of one value; all arrays are (C,), or (1,) where nothing is known of single channels.

    Attributes:
        axis: of the channels; None where nothing is known of them.
        mean: expected value.
        std: standard deviation.
        low: least value to expect.
        high: largest value to expect.
    """

    axis: int | None
    mean: _Float64
    std: _Float64
    low: _Float64
    high: _Float64

    @property
    def range(self) -> tuple[float, float]:
        """(low, high) over all channels."""
        return float(self.low.min()), float(self.high.max())

    def collapsed(self) -> "Spread":
        """The same value when its channels are not told apart."""
        square = (np.square(self.mean) + np.square(self.std)).mean()
        mean = self.mean.mean()
        std = np.sqrt(max(square - mean * mean, 0.0))
        return Spread(None, *(np.array([x], np.float64) for x in (mean, std, self.low.min(), self.high.max())))

    def moved(self, axis: int | None) -> "Spread":
        """The same with its channels along another axis."""
        return replace(self, axis=axis)

    def taken(self, index: slice | NDArray[np.intp]) -> "Spread":
        """Some of the channels, or some of them repeatedly."""
        return Spread(self.axis, self.mean[index], self.std[index], self.low[index], self.high[index])

    def filled(self, channels: int) -> "Spread":
        """With one entry for each of `channels`."""
        return self.taken(np.zeros(channels, np.intp)) if self.mean.size == 1 else self

    def including(self, value: float) -> "Spread":
        """With bounds that hold `value`."""
        return replace(self, low=np.minimum(self.low, value), high=np.maximum(self.high, value))


def normal(axis: int | None, mean: _Float64, std: _Float64, sigmas: float) -> Spread:
    """Normal numbers, expected within `sigmas` deviations."""
    return Spread(axis, mean, std, mean - sigmas * std, mean + sigmas * std)


def constants(array: np.ndarray, rank: int, axis: int | None) -> Spread:
    """Of a constant that takes part like an activation of so many axes."""
    values = array.astype(np.float64).reshape((1,) * (rank - array.ndim) + array.shape)
    along = axis if axis is not None and values.size == values.shape[axis] else None
    if along is not None:
        flat = values.reshape(-1)
        return Spread(along, flat, np.zeros_like(flat), flat, flat)
    return Spread(None, *(np.array([x]) for x in (values.mean(), values.std(), values.min(), values.max())))


def clipped(x: Spread, low: float, high: float) -> Spread:
    """min(max(x, low), high) of normal numbers; either end may be infinite."""
    std = np.where(x.std > 0, x.std, 1.0)
    a, b = (np.clip(end, x.mean - _FAR * std, x.mean + _FAR * std) for end in (low, high))
    alpha, beta = (a - x.mean) / std, (b - x.mean) / std
    below, above = _distribution(alpha), _distribution(-beta)
    inside = 1 - below - above
    mean = x.mean * inside + std * (_phi(alpha) - _phi(beta)) + a * below + b * above
    square = (np.square(x.mean) + np.square(std)) * inside + np.square(a) * below + np.square(b) * above
    square += std * ((x.mean + a) * _phi(alpha) - (x.mean + b) * _phi(beta))
    exact = np.clip(x.mean, low, high)
    mean = np.where(x.std > 0, mean, exact)
    deviation = np.where(x.std > 0, np.sqrt(np.maximum(square - np.square(mean), 0)), 0.0)
    return Spread(x.axis, mean, deviation, np.clip(x.low, low, high), np.clip(x.high, low, high))


def through(x: Spread, function: Callable[[_Float64], np.ndarray]) -> Spread:
    """function(x), element by element, of normal numbers within their bounds; `function` takes (points, C)."""
    points = np.clip(x.mean + _NODES[:, None] * x.std, x.low, x.high)
    values = function(points).astype(np.float64)
    mean = _DENSITY @ values
    std = np.sqrt(np.maximum(_DENSITY @ np.square(values) - np.square(mean), 0))
    ends = function(np.linspace(x.low, x.high, 257)).astype(np.float64)
    return Spread(x.axis, mean, std, ends.min(axis=0), ends.max(axis=0))


def weighted(x: Spread, weight: _Float64, bias: _Float64, sigmas: float) -> Spread:
    """What a layer makes: `weight` (groups, O / groups, C / groups, taps), `bias` (O,); axis as that of `x`."""
    groups = weight.shape[0]

    def summed(factor: _Float64, values: _Float64) -> _Float64:
        return np.asarray(np.einsum("goct,gc->go", factor, values.reshape(groups, -1)).reshape(-1))

    mean = summed(weight, x.mean) + bias
    std = np.sqrt(summed(np.square(weight), np.square(x.std)))
    up, down = np.maximum(weight, 0), np.minimum(weight, 0)
    low, high = summed(up, x.low) + summed(down, x.high) + bias, summed(up, x.high) + summed(down, x.low) + bias
    return _within(Spread(x.axis, mean, std, low, high), sigmas)


def added(a: Spread, b: Spread, sign: int, sigmas: float) -> Spread:
    """a + b or, with sign -1, a - b; their channels must agree."""
    if sign < 0:
        b = Spread(b.axis, -b.mean, b.std, -b.high, -b.low)
    std = np.sqrt(np.square(a.std) + np.square(b.std))
    return _within(Spread(a.axis, a.mean + b.mean, std, a.low + b.low, a.high + b.high), sigmas)


def multiplied(a: Spread, b: Spread) -> Spread:
    """a * b; their channels must agree."""
    corners = np.stack(np.broadcast_arrays(a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high))
    variance = np.square(a.std * b.std) + np.square(a.std * b.mean) + np.square(b.std * a.mean)
    return Spread(a.axis, a.mean * b.mean, np.sqrt(variance), corners.min(axis=0), corners.max(axis=0))


def joined(parts: Sequence[Spread]) -> Spread:
    """The channels of all parts one after the other."""
    columns = (np.concatenate([getattr(part, name) for part in parts]) for name in ("mean", "std", "low", "high"))
    return Spread(parts[0].axis, *columns)


def _within(x: Spread, sigmas: float) -> Spread:
    low = np.maximum(x.low, x.mean - sigmas * x.std)
    return replace(x, low=low, high=np.minimum(x.high, x.mean + sigmas * x.std))


def _phi(x: _Float64) -> _Float64:
    return np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi)


def _distribution(x: _Float64) -> _Float64:
    return np.asarray(0.5 * (1 + _erf(x / math.sqrt(2))))
