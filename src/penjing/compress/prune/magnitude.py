"""裁剪: which weights to keep by their magnitude.

    w~ = 0 if |w| < T else w

A mask is a bool array of the shape of `w`, True where a weight stays; `np.where(mask, w, 0)` prunes. The comparison is
exact: |w| = T stays, also where T is not a float32. A ratio prunes floor(ratio * n) weights, the smallest first; of
equals, the first in memory order (and of tensors, in the order given) goes first.
"""

import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from penjing.core.errors import InvalidInput, PruningError

Mask = NDArray[np.bool_]


def threshold_mask(w: np.ndarray, threshold: float, name: str = "weights") -> Mask:
    """Keep |w| >= threshold.

    Raises:
        InvalidInput: empty, or not real numbers.
        PruningError: NaN or infinity in `w`, a threshold that is negative or not finite, or nothing left.
    """
    size = magnitude(w, name)
    if not (math.isfinite(threshold) and threshold >= 0):
        raise PruningError(f"a threshold must be a finite number >= 0, not {threshold}", where=name)
    mask = np.asarray(size >= threshold)
    if not mask.any():
        raise PruningError(
            f"the threshold {threshold} removes all {mask.size} weights; the largest is {size.max():.6g}",
            where=name,
            hint="lower the threshold, or prune by ratio: layers differ in scale",
        )
    return mask


def ratio_mask(w: np.ndarray, ratio: float, name: str = "weights") -> Mask:
    """Prune exactly floor(ratio * n) weights of one tensor, `ratio` read as it is written (0.29 of 100 is 29).

    Raises:
        InvalidInput: empty, or not real numbers.
        PruningError: NaN or infinity in `w`, or a ratio outside [0, 1).
    """
    return global_ratio_masks({name: w}, ratio)[name]


def global_ratio_masks(tensors: Mapping[str, np.ndarray], ratio: float) -> dict[str, Mask]:
    """Prune exactly floor(ratio * n) of the `n` weights of all tensors together, by one common threshold.

    Raises:
        InvalidInput: no tensors; one is empty, or not real numbers.
        PruningError: NaN or infinity, a ratio outside [0, 1), or a tensor (named) that would lose all its weights.
    """
    if not 0 <= ratio < 1:
        raise PruningError(f"a pruning ratio must lie in [0, 1), not {ratio}", hint="0.5 removes half of the weights")
    if not tensors:
        raise InvalidInput("there are no tensors to prune")
    sizes = {name: magnitude(w, name) for name, w in tensors.items()}
    keep = keep_largest(np.concatenate([size.ravel() for size in sizes.values()]), ratio)
    masks: dict[str, Mask] = {}
    start = 0
    for name, size in sizes.items():
        masks[name] = keep[start : start + size.size].reshape(size.shape)
        start += size.size
        if not masks[name].any():
            raise PruningError(
                f"a global ratio of {ratio} removes all {size.size} weights of this tensor",
                where=name,
                hint="lower the ratio, leave this tensor out, or prune each tensor by its own ratio",
            )
    return masks


def lamp_scores(w: np.ndarray, name: str = "weights") -> NDArray[np.float64]:
    """Squared magnitudes as shares of all that are at least as large in the same layer: scores that layers can share.

        score(i) = w_i^2 / sum of w_j^2 over |w_j| >= |w_i|

    The largest weight of every layer has the score 1, so that a common threshold below 1 never takes a layer whole
    (Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", 2021, equation 1).

    Raises:
        InvalidInput: empty, or not real numbers.
        PruningError: NaN or infinity in `w`.
    """
    squares = np.square(magnitude(w, name))
    order = np.argsort(squares, axis=None, kind="stable")
    ascending = squares.ravel()[order]
    at_least = np.cumsum(ascending[::-1])[::-1]
    scores = np.zeros(squares.size)
    scores[order] = np.divide(ascending, at_least, out=np.zeros(squares.size), where=at_least > 0)
    return scores.reshape(squares.shape)


def lamp_masks(tensors: Mapping[str, np.ndarray], density: float) -> dict[str, Mask]:
    """Keep the share `density` of all weights together that have the highest `lamp_scores`.

    Raises:
        InvalidInput, PruningError: as `global_ratio_masks`.
    """
    return global_ratio_masks({name: lamp_scores(w, name) for name, w in tensors.items()}, 1 - density)


def sparsity(w: np.ndarray) -> float:
    """The share of exact zeros, 0..1.

    Raises:
        InvalidInput: empty.
    """
    array = np.asarray(w)
    if array.size == 0:
        raise InvalidInput(f"an array of shape {array.shape} has no sparsity")
    return 1 - int(np.count_nonzero(array)) / array.size


def magnitude(w: np.ndarray, name: str) -> NDArray[np.float64]:
    """|w|; errors as in `threshold_mask`."""
    array = np.asarray(w)
    if array.dtype.kind not in "fiu":
        raise InvalidInput(f"pruning needs real numbers, not {array.dtype}", where=name)
    if array.size == 0:
        raise InvalidInput(f"a tensor of shape {array.shape} has nothing to prune", where=name)
    size: NDArray[np.float64] = np.abs(array.astype(np.float64))
    bad = ~np.isfinite(size)
    if bad.any():
        first = [int(i) for i in np.argwhere(bad)[0]]
        raise PruningError(
            f"{np.count_nonzero(bad)} of {array.size} weights are NaN or infinite, the first at index {first}",
            where=name,
            hint="the training diverged; a magnitude means nothing here",
        )
    return size


def keep_largest(importance: NDArray[np.float64], ratio: float) -> Mask:
    """All but the floor(ratio * n) smallest, of any shape; of equals, the first go."""
    # Through the decimal text: 0.29 * 100 is 28.999999999999996 in binary.
    n_pruned = math.floor(Fraction(repr(float(ratio))) * importance.size)
    if n_pruned == 0:
        return np.ones(importance.size, dtype=np.bool_)
    cut = np.partition(importance, n_pruned - 1)[n_pruned - 1]
    keep: Mask = importance > cut
    ties = np.flatnonzero(importance == cut)
    n_below = importance.size - int(np.count_nonzero(keep)) - ties.size
    keep[ties[n_pruned - n_below :]] = True
    return keep
