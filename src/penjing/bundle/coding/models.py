"""Which symbols are how likely, in a few bytes: the logarithm of the frequency at some symbols, straight lines between.

    byte 0    lo + 128     the symbols are lo..hi, within -128..127
    byte 1    hi + 128
    byte 2    1: symmetric, -v is as likely as v     2: zero does not occur     4 alone: listed
    listed    the number of symbols that occur between lo and hi, then these symbols + 128, ascending; where they are
              more than 30, a bit for each symbol between lo and hi instead, set where it occurs, the lowest bit first
    then      a byte q for each knot; none where there is only one symbol

A knot says that its symbol has the weight 2^(-q/8). Knots lie at 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96 and
128, on both sides of zero, and at both ends; where symbols are listed, as the entries of a codebook are, at each of
them. Between knots -log2 of the weight is linear, rounded down to sixteenths. Weights become frequencies that sum up to
2^16, all in integers:

    w(v) = E[e mod 16] >> min(e / 16, 29),   E[i] = rint(2^(30 - i/16)),   e = sixteenths
    f(v) = 1 + floor(w(v) (2^16 - n) / sum of w),    n symbols; what is left goes to the first of the largest
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from penjing.core.entropy import TOTAL, frequency_costs

LOWEST, HIGHEST = -128, 127
SYMBOLS = 256
GRID = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
# rint(2^(30 - i/16)): written out, so that no machine has to compute a power.
EXP2 = (1073741824, 1028218693, 984625594, 942880699, 902905651, 864625413, 827968132, 792865000,
        759250125, 727060411, 696235434, 666717336, 638450708, 611382493, 585461881, 560640218)  # fmt: skip
_SYMMETRIC, _NO_ZERO, _LISTED = 1, 2, 4
MOST_LISTED = 30  # between lo and hi; more are told by bits
_MOST_SHIFT = 29  # no weight is 0
_REFINEMENTS = (-1, 1, -3, 3)
_SWEEPS = 2
_WORTH_REFINING = 200  # symbols


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
    listed: tuple[int, ...] = ()  # between lo and hi, where only these occur

    def positions(self) -> tuple[int, ...]:
        """Where the knots lie: symbols, or magnitudes where the model is symmetric; ascending."""
        if self.listed:
            return (self.lo, *self.listed, self.hi)
        return _positions(self.lo, self.hi, self.symmetric, self.no_zero)

    def symbols(self) -> NDArray[np.int64]:
        """The symbols that occur, ascending."""
        if self.listed:
            return np.array(self.positions())
        return _symbols(self.lo, self.hi, self.no_zero)

    def frequencies(self) -> NDArray[np.int64]:
        """(256,) the frequency of each symbol, -128 first; their sum is 2^16."""
        found = np.zeros(SYMBOLS, np.int64)
        symbols = self.symbols()
        weights = _weights(np.abs(symbols) if self.symmetric else symbols, self.positions(), self.knots)
        share = 1 + weights * (TOTAL - len(symbols)) // weights.sum()
        share[np.argmax(share)] += TOTAL - share.sum()
        found[symbols - LOWEST] = share
        return found

    def to_bytes(self) -> bytes:
        """The bytes of the table above."""
        ends = self.lo - LOWEST, self.hi - LOWEST
        if self.listed:
            return bytes((*ends, _LISTED, len(self.listed), *self._list(), *self.knots))
        return bytes((*ends, _SYMMETRIC * self.symmetric + _NO_ZERO * self.no_zero, *self.knots))

    def _list(self) -> bytes:
        if len(self.listed) <= MOST_LISTED:
            return bytes(v - LOWEST for v in self.listed)
        occurs = np.isin(np.arange(self.lo + 1, self.hi), self.listed)
        return np.packbits(occurs, bitorder="little").tobytes()


def read_model(data: bytes | memoryview, at: int) -> tuple[Model, int]:
    """The model whose bytes begin at `at`, and where they end.

    Raises:
        ModelFault: they are no model, or are cut short.
    """
    if at + 3 > len(data):
        raise ModelFault("a model is cut short")
    lo, hi, flags = data[at] + LOWEST, data[at + 1] + LOWEST, data[at + 2]
    if flags == _LISTED:
        return _read_listed(data, at, lo, hi)
    symmetric, no_zero = bool(flags & _SYMMETRIC), bool(flags & _NO_ZERO)
    if flags > _SYMMETRIC + _NO_ZERO or lo > hi or (no_zero and lo == hi == 0):
        raise ModelFault("a model describes no symbols")
    end = at + 3 + len(_positions(lo, hi, symmetric, no_zero))
    if end > len(data):
        raise ModelFault("a model is cut short")
    return Model(lo, hi, symmetric, no_zero, tuple(data[at + 3 : end])), end


def _read_listed(data: bytes | memoryview, at: int, lo: int, hi: int) -> tuple[Model, int]:
    inner = data[at + 3] if at + 3 < len(data) else 0
    by_bits = inner > MOST_LISTED
    knots = at + 4 + (max(hi - lo + 6, 0) // 8 if by_bits else inner)
    end = knots + inner + 2
    if end > len(data) or inner < 1:
        raise ModelFault("a list of symbols is cut short")
    if by_bits:
        occurs = np.unpackbits(np.frombuffer(data[at + 4 : knots], np.uint8), bitorder="little")
        listed = tuple(lo + 1 + int(i) for i in np.flatnonzero(occurs))
    else:
        listed = tuple(byte + LOWEST for byte in data[at + 4 : knots])
    if len(listed) != inner or any(a >= b for a, b in pairwise((lo, *listed, hi))):
        raise ModelFault("a list of symbols does not ascend")
    return Model(lo, hi, False, False, tuple(data[knots:end]), listed), end


def fitted(counts: np.ndarray, *, refine: bool = False) -> Model:
    """The model that describes symbols seen `counts` (256,) times, -128 first, in the fewest bits."""
    present = np.flatnonzero(counts)
    if not present.size:
        return Model(0, 0, symmetric=False, no_zero=False, knots=())
    lo, hi = int(present[0]) + LOWEST, int(present[-1]) + LOWEST
    no_zero = bool(counts[-LOWEST] == 0) and lo < 0 < hi
    kinds = (False, True) if lo < 0 < hi else (False,)
    tried = [_fitted(counts, Model(lo, hi, symmetric, no_zero, ()), refine) for symmetric in kinds]
    if present.size >= 3:
        listed = tuple(int(v) + LOWEST for v in present[1:-1])
        tried.append(_fitted(counts, Model(lo, hi, False, False, (), listed), refine=False))
    return min(tried, key=lambda model: cost(model, counts))


def cost(model: Model, counts: np.ndarray) -> int:
    """bits * COST_UNIT of the symbols and of the model itself."""
    symbols = int((counts * frequency_costs()[model.frequencies()]).sum())
    return symbols + 8 * len(model.to_bytes()) * int(frequency_costs()[TOTAL // 2])


@cache
def _symbols(lo: int, hi: int, no_zero: bool) -> NDArray[np.int64]:
    symbols = np.arange(lo, hi + 1)
    return symbols[symbols != 0] if no_zero else symbols


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


def _fitted(counts: np.ndarray, shape: Model, refine: bool) -> Model:
    """`shape` with knots."""
    positions, symbols = shape.positions(), shape.symbols()
    if not positions:
        return shape
    at = np.abs(symbols) if shape.symmetric else symbols
    middles = np.array([(a + b + 1) // 2 for a, b in pairwise(positions)])
    nearest = np.searchsorted(middles, at, side="right")
    seen = np.bincount(nearest, counts[symbols - LOWEST], len(positions)).astype(np.int64)
    many = np.maximum(np.bincount(nearest, minlength=len(positions)), 1)
    # a knot that nothing was seen at is half as likely as one symbol seen once
    eighths = [_log2_eighths(2 * int(n) + 1) - _log2_eighths(int(m)) for n, m in zip(seen, many, strict=True)]
    knots = [min(max(eighths) - e, 255) for e in eighths]
    model = replace(shape, knots=tuple(knots))
    return _refined(model, counts) if refine and seen.sum() >= _WORTH_REFINING else model


def _refined(model: Model, counts: np.ndarray) -> Model:
    best, least = model, cost(model, counts)
    for _ in range(_SWEEPS):
        before = least
        for i in range(len(model.knots)):
            for step in _REFINEMENTS:
                knots = list(best.knots)
                knots[i] = min(max(knots[i] + step, 0), 255)
                tried = replace(model, knots=tuple(knots))
                found = cost(tried, counts)
                if found < least:
                    best, least = tried, found
        if least == before:
            break
    return best


def _log2_eighths(n: int) -> int:
    """rint(8 log2 n) of an integer, without a logarithm."""
    return ((n**16).bit_length() - 1 + 1) // 2
