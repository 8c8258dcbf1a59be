"""Masks of attention, as they are added to scores: what of them hides, and what is a bias."""

import numpy as np

from penjing.ir.types import Type

HIDING = -80.0  # exp(-80) is 2e-35: masks are written with -inf, with the least float, with -1e4, and with -100
HIDDEN = float(np.finfo(np.float32).min)  # stands for -inf, which no constant may hold


def split_mask(array: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(1 where kept and 0 where hidden, what is added to what is kept), f32; None where there is none.

    Leading axes of extent 1 are left out, down to rank 2.
    """
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    kept = array > HIDING
    added = np.where(kept, array, 0).astype(np.float32)
    return (None if kept.all() else kept.astype(np.float32)), (added if added.any() else None)


def is_causal(kept: np.ndarray, scores: Type) -> bool:
    """Whether exactly the keys 0 .. i are kept for query i."""
    rows, keys = scores.bounds[-2:]
    every = np.broadcast_to(kept != 0, (*kept.shape[:-2], rows, keys))
    return bool((every == (np.tri(rows, keys) > 0)).all())


def finite(array: np.ndarray) -> np.ndarray:
    """The same mask without -inf."""
    return np.where(array == -np.inf, np.float32(HIDDEN), array)
