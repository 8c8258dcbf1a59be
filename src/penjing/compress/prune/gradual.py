"""Gradual pruning (裁剪): masks that tighten while a network trains.

    density(t) = final + (initial - final) (1 - (t - begin) / (end - begin))^3,    begin <= t <= end

many weights go early, while others can still take over, and the last few slowly. (Zhu and Gupta, "To prune, or not to
prune", 2017, section 3, equation 1, there for the share of zeros.)

A masks function is called with the present weights and how far the training is, 0..1, and gives the masks of that
moment. Weights that are zero already do not come back.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from penjing.compress.prune.magnitude import Mask
from penjing.compress.prune.patterns import Anywhere, Blocks, NOfM, Pattern
from penjing.core.errors import InvalidInput, PruningError

_ROUNDING = 1e-9  # of shares that ought to be exact

Masks = Callable[[Mapping[str, np.ndarray], float], dict[str, Mask]]


def cubic_density(step: float, begin: float, end: float, initial: float, final: float) -> float:
    """The share of weights that stay at `step`: `initial` up to `begin`, `final` from `end` on.

    Raises:
        InvalidInput: end before begin, or not 0 <= final <= initial <= 1.
    """
    if not (math.isfinite(begin) and math.isfinite(end) and begin <= end) or math.isnan(step):
        raise InvalidInput(f"step {step} has no place between {begin} and {end}", where="begin, end")
    if not 0 <= final <= initial <= 1:
        raise InvalidInput(f"densities go down within 0..1, not from {initial} to {final}", where="initial, final")
    if step >= end:
        return final
    done = max(0.0, (step - begin) / (end - begin))
    return final + (initial - final) * (1 - done) ** 3


def gradual_masks(
    patterns: Mapping[str, Pattern],
    views: Mapping[str, tuple[int, ...]] | None = None,
    begin: float = 0.0,
    end: float = 0.5,
) -> Masks:
    """A masks function that leads the weights named in `patterns` to them, between two shares of a training.

    The share of a pattern's zeros rises by the cubic; N:M takes the steps m, m - 1, ..., n.

    Args:
        patterns: name of a weight -> its pattern at the end.
        views: name of a weight -> the shape in which its rows are as kernels read them (`PatternLayer.view`); its own
            for a weight that is not named.
        begin: progress at which the first weights go, 0..1.
        end: progress from which the patterns hold, begin..1.

    Raises:
        InvalidInput: not 0 <= begin <= end <= 1; later, a weight that is missing, or a progress outside 0..1.
    """
    if not 0 <= begin <= end <= 1:
        raise InvalidInput(f"pruning from {begin} to {end} of a training does not fit in 0..1", where="begin, end")
    chosen, shapes = dict(patterns), dict(views or {})

    def masks(weights: Mapping[str, np.ndarray], progress: float) -> dict[str, Mask]:
        if not 0 <= progress <= 1:
            raise InvalidInput(f"progress lies in 0..1, not {progress}")
        return _masks(chosen, shapes, weights, 1 - cubic_density(progress, begin, end, 1.0, 0.0))

    return masks


def masks_by_density(
    patterns: Mapping[str, Pattern], sparsity: float, views: Mapping[str, tuple[int, ...]] | None = None
) -> Masks:
    """A masks function that is called with the share of weights to keep, by a schedule that ends at 1 - sparsity.

    Every pattern is as far on its way as the schedule is on its own; `patterns` and `views` are as in `gradual_masks`.

    Raises:
        PruningError: a sparsity outside (0, 1).
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
