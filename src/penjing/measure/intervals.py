"""How sure an accuracy is: intervals for one model, and a paired test for two models on the same samples.

Accuracy of one model: the Wilson score interval (E. B. Wilson, JASA 22, 1927). Unlike p +- z * sqrt(p (1 - p) / n) it
never leaves 0..1 and does not shrink to nothing when every sample is right.

Two models on the same samples: only the samples on which they disagree tell them apart. With `f` samples that only A
gets right and `g` that only B gets right, the exact McNemar test (Q. McNemar, Psychometrika 12, 1947) asks whether `f`
of `f + g` fits a fair coin. The interval of the difference is method 10 of R. G. Newcombe, Statistics in Medicine 17,
1998, pp. 2635-2650: two Wilson intervals joined by the correlation of the two models. It keeps a width when the models
agree everywhere, where the textbook (Wald) interval claims certainty.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from penjing.core.errors import InvalidInput


@dataclass(frozen=True)
class Interval:
    """A proportion in 0..1 with its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDrop:
    """Accuracy of A minus accuracy of B on the same `n` samples; positive where B is worse.

    `drop`, `low` and `high` are absolute, in -1..1 (0.01 is one point). `p_value` is two-sided: how often two equally
    good models would disagree at least this unevenly.
    """

    drop: float
    low: float
    high: float
    p_value: float
    n: int


def accuracy_interval(correct: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of `correct` right answers out of `n`.

    Raises:
        InvalidInput: `n` < 1, `correct` outside 0..n, `confidence` not between 0 and 1.
    """
    if n < 1:
        raise InvalidInput(f"an accuracy needs at least one sample, not {n}")
    if not 0 <= correct <= n:
        raise InvalidInput(f"{correct} right answers out of {n} samples cannot be")
    low, high = _wilson(correct, n, _z(confidence))
    return Interval(correct / n, low, high)


def paired_drop(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], confidence: float = 0.95) -> PairedDrop:
    """Compare two models sample by sample.

    Args:
        correct_a: (n,) bool, which samples model A (the original) gets right.
        correct_b: (n,) bool, the same samples for model B (the compressed one).
        confidence: of the two-sided interval.

    Raises:
        InvalidInput: not bool, not 1-D, different lengths, no samples, or `confidence` not between 0 and 1.
    """
    a, b = _flags(correct_a, "correct_a"), _flags(correct_b, "correct_b")
    if a.size != b.size:
        raise InvalidInput(
            f"a paired comparison needs the same samples, not {a.size} and {b.size}",
            hint="run both models on one test set, in one order",
        )
    z = _z(confidence)
    both, only_a = int(np.count_nonzero(a & b)), int(np.count_nonzero(a & ~b))
    only_b, neither = int(np.count_nonzero(~a & b)), int(np.count_nonzero(~a & ~b))
    low, high = _newcombe(both, only_a, only_b, neither, z)
    return PairedDrop((only_a - only_b) / a.size, low, high, _mcnemar(only_a, only_b), a.size)


def _flags(array: NDArray[np.bool_], name: str) -> NDArray[np.bool_]:
    flags = np.asarray(array)
    if flags.dtype != np.bool_ or flags.ndim != 1:
        raise InvalidInput(
            f"{name} must be a 1-D bool array, not {flags.dtype} of shape {flags.shape}", hint="pass predicted == label"
        )
    if flags.size == 0:
        raise InvalidInput(f"{name} holds no samples")
    return flags


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence must lie between 0 and 1, not {confidence}", hint="0.95 is usual")
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _wilson(correct: int, n: int, z: float) -> tuple[float, float]:
    p = correct / n
    shrink = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / shrink
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return low, high


def _newcombe(both: int, only_a: int, only_b: int, neither: int, z: float) -> tuple[float, float]:
    n = both + only_a + only_b + neither
    right_a, right_b = both + only_a, both + only_b
    p_a, p_b = right_a / n, right_b / n
    low_a, high_a = _wilson(right_a, n, z)
    low_b, high_b = _wilson(right_b, n, z)
    phi = _correlation(both, only_a, only_b, neither)
    difference = (only_a - only_b) / n
    low = difference - _joined(p_a - low_a, high_b - p_b, phi)
    high = difference + _joined(high_a - p_a, p_b - low_b, phi)
    return max(-1.0, low), min(1.0, high)


def _correlation(both: int, only_a: int, only_b: int, neither: int) -> float:
    """Newcombe's phi, moved towards zero by his continuity correction when positive."""
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if margins == 0:
        return 0.0
    cross = both * neither - only_a * only_b
    if cross > 0:
        cross_corrected = max(0.0, cross - (both + only_a + only_b + neither) / 2)
    else:
        cross_corrected = float(cross)
    return cross_corrected / math.sqrt(margins)


def _joined(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def _mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p: 2 * P(X <= min) for X ~ Binomial(only_a + only_b, 1/2), at most 1."""
    n, k = only_a + only_b, min(only_a, only_b)
    if 2 * k == n:
        return 1.0
    log_term = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
    # Relative to the largest term, P(X = k); each step down multiplies by i / (n - i + 1) < 1.
    tail, term = 1.0, 1.0
    for i in range(k, 0, -1):
        term *= i / (n - i + 1)
        tail += term
        if term < tail * 1e-17:
            break
    return min(1.0, 2 * tail * math.exp(log_term))
