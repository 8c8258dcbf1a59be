"""Streaming calibration: ranges, their independence of the stream's cut, bounded memory, and parameters."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.compress.quantize.observers import (
    EntropyObserver,
    MseObserver,
    PercentileObserver,
    make_observer,
)
from penjing.core import arithmetic
from penjing.core.errors import CalibrationError, InvalidInput
from penjing.ir.grid import activation_parameters

KINDS = ["min-max", "mse", "percentile", "entropy"]


def observe(kind, *arrays, levels=256):
    observer = make_observer(kind, "conv1", levels)
    for array in arrays:
        observer.update(array)
    return observer.range()


def squared_error(values, low, high):
    scale, zero_point = activation_parameters(low, high)
    codes = arithmetic.quantize(values, scale, zero_point)
    return float(np.square(arithmetic.dequantize(codes, scale, zero_point).astype(np.float64) - values).mean())


def distributions(rng):
    return {
        "relu": np.maximum(rng.normal(size=20_000), 0),
        "normal": rng.normal(size=20_000) - 0.3,
        "heavy": rng.standard_t(2.5, size=20_000),
        "one-outlier": np.append(rng.normal(size=20_000), 60.0),
        "relu6": np.clip(rng.normal(2, 4, size=20_000), 0, 6),
        "negative": -rng.exponential(size=20_000) - 1,
        "far": rng.normal(1000, 1, size=20_000),
    }


NAMES = sorted(distributions(np.random.default_rng(0)))


@pytest.fixture(params=NAMES)
def values(request):
    return distributions(np.random.default_rng(17))[request.param].astype(np.float32)


def test_min_max_is_the_smallest_and_largest_value(values):
    assert observe("min-max", *np.array_split(values, 7)) == (float(values.min()), float(values.max()))


@pytest.mark.parametrize("kind", KINDS)
def test_neither_the_cut_nor_the_order_of_the_stream_matters(kind, values):
    whole = observe(kind, values)
    for seed, pieces in ((1, 2), (2, 13), (3, 997)):
        shuffled = np.random.default_rng(seed).permutation(values)
        assert observe(kind, *np.array_split(shuffled, pieces)) == whole
    assert observe(kind, np.sort(values)[:5], np.sort(values)[5:]) == whole


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=30))
def test_one_value_at_a_time_gives_the_same_as_all_at_once(numbers):
    array = np.array(numbers, dtype=np.float32)
    for kind in KINDS:
        assert observe(kind, *array.reshape(-1, 1)) == observe(kind, array)


def test_mse_ranges_hold_zero_and_stay_inside_the_values(values):
    low, high = observe("mse", values)
    assert low <= 0 <= high
    assert low >= min(0.0, float(values.min()))
    assert high <= max(0.0, float(values.max()))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "far"])
def test_the_mse_range_is_as_good_as_a_grid_search_over_the_values_themselves(name):
    values = distributions(np.random.default_rng(17))[name].astype(np.float32)
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    cuts = np.linspace(0.02, 1, 40)
    best = min(squared_error(values, low * a, high * b) for a in cuts for b in cuts)
    chosen = squared_error(values, *observe("mse", values))
    assert chosen <= 1.01 * best
    assert chosen <= 1.001 * squared_error(values, low, high)


def test_values_far_closer_together_than_a_step_still_get_a_reasonable_range():
    values = distributions(np.random.default_rng(17))["far"].astype(np.float32)
    assert squared_error(values, *observe("mse", values)) <= 1.25 * squared_error(values, 0.0, float(values.max()))


def test_a_rare_outlier_is_clipped_by_mse_and_not_by_min_max():
    values = np.random.default_rng(1).normal(size=200_000).astype(np.float32)
    stream = [values] * 20 + [np.array([60.0])]
    assert observe("min-max", *stream)[1] == 60
    low, high = observe("mse", *stream)
    assert high < 10
    assert squared_error(values, low, high) < 0.1 * squared_error(values, *observe("min-max", *stream))


def test_a_pile_at_a_former_maximum_does_not_count_as_one_at_the_end():
    pile, wide = np.full(100_000, 5.0), np.append(np.linspace(0, 5, 1000), 9.0)
    assert observe("mse", pile, wide) == observe("mse", wide, pile)
    assert observe("mse", -pile, -wide) == observe("mse", -wide, -pile)


def test_the_expected_error_of_clipping_is_the_squared_distance():
    # Ten values at 1.5 are rounded in steps of end / 3, one in the middle of a bin of width 2**-10 is clipped: the sum
    # 10 * (end / 3)**2 / 12 + (far - end)**2 is least where end * (10 / 108 + 1) = far.
    width = 2.0**-10
    far = 3 + width / 2
    _, high = observe("mse", np.append(np.full(10, 1.5), far), levels=4)
    assert high == pytest.approx(far / (10 / 108 + 1), abs=0.51 * width)


def test_values_that_pile_up_at_the_end_are_not_clipped():
    values = np.clip(np.random.default_rng(1).normal(3, 4, size=50_000), 0, 6).astype(np.float32)
    assert observe("mse", values) == (0.0, 6.0)


@pytest.mark.parametrize("percent", [50, 90, 99, 99.9, 100])
def test_a_percentile_cuts_off_no_more_than_its_share_at_each_end_and_the_next_bin_would(percent, values):
    observer = PercentileObserver(percent=percent)
    observer.update(values)
    low, high = observer.range()
    share, width = (100 - percent) / 100 * values.size, 2.0**observer.histogram.exponent
    assert np.count_nonzero(values > high) <= share
    assert np.count_nonzero(values < low) <= share
    assert high == 0 or np.count_nonzero(values >= high - width) > share
    assert low == 0 or np.count_nonzero(values <= low + width) > share


@pytest.mark.parametrize("percent", [49, 101, float("nan")])
def test_a_percentile_outside_50_to_100_is_refused(percent):
    with pytest.raises(InvalidInput, match="percentile"):
        PercentileObserver(percent=percent)


@pytest.mark.parametrize("kind", ["percentile", "entropy"])
def test_ranges_of_percentile_and_entropy_hold_zero_stay_inside_and_keep_99_percent(kind, values):
    low, high = observe(kind, values)
    assert min(0.0, float(values.min())) <= low <= 0 <= high <= max(0.0, float(values.max()))
    assert np.count_nonzero((values < low) | (values > high)) <= 0.01 * values.size


@pytest.mark.parametrize("kind", ["percentile", "entropy"])
@pytest.mark.parametrize("outlier", [60.0, -60.0])
def test_a_rare_outlier_is_cut_off_by_percentile_and_entropy(kind, outlier):
    values = np.random.default_rng(1).normal(size=20_000).astype(np.float32)
    low, high = observe(kind, values, np.array([outlier]))
    assert -5 < low < -2.5
    assert 2.5 < high < 5


def test_entropy_keeps_what_fewer_codes_can_tell_apart():
    values = np.random.default_rng(1).laplace(size=50_000).astype(np.float32)
    ends = [observe("entropy", values, levels=levels)[1] for levels in (16, 64, 256)]
    assert ends == sorted(ends)
    assert ends[0] < 0.7 * ends[2]


def test_entropy_is_not_moved_by_values_that_are_exactly_zero():
    values = np.maximum(np.random.default_rng(1).normal(size=20_000), 0)
    assert observe("entropy", values, np.zeros(10**6)) == observe("entropy", values[values > 0])


def test_entropy_keeps_values_that_pile_up_at_the_end():
    values = np.clip(np.random.default_rng(1).normal(3, 4, size=50_000), 0, 6).astype(np.float32)
    assert observe("entropy", values) == (0.0, 6.0)


def test_fewer_levels_clip_more():
    values = np.random.default_rng(1).normal(size=50_000).astype(np.float32)
    assert observe("mse", values, levels=16)[1] < 0.9 * observe("mse", values, levels=256)[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e-44, -3e38, 0.1])
def test_a_value_that_never_changes_gives_a_range_with_usable_parameters(kind, value):
    array = np.full((2, 3), value, dtype=np.float32)
    low, high = observe(kind, array, array)
    scale, zero_point = activation_parameters(low, high)
    back = arithmetic.dequantize(arithmetic.quantize(array, scale, zero_point), scale, zero_point)
    np.testing.assert_allclose(back, array, rtol=1e-6, atol=np.finfo(np.float32).tiny)


def test_the_range_grows_from_tiny_to_huge_without_losing_a_count():
    observer = MseObserver()
    for exponent in range(-40, 38):
        observer.update(np.array([10.0**exponent, -(10.0**exponent)]))
    assert int(observer.histogram.counts.sum()) == 2 * 78
    low, high = observer.range()
    assert -1e37 * 1.001 <= low < 0 < high <= 1e37 * 1.001


@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_with_the_stream(kind):
    observer = make_observer(kind)
    batch = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    observer.update(batch)
    tracemalloc.start()
    try:
        for step in range(20):
            observer.update(batch * np.float32(1.3**step))
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 64 * 1024
    assert peak < 3 * batch.nbytes + 2**21


@pytest.mark.parametrize("kind", KINDS)
def test_strided_and_other_typed_arrays_are_taken(kind):
    base = np.arange(-60, 60, dtype=np.int8).reshape(10, 12)
    assert observe(kind, base.T[::2]) == observe(kind, base.T[::2].astype(np.float64).copy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_a_non_finite_activation_is_refused_with_the_name_of_its_value_and_changes_nothing(kind, bad):
    observer = make_observer(kind, "conv1")
    observer.update(np.array([1.0, -1.0]))
    before = observer.range()
    with pytest.raises(CalibrationError, match="1 of 4 calibration values") as caught:
        observer.update(np.array([[0.0, 1.0], [bad, 2.0]]))
    assert "conv1" in str(caught.value)
    assert "flat index 2" in str(caught.value)
    assert observer.range() == before


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_calibration_set_is_refused(kind):
    with pytest.raises(CalibrationError, match="empty calibration set"):
        make_observer(kind, "conv1").range()
    with pytest.raises(CalibrationError, match="no values"):
        make_observer(kind).update(np.zeros((0, 3)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.array(["a"]), np.array([1j]), np.array([True])])
def test_arrays_of_other_things_are_refused(kind, bad):
    with pytest.raises(InvalidInput):
        make_observer(kind).update(bad)


def test_an_unknown_observer_is_refused():
    with pytest.raises(InvalidInput, match="min-max, mse, percentile, entropy"):
        make_observer("best")
    for kind in (MseObserver, EntropyObserver):
        with pytest.raises(InvalidInput, match="levels"):
            kind(levels=1)


# --- parameters ----------------------------------------------------------------------------------------------------

finite = st.floats(-(2.0**127), 2.0**127, width=32)


@given(finite, finite, st.integers(2, 16))
def test_real_zero_is_a_code_and_the_ends_move_by_at_most_half_a_step(a, b, bits):
    low, high = min(a, b), max(a, b)
    scale, zero_point = activation_parameters(low, high, bits)
    top = 2**bits - 1
    assert type(scale) is np.float32
    assert np.finfo(np.float32).tiny <= scale < np.inf
    assert 0 <= zero_point <= top
    s = float(scale)
    assert -zero_point * s <= min(low, 0) + 0.5001 * s
    assert (top - zero_point) * s >= max(high, 0) - 0.5001 * s


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 255.0, (1.0, 0)),
        (-128.0, 127.0, (1.0, 128)),
        (3.0, 255.0, (1.0, 0)),
        (-255.0, -3.0, (1.0, 255)),
        (0.0, 0.0, (1.0, 0)),
        (7.0, 7.0, (np.float32(7 / 255), 0)),
        (-7.0, -7.0, (np.float32(7 / 255), 255)),
        (0.0, 1e-44, (np.finfo(np.float32).tiny, 0)),
    ],
)
def test_known_parameters(low, high, expected):
    assert activation_parameters(low, high) == expected


@pytest.mark.parametrize(
    ("low", "high"), [(math.nan, 1), (0, math.nan), (-math.inf, 0), (0, math.inf), (1, 0), (0, 1e300)]
)
def test_a_range_that_is_none_is_refused(low, high):
    with pytest.raises(CalibrationError):
        activation_parameters(low, high)


@pytest.mark.parametrize("bits", [1, 17])
def test_bits_outside_2_to_16_are_refused(bits):
    with pytest.raises(InvalidInput):
        activation_parameters(0, 1, bits)
