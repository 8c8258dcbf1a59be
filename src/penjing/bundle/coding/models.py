"""Which symbols are how likely, in a few bytes: the logarithm of the frequency at some symbols, straight lines between.

    byte 0    lo + 128     the symbols are lo..hi, within -128..127
    byte 1    hi + 128
    byte 2    1: symmetric, -v is as likely as v     2: zero does not occur
    then      a byte q for each knot; none where there is only one symbol

A knot says that its symbol has the weight 2^(-q/8). Knots lie at 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96 and 128,
on both sides of zero, and at both ends. Between them -log2 of the weight is linear, rounded down to sixteenths. Weights
become frequencies that sum up to 2^16, all in integers:

    w(v) = E[e mod 16] >> min(e / 16, 29),   E[i] = rint(2^(30 - i/16)),   e = sixteenths
    f(v) = 1 + floor(w(v) (2^16 - n) / sum of w),    n symbols; what is left goes to the first of the largest
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from penjing.core.entropy import TOTAL, frequency_costs

LOWEST, HIGHEST = -128, 127
SYMBOLS = 256
GRID = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
# rint(2^(30 - i/16)): written out, so that no machine has to compute a power.
EXP2 = (1073741824, 1028218693, 984625594, 942880699, 902905651, 864625413, 827968132, 792865000,
        759250125, 727060411, 696235434, 666717336, 638450708, 611382493, 585461881, 560640218)  # fmt: skip
_SYMMETRIC, _NO_ZERO = 1, 2
_MOST_SHIFT = 29  # no weight is 0
_REFINEMENTS = (-1, 1, -3, 3)
_SWEEPS = 2


class ModelFault(ValueError):
    """Bytes that are no model."""


@dataclass(frozen=True)
class Model:
    """The distribution of one kind of symbols."""

    lo: int
    hi: int
    symmetric: bool
    no_zero: bool
    knots: tuple[int, ...]

    def positions(self) -> tuple[int, ...]:
        """Where the knots lie: symbols, or magnitudes where the model is symmetric; ascending."""
        return _positions(self.lo, self.hi, self.symmetric, self.no_zero)

    def frequencies(self) -> NDArray[np.int64]:
        """(256,) the frequency of each symbol, -128 first; their sum is 2^16."""
        found = np.zeros(SYMBOLS, np.int64)
        symbols = np.arange(self.lo, self.hi + 1)
        symbols = symbols[symbols != 0] if self.no_zero else symbols
        weights = _weights(np.abs(symbols) if self.symmetric else symbols, self.positions(), self.knots)
        share = 1 + weights * (TOTAL - len(symbols)) // weights.sum()
        share[np.argmax(share)] += TOTAL - share.sum()
        found[symbols - LOWEST] = share
        return found

    def to_bytes(self) -> bytes:
        """The bytes of the table above."""
        flags = _SYMMETRIC * self.symmetric + _NO_ZERO * self.no_zero
        return bytes((self.lo - LOWEST, self.hi - LOWEST, flags, *self.knots))


def read_model(data: bytes, at: int) -> tuple[Model, int]:
    """The model whose bytes begin at `at`, and where they end.

    Raises:
        ModelFault: they are no model, or are cut short.
    """
    if at + 3 > len(data):
        raise ModelFault("a model is cut short")
    lo, hi, flags = data[at] + LOWEST, data[at + 1] + LOWEST, data[at + 2]
    symmetric, no_zero = bool(flags & _SYMMETRIC), bool(flags & _NO_ZERO)
    if flags > _SYMMETRIC + _NO_ZERO or lo > hi or (no_zero and lo == hi == 0):
        raise ModelFault("a model describes no symbols")
    end = at + 3 + len(_positions(lo, hi, symmetric, no_zero))
    if end > len(data):
        raise ModelFault("a model is cut short")
    return Model(lo, hi, symmetric, no_zero, tuple(data[at + 3 : end])), end


def fitted(counts: np.ndarray, *, refine: bool = False) -> Model:
    """The model that describes symbols seen `counts` (256,) times, -128 first, in the fewest bits."""
    present = np.flatnonzero(counts)
    if not present.size:
        return Model(0, 0, symmetric=False, no_zero=False, knots=())
    lo, hi = int(present[0]) + LOWEST, int(present[-1]) + LOWEST
    no_zero = counts[-LOWEST] == 0 and lo < 0 < hi
    kinds = (False, True) if lo < 0 < hi else (False,)
    tried = [_fitted(counts, lo, hi, symmetric, no_zero, refine) for symmetric in kinds]
    return min(tried, key=lambda model: cost(model, counts))


def cost(model: Model, counts: np.ndarray) -> int:
    """bits * COST_UNIT of the symbols and of the model itself."""
    symbols = int((counts * frequency_costs()[model.frequencies()]).sum())
    return symbols + 8 * len(model.to_bytes()) * int(frequency_costs()[TOTAL // 2])


@cache
def _positions(lo: int, hi: int, symmetric: bool, no_zero: bool) -> tuple[int, ...]:
    if lo == hi:
        return ()
    if symmetric:
        first, last = (1 if no_zero else 0), max(abs(lo), abs(hi))
        return (*(p for p in GRID if first <= p < last), last)
    inner = sorted({p for g in GRID for p in (g, -g) if lo < p < hi and not (no_zero and p == 0)})
    return (lo, *inner, hi)


def _weights(at: np.ndarray, positions: tuple[int, ...], knots: tuple[int, ...]) -> NDArray[np.int64]:
    if len(knots) < 2:
        return np.ones(len(at), np.int64)
    p, q = np.array(positions), np.array(knots)
    left = np.clip(np.searchsorted(p, at, side="right") - 1, 0, len(p) - 2)
    a, b = p[left], p[left + 1]
    sixteenths = 2 * (q[left] * (b - at) + q[left + 1] * (at - a)) // (b - a)
    weights: NDArray[np.int64] = np.array(EXP2, np.int64)[sixteenths % 16] >> np.minimum(sixteenths // 16, _MOST_SHIFT)
    return weights


def _fitted(counts: np.ndarray, lo: int, hi: int, symmetric: bool, no_zero: bool, refine: bool) -> Model:
    positions = _positions(lo, hi, symmetric, no_zero)
    if not positions:
        return Model(lo, hi, symmetric, no_zero, ())
    symbols = np.arange(lo, hi + 1)
    symbols = symbols[symbols != 0] if no_zero else symbols
    at = np.abs(symbols) if symmetric else symbols
    middles = np.array([(a + b + 1) // 2 for a, b in zip(positions, positions[1:], strict=False)])
    nearest = np.searchsorted(middles, at, side="right")
    seen = np.bincount(nearest, counts[symbols - LOWEST], len(positions)).astype(np.int64)
    many = np.maximum(np.bincount(nearest, minlength=len(positions)), 1)
    # a knot that nothing was seen at is half as likely as one symbol seen once
    eighths = [_log2_eighths(2 * int(n) + 1) - _log2_eighths(int(m)) for n, m in zip(seen, many, strict=True)]
    knots = [min(max(eighths) - e, 255) for e in eighths]
    model = Model(lo, hi, symmetric, no_zero, tuple(knots))
    return _refined(model, counts) if refine else model


def _refined(model: Model, counts: np.ndarray) -> Model:
    best, least = model, cost(model, counts)
    for _ in range(_SWEEPS):
        before = least
        for i in range(len(model.knots)):
            for step in _REFINEMENTS:
                knots = list(best.knots)
                knots[i] = min(max(knots[i] + step, 0), 255)
                tried = Model(model.lo, model.hi, model.symmetric, model.no_zero, tuple(knots))
                found = cost(tried, counts)
                if found < least:
                    best, least = tried, found
        if least == before:
            break
    return best


def _log2_eighths(n: int) -> int:
    """rint(8 log2 n) of an integer, without a logarithm."""
    return ((n**16).bit_length() - 1 + 1) // 2
