"""Accuracy intervals and paired tests, against published figures, scipy and exact enumeration."""

import itertools
import math

import numpy as np
import pytest

from penjing.core.errors import InvalidInput
from penjing.measure.intervals import accuracy_interval, paired_drop


def outcomes(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return a, b


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 10), (10, 10), (5, 10), (9865, 10_000), (8655, 10_000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_accuracy_interval_is_the_wilson_interval_of_scipy(correct, n, confidence):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(correct, n).proportion_ci(confidence, method="wilson")
    got = accuracy_interval(correct, n, confidence)
    assert got.value == correct / n
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_perfect_score_is_not_certainty():
    interval = accuracy_interval(100, 100)
    assert interval.high == 1.0
    assert 0.95 < interval.low < 0.97


def test_the_difference_interval_reproduces_newcombes_published_example():
    # Newcombe 1998 (see the module): 36, 12, 2, 0 gives 0.0569 to 0.3404 by method 10.
    drop = paired_drop(*outcomes(36, 12, 2, 0))
    assert drop.drop == pytest.approx(0.2)
    assert (drop.low, drop.high) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_a_positive_correlation_is_reduced_by_the_continuity_correction():
    # The formulas of method 10 once more, spelled out for 40, 6, 2, 12 of n = 60.
    stats = pytest.importorskip("scipy.stats")
    ci_a = stats.binomtest(46, 60).proportion_ci(method="wilson")
    ci_b = stats.binomtest(42, 60).proportion_ci(method="wilson")
    phi = (40 * 12 - 6 * 2 - 60 / 2) / math.sqrt(46 * 14 * 42 * 18)
    down, up = (46 / 60 - ci_a.low, ci_b.high - 42 / 60), (ci_a.high - 46 / 60, 42 / 60 - ci_b.low)
    below, above = (math.sqrt(x * x - 2 * phi * x * y + y * y) for x, y in (down, up))
    drop = paired_drop(*outcomes(40, 6, 2, 12))
    assert (drop.low, drop.high) == pytest.approx((4 / 60 - below, 4 / 60 + above), abs=1e-12)


def test_swapping_the_models_turns_the_interval_round():
    a, b = outcomes(700, 40, 10, 250)
    one, other = paired_drop(a, b), paired_drop(b, a)
    assert (one.drop, one.low, one.high) == pytest.approx((-other.drop, -other.high, -other.low))
    assert one.p_value == other.p_value


@pytest.mark.parametrize(
    ("only_a", "only_b"), [(0, 0), (1, 0), (0, 1), (1, 1), (5, 5), (9, 2), (40, 61), (1000, 900), (3, 5000)]
)
def test_the_p_value_is_the_exact_binomial_one_of_scipy(only_a, only_b):
    stats = pytest.importorskip("scipy.stats")
    n = only_a + only_b
    expected = stats.binomtest(only_a, n, 0.5).pvalue if n else 1.0
    got = paired_drop(*outcomes(10, only_a, only_b, 10)).p_value
    assert got == pytest.approx(expected, rel=1e-8, abs=1e-300)


def test_a_million_disagreements_are_counted_in_good_time_and_to_nine_digits():
    stats = pytest.importorskip("scipy.stats")
    got = paired_drop(*outcomes(0, 500_800, 499_200, 0)).p_value
    assert got == pytest.approx(2 * stats.binom.cdf(499_200, 1_000_000, 0.5), rel=1e-8)


def test_models_that_always_agree_still_have_an_interval():
    drop = paired_drop(*outcomes(9000, 0, 0, 1000))
    assert drop.drop == 0
    assert drop.p_value == 1
    assert -0.002 < drop.low < 0 < drop.high < 0.002


def test_pairing_is_much_sharper_than_two_separate_intervals():
    a, b = outcomes(8950, 30, 20, 1000)
    drop = paired_drop(a, b)
    separate = accuracy_interval(int(a.sum()), a.size)
    assert drop.high - drop.low < (separate.high - separate.low) / 3


def coverage(n: int, p: tuple[float, float, float, float]) -> float:
    """Exact probability that the 95 % interval holds the true difference, over all multinomial outcomes."""
    truth, covered = p[1] - p[2], 0.0
    for both, only_a, only_b in itertools.product(range(n + 1), repeat=3):
        neither = n - both - only_a - only_b
        if neither < 0:
            continue
        counts = (both, only_a, only_b, neither)
        log_probability = math.lgamma(n + 1) + sum(
            k * math.log(q) - math.lgamma(k + 1) for k, q in zip(counts, p, strict=True)
        )
        if log_probability < -16:
            continue
        drop = paired_drop(*outcomes(*counts))
        if drop.low <= truth <= drop.high:
            covered += math.exp(log_probability)
    return covered


@pytest.mark.parametrize("p", [(0.8, 0.1, 0.05, 0.05), (0.6, 0.05, 0.05, 0.3), (0.85, 0.05, 0.02, 0.08)])
def test_a_95_percent_interval_holds_the_truth_about_95_times_in_a_hundred(p):
    assert coverage(24, p) > 0.92


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5), (1, -1)])
def test_impossible_counts_are_refused(correct, n):
    with pytest.raises(InvalidInput):
        accuracy_interval(correct, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, 95, math.nan])
def test_a_confidence_outside_0_to_1_is_refused(confidence):
    with pytest.raises(InvalidInput, match="confidence"):
        accuracy_interval(5, 10, confidence)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones(3, bool), np.ones(4, bool)),
        (np.ones(0, bool), np.ones(0, bool)),
        (np.ones((2, 2), bool), np.ones((2, 2), bool)),
        (np.array([1, 0]), np.array([1, 0])),
    ],
    ids=["different-lengths", "empty", "2-d", "labels-instead-of-flags"],
)
def test_samples_that_do_not_pair_are_refused(a, b):
    with pytest.raises(InvalidInput):
        paired_drop(a, b)
