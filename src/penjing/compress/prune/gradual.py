"""Patterns on their way (裁剪): masks that tighten while a network is pruned step by step.

Weights that are zero already do not come back. How fast the share of zeros grows is for others to say: the rounds of
`PruneObs`, or a training (`penjing.train.gradual_pruning`), by `penjing.core.cubic`.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from penjing.compress.prune.magnitude import Mask
from penjing.compress.prune.patterns import Anywhere, Blocks, NOfM, Pattern
from penjing.core.errors import InvalidInput, PruningError

_ROUNDING = 1e-9  # of shares that ought to be exact

Masks = Callable[[Mapping[str, np.ndarray], float], dict[str, Mask]]


def masks_by_density(
    patterns: Mapping[str, Pattern], sparsity: float, views: Mapping[str, tuple[int, ...]] | None = None
) -> Masks:
    """A masks function that is called with the share of weights to keep, by a schedule that ends at 1 - sparsity.

    Every pattern is as far on its way as the schedule is on its own; N:M takes the steps m, m - 1, ..., n.

    Args:
        patterns: name of a weight -> its pattern at the end.
        sparsity: the share of zeros at which the schedule ends.
        views: name of a weight -> the shape in which its rows are as kernels read them (`PatternLayer.view`); its own
            for a weight that is not named.

    Raises:
        PruningError: a sparsity outside (0, 1).
        InvalidInput: later, when a weight is missing.
    """
    if not 0 < sparsity < 1:
        raise PruningError(f"a schedule of zeros ends within (0, 1), not at {sparsity}")
    chosen, shapes = dict(patterns), dict(views or {})
    return lambda weights, density: _masks(chosen, shapes, weights, min(1.0, (1 - density) / sparsity + _ROUNDING))


def loosened(pattern: Pattern, share: float) -> Pattern:
    """`pattern` when a share of its zeros are made, 0..1; itself at 1."""
    if share >= 1:
        return pattern
    share = max(0.0, share)
    match pattern:
        case NOfM(n, m):
            return NOfM(math.ceil(m - share * (m - n) - _ROUNDING), m)
        case Blocks(ratio, height, width):
            return Blocks(share * ratio, height, width)
        case Anywhere(ratio):
            return Anywhere(share * ratio)
    raise PruningError(f"it is not known how to tighten {pattern} gradually", hint="use NOfM, Blocks or Anywhere")


def _masks(
    patterns: Mapping[str, Pattern],
    views: Mapping[str, tuple[int, ...]],
    weights: Mapping[str, np.ndarray],
    share: float,
) -> dict[str, Mask]:
    missing = sorted(patterns.keys() - weights.keys())
    if missing:
        raise InvalidInput(f"these weights have a pattern and are missing: {', '.join(missing)}")
    found = {}
    for name, pattern in patterns.items():
        w = weights[name]
        seen = w.reshape(views.get(name, w.shape))
        found[name] = loosened(pattern, share).mask(seen, None, name).reshape(w.shape)
    return found
