"""Codebooks: few values for many weights, chosen by k-means in one dimension.

    minimize over c:   sum over i of h_i * (w_i - c[nearest(i)])^2

(Lloyd, "Least squares quantization in PCM", 1982; Han, Mao and Dally, "Deep Compression", 2016, section 3). In one
dimension clusters are stretches of the sorted weights, so that a step of Lloyd's needs a binary search for each border
and differences of running sums, whatever the number of weights. It starts twice, from entries spread evenly over the
range, which keeps large weights (Han et al., section 3.2), and from entries as dense as the cube root of the density of
the weights, which is best for many entries (Panter and Dite, 1951; Gersho and Gray, 1992, 5.6), and the better end is
taken. An entry that no weight is nearest to moves to where the error is largest.
"""

import numpy as np
from numpy.typing import NDArray

from penjing.ir.grid import TOP_CODE

MOST_ENTRIES = 256
_STEPS = 300
_MOVES = 40  # steps during which idle entries move: later they could keep it from coming to rest
_BINS = 1024
_FINEST, _COARSEST = TOP_CODE, TOP_CODE // 2  # codes that the largest entry may get

_Float64 = NDArray[np.float64]


def fit_codebook(values: _Float64, importance: _Float64, entries: int, *, zero: bool) -> _Float64:
    """At most `entries` values, ascending, for `values` (n,) that count as much as `importance` (n,) says.

    With `zero`, one entry is exactly 0. Where there are no more different values than entries, they are the entries.
    """
    different = np.unique(values)
    if different.size <= entries:
        return different
    runs = _Runs(values, importance)
    spread = np.linspace(different[0], different[-1], entries)
    ends = [_lloyd(runs, start, zero) for start in (spread, _companded(values, importance, entries))]
    return min(ends, key=lambda codebook: squared_error(values, importance, codebook))


def nearest(values: np.ndarray, codebook: np.ndarray) -> NDArray[np.intp]:
    """For each value the index of its entry; `codebook` (n,) ascends. Of two as near, the lower."""
    real = codebook.astype(np.float64)  # the sum of two codes may leave int8
    return np.searchsorted((real[1:] + real[:-1]) / 2, values)


def squared_error(values: _Float64, importance: _Float64, codebook: _Float64) -> float:
    """What k-means minimizes."""
    return float(np.sum(importance * np.square(values - codebook[nearest(values, codebook)])))


def codes_of_entries(codebook: _Float64, weight: _Float64) -> tuple[NDArray[np.int8], float]:
    """Codes (n,) in -127..127 and the scale with which they come nearest to the entries, weighted by `weight` (n,).

    The largest entry gets a code of 63 to 127, whichever leaves least.
    """
    peak = float(np.abs(codebook).max())
    if peak == 0:
        return np.zeros(codebook.size, np.int8), 1.0
    tops = np.arange(_FINEST, _COARSEST - 1, -1)
    steps = np.maximum((peak / tops).astype(np.float32), np.finfo(np.float32).tiny).astype(np.float64)
    codes = np.clip(np.rint(codebook / steps[:, None]), -TOP_CODE, TOP_CODE)
    best = int(np.argmin(np.square(codes * steps[:, None] - codebook) @ weight))
    return codes[best].astype(np.int8), float(steps[best])


class _Runs:
    """Sorted values with running sums of what k-means asks for of any stretch."""

    def __init__(self, values: _Float64, importance: _Float64) -> None:
        order = np.argsort(values, kind="stable")
        self.values = values[order]
        h = importance[order]
        sums = np.stack([h, h * self.values, h * np.square(self.values)])
        self._running = np.concatenate([np.zeros((3, 1)), np.cumsum(sums, axis=1)], axis=1)

    def clusters(self, codebook: _Float64) -> tuple[NDArray[np.intp], _Float64]:
        """Borders of the stretches, and for each entry its sums of h, h w and h w^2, (3, n)."""
        inner = np.searchsorted(self.values, (codebook[1:] + codebook[:-1]) / 2, side="right")
        borders = np.concatenate([[0], inner, [self.values.size]])
        return borders, np.diff(self._running[:, borders], axis=1)


def _lloyd(runs: _Runs, start: _Float64, zero: bool) -> _Float64:
    codebook = _with_zero(start) if zero else start
    before: NDArray[np.intp] | None = None
    for step in range(_STEPS):
        borders, (mass, first, second) = runs.clusters(codebook)
        if before is not None and np.array_equal(borders, before):
            break
        before = borders
        idle = mass <= 0
        means = np.where(idle, codebook, first / np.where(idle, 1, mass))
        if zero:
            means[codebook == 0] = 0
        if step < _MOVES and idle.any():
            means = _moved(means, idle, mass, first, second, zero)
        codebook = np.sort(means)
    return codebook


def _companded(values: _Float64, importance: _Float64, entries: int) -> _Float64:
    """Entries that are spaced as the cube root of the density of the values."""
    mass, borders = np.histogram(values, bins=_BINS, weights=importance)
    share = np.concatenate([[0], np.cumsum(np.cbrt(mass))])
    return np.asarray(np.interp((np.arange(entries) + 0.5) / entries * share[-1], share, borders))


def _with_zero(start: _Float64) -> _Float64:
    codebook = start.copy()
    codebook[np.argmin(np.abs(codebook))] = 0
    return codebook


def _moved(
    means: _Float64, idle: NDArray[np.bool_], mass: _Float64, first: _Float64, second: _Float64, zero: bool
) -> _Float64:
    """Idle entries join those of the largest error, a deviation beside them."""
    errors = np.where(idle, 0, second - 2 * means * first + np.square(means) * mass)
    moved = means.copy()
    movable = np.flatnonzero(idle & ~((means == 0) & zero))
    for index, worst in zip(movable, np.argsort(-errors, kind="stable"), strict=False):
        if errors[worst] <= 0:
            break
        moved[index] = means[worst] + np.sqrt(errors[worst] / mass[worst])
    return moved
