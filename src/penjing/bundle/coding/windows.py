"""Which places of a window are taken: their number, and which of all choices of that many it is.

A window has m <= 16 places; n of them are taken, at bits b1 < b2 < ... < bn of its mask. Its rank is that of the mask
among all masks of n bits by size, the sum of binomial(b_i, i) (Cover, "Enumerative source encoding", 1973). Given n,
all binomial(m, n) ranks are alike likely: exactly what the pattern N:M leaves open, and nearly so where zeros lie
anywhere.
"""

from functools import cache
from math import comb

import numpy as np
from numpy.typing import NDArray

LONGEST = 16


@cache
def choices() -> NDArray[np.int64]:
    """(17, 17) how many masks of m places (first axis) have n taken; 0 where n > m."""
    return np.array([[comb(m, n) for n in range(LONGEST + 1)] for m in range(LONGEST + 1)], np.int64)


@cache
def _masks() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All masks by number of bits, then size; where each number begins; the rank of each mask."""
    masks = np.arange(1 << LONGEST)
    taken = np.stack([masks >> i & 1 for i in range(LONGEST)]).sum(axis=0)
    order = np.argsort(taken, kind="stable")
    first = np.searchsorted(taken[order], np.arange(LONGEST + 1))
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order)) - first[taken[order]]
    return order, first, ranks


def ranks_of(masks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank of each mask."""
    return _masks()[2][masks]


def masks_of(taken: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The mask of `taken` bits with each rank."""
    order, first, _ = _masks()
    masks: NDArray[np.int64] = order[first[taken] + ranks]
    return masks


def window_lengths(units: int, run: int, window: int) -> NDArray[np.int64]:
    """The places of each window over `units`: runs of `run` are cut into `window`, the last of a run is shorter."""
    whole, rest = divmod(run, window)
    return np.tile(np.array([window] * whole + [rest] * (rest > 0), np.int64), units // run)
