"""Optimal brain surgeon on a layer: which weights to remove, and what the others must become to make up for them.

A layer y = x w^T with H = mean of x^T x errs by (w~ - w) H (w~ - w)^T for each output channel (a row of w). Of weights
that are zero outside a support S, the best are the least squares solution

    w~_S = (H_SS)^-1 (w H)_S                                                                      (`refit`)

and to remove weight p of S, or a group P, from weights that are best costs exactly

    w_p^2 / [(H_SS)^-1]_pp,      w_P ([(H_SS)^-1]_PP)^-1 w_P^T                                    (`costs`)

(Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", 1993, equation 5; Frantar and
Alistarh, "Optimal Brain Compression", 2022, section 4, with groups in section 4.3.)

`sweep` is cheaper: from left to right, each group of columns decides what it keeps, and all columns to the right make
up for it, with one inverse for all rows (Frantar and Alistarh, "SparseGPT", 2023, sections 3.2 to 3.4, algorithm 1).
"""

import numpy as np
from numpy.typing import NDArray

from penjing.compress.prune.magnitude import Mask
from penjing.compress.prune.patterns import NOfM, as_rows
from penjing.core.errors import InvalidInput

Float64 = NDArray[np.float64]


def damped(gram: np.ndarray, damping: float) -> Float64:
    """H (k, k) with `damping` times the mean of its diagonal added to it, so that it can be inverted.

    Inputs that are always zero, and a layer that saw only zeros, are covered too.
    """
    scale = float(np.mean(np.diag(gram)))
    return gram + damping * (scale if scale > 0 else 1.0) * np.eye(len(gram))


def refit(w: np.ndarray, h: np.ndarray, mask: np.ndarray) -> Float64:
    """The best weights (O, k) that are zero outside `mask`, in the place of `w`, by h (k, k)."""
    wanted = w @ h
    found = np.zeros(w.shape)
    for support, rows in _by_support(mask):
        if support.size:
            found[np.ix_(rows, support)] = np.linalg.solve(
                h[np.ix_(support, support)], wanted[np.ix_(rows, support)].T
            ).T
    return found


def costs(w: np.ndarray, h: np.ndarray, mask: np.ndarray, groups: np.ndarray) -> Float64:
    """What removing each group of weights costs in squared error, shared out among its weights: (O, k).

    Args:
        w: (O, k), the best for its support.
        h: (k, k).
        mask: (O, k), the support; what lies outside costs nothing.
        groups: (n, width) indices of columns that go together, each in one group; -1 fills up.
    """
    found = np.zeros(w.shape)
    for support, rows in _by_support(mask):
        inverse = np.eye(len(h))
        inverse[np.ix_(support, support)] = np.linalg.inv(h[np.ix_(support, support)])
        for width in range(1, groups.shape[1] + 1):
            columns = groups[(groups >= 0).sum(1) == width, :width]
            inner = np.linalg.inv(inverse[columns[:, :, None], columns[:, None, :]])  # (n, width, width)
            values = w[rows][:, columns]  # (rows, n, width)
            cost = np.einsum("rni,nij,rnj->rn", values, inner, values)
            found[rows[:, None, None], columns] = np.maximum(cost, 0)[:, :, None] / width
    return np.where(mask, found, 0.0)


def sweep(w: np.ndarray, h: np.ndarray, pattern: NOfM, view: tuple[int, ...]) -> Mask:
    """Which weights of w (O, k) stay by an N:M pattern; weights that are zero stay zero.

    Args:
        w: (O, k).
        h: (k, k).
        pattern: N:M.
        view: the shape of one row of w in which its groups are found, (C, ...).
    """
    rows = as_rows(np.arange(w.shape[1]).reshape(1, *view))[0]
    order = rows.reshape(-1)
    left = w[:, order].astype(np.float64)
    alive = left != 0
    upper = np.linalg.cholesky(np.linalg.inv(h[np.ix_(order, order)])).T  # H^-1 = U^T U
    keep = np.zeros(left.shape, np.bool_)
    for at in range(0, len(order), rows.shape[1]):
        for start in range(at, at + rows.shape[1], pattern.m):
            group = slice(start, min(start + pattern.m, at + rows.shape[1]))
            cost = np.square(left[:, group] / np.diag(upper)[group])
            # of a weight that is zero already no cost is too high
            values = np.where(alive[:, group], cost, 0.0)
            keep[:, group] = pattern.mask(alive[:, group].astype(np.float64), values)
            for j in range(group.start, group.stop):
                error = np.where(keep[:, j], 0.0, left[:, j] / upper[j, j])
                left[:, j:] -= np.outer(error, upper[j, j:])
    mask = np.zeros_like(keep)
    mask[:, order] = keep
    return mask


def squared_error(change: np.ndarray, h: np.ndarray) -> float:
    """change H change^T, summed over rows of change (O, k)."""
    return float(np.einsum("ok,ok->", change @ h, change))


def check_fits(groups: int, k: int, gram: np.ndarray, name: str) -> None:
    """InvalidInput unless gram is (groups, k, k)."""
    if gram.shape != (groups, k, k):
        raise InvalidInput(
            f"the layer reads {groups} groups of {k} inputs, its statistics are of shape {gram.shape}",
            where=name,
            hint="collect layer inputs from this very graph",
        )


def _by_support(mask: np.ndarray) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Columns of a support, and the rows of mask (O, k) that have it."""
    different, which = np.unique(mask, axis=0, return_inverse=True)
    return [(np.flatnonzero(different[i]), np.flatnonzero(which.reshape(-1) == i)) for i in range(len(different))]
