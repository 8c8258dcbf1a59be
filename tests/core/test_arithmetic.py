"""The arithmetic against an oracle of exact fractions that knows only what IEEE-754 says about float32."""

import itertools
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penjing.core.arithmetic import (
    INT32_MAX,
    accumulator_bound,
    dequantize,
    multiplier,
    quantize,
    ratio,
    requantize,
    round_clamped,
)

TINY = np.finfo(np.float32).tiny
LARGEST = np.float32(2.0**90)

int32s = st.integers(-(2**31), 2**31 - 1)
codes = st.integers(0, 255)
normal_float32s = st.floats(TINY, LARGEST, width=32, allow_subnormal=False)
multipliers = st.one_of(st.just(0.0), normal_float32s, st.floats(2.0**-24, 4.0, width=32))


def float32(value: Fraction) -> Fraction:
    """The float32 nearest to `value`, ties to even; the value must stay finite."""
    if value == 0:
        return Fraction(0)
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** max(exponent - 23, -149)
    return round(value / step) * step  # round() of a fraction is to nearest, ties to even


def expected_code(acc: int, factor: float, zero_point: int, qmin: int = 0, qmax: int = 255) -> int:
    steps = float32(float32(Fraction(acc)) * Fraction(factor))
    return round(min(max(steps, Fraction(qmin - zero_point)), Fraction(qmax - zero_point))) + zero_point


def one(acc: int, factor: float, zero_point: int, qmin: int = 0, qmax: int = 255) -> int:
    return int(requantize(np.array([acc], np.int32), np.float32([factor]), zero_point, qmin, qmax)[0])


@given(acc=int32s, factor=multipliers, zero_point=codes, ends=st.tuples(codes, codes).map(sorted))
@example(acc=2**24 + 1, factor=2.0**-25, zero_point=0, ends=[0, 255])
@example(acc=-(2**31), factor=2.0**90, zero_point=255, ends=[0, 255])
@example(acc=0, factor=2.0**90, zero_point=7, ends=[0, 255])
def test_requantize_is_one_conversion_one_product_a_clamp_and_one_rounding(acc, factor, zero_point, ends):
    assert one(acc, factor, zero_point, *ends) == expected_code(acc, factor, zero_point, *ends)


@given(st.integers(-(2**31), 2**31 - 1).map(Fraction))
def test_the_oracle_converts_integers_as_numpy_does(value):
    assert float32(value) == Fraction(float(np.float32(np.int32(value))))


@given(st.integers(1, 300), st.floats(2.0**-10, 2.0, width=32), st.floats(-4, 4, allow_nan=False, width=32))
def test_requantize_agrees_with_the_oracle_around_every_rounding_border(code, factor, offset):
    """Accumulators that land beside code + 1/2, where a second rounding or a fused operation would show."""
    acc = round((code + Fraction(1, 2)) / Fraction(factor) + Fraction(offset))
    assert one(acc, factor, 0) == expected_code(acc, factor, 0)


@pytest.mark.parametrize("zero_point", [0, 1, 127, 128, 254, 255])
@pytest.mark.parametrize("factor", [0.5, 0.25, 1.5])
def test_ties_go_to_the_even_number_of_steps_whatever_the_zero_point(zero_point, factor):
    acc = np.arange(-1100, 1100, dtype=np.int32)
    want = [expected_code(int(a), factor, zero_point) for a in acc]
    assert requantize(acc, np.float32(factor), zero_point).tolist() == want
    assert one(1, 0.5, 100) == 100 and one(3, 0.5, 100) == 102 and one(-1, 0.5, 100) == 100 and one(-3, 0.5, 100) == 98


def test_the_product_is_rounded_to_float32_before_it_is_rounded_to_an_integer():
    acc, factor = 5, float(np.float32(0.1))  # 0.5 and a little, of which float32 keeps nothing
    assert Fraction(acc) * Fraction(factor) > Fraction(1, 2)
    assert one(acc, factor, 0) == 0


def test_an_accumulator_beyond_2_to_24_is_rounded_when_it_is_converted():
    assert one(2**24 + 1, 2.0**-25, 0) == 0  # 0.5 after the conversion, above it before
    assert one(2**24 + 3, 2.0**-25, 0) == 1


@pytest.mark.parametrize(("qmin", "qmax"), [(0, 255), (3, 200), (128, 128), (0, 0), (255, 255)])
@pytest.mark.parametrize("zero_point", [0, 128, 255])
def test_no_accumulator_leaves_the_clamp(zero_point, qmin, qmax):
    ends = np.array([-(2**31), -(2**24) - 1, -1, 0, 1, 2**24 + 1, 2**31 - 1], np.int32)
    for factor in (0.0, TINY, 1e-9, 1.0, 1e20, LARGEST):
        got = requantize(ends, np.float32(factor), zero_point, qmin, qmax)
        assert got.dtype == np.uint8
        assert got.min() >= qmin and got.max() <= qmax
        if factor >= 1:
            assert (got[0], got[-1]) == (qmin, qmax)


def test_multipliers_broadcast_along_the_last_axis():
    acc = np.arange(-60, 60, dtype=np.int32).reshape(2, 4, 5, 3)
    factors = np.float32([0.5, 1.0, 2.0])
    got = requantize(acc, factors, 128)
    for channel in range(3):
        alone = requantize(np.ascontiguousarray(acc[..., channel]), factors[channel], 128)
        np.testing.assert_array_equal(got[..., channel], alone)


def test_round_clamped_can_store_other_types():
    got = round_clamped(np.float32([-40000.0, 2.5, 40000.0]), 0, -32768, 32767, np.int16)
    assert got.dtype == np.int16 and got.tolist() == [-32768, 2, 32767]


@given(real=st.floats(-1e6, 1e6, width=32), scale=st.floats(2.0**-20, 1e6, width=32), zero_point=codes)
@example(real=0.15, scale=float(np.float32(0.1)), zero_point=0)
def test_quantize_is_one_float32_division_a_clamp_and_one_rounding(real, scale, zero_point):
    steps = float32(Fraction(real) / Fraction(scale))
    want = round(min(max(steps, Fraction(-zero_point)), Fraction(255 - zero_point))) + zero_point
    assert int(quantize(np.float32([real]), np.float32(scale), zero_point)[0]) == want


@pytest.mark.parametrize("zero_point", [0, 128, 255])
def test_infinite_reals_saturate(zero_point):
    got = quantize(np.float32([-np.inf, np.inf]), np.float32(0.1), zero_point)
    assert got.tolist() == [0, 255]


@given(scale=st.floats(TINY, 2.0**119, width=32, allow_subnormal=False), zero_point=codes)
def test_dequantize_is_one_product_and_quantize_leads_back_to_every_code(scale, zero_point):
    every = np.arange(256, dtype=np.uint8)
    real = dequantize(every, np.float32(scale), zero_point)
    assert real.dtype == np.float32
    for code in (0, zero_point, 255):
        assert Fraction(float(real[code])) == float32((code - zero_point) * Fraction(scale))
    np.testing.assert_array_equal(quantize(real, np.float32(scale), zero_point), every)


@given(x=normal_float32s, w=normal_float32s, y=normal_float32s)
def test_a_multiplier_is_a_product_then_a_quotient_each_rounded_once(x, w, y):
    with np.errstate(over="ignore", under="ignore"):
        plain = np.float32(np.float32(np.float32(x) * np.float32(w)) / np.float32(y))
    got = multiplier(np.float32(x), np.float32([w]), np.float32(y))[0]
    assert got.dtype == np.float32
    want = np.float32(0) if abs(plain) < TINY else min(plain, LARGEST)
    assert got == want


def test_the_order_of_a_multipliers_operations_shows_in_its_last_bit():
    x, w, y = np.float32(0.1), np.float32(0.3), np.float32(0.7)
    assert np.float32(x * w) / y != x * np.float32(w / y)
    assert multiplier(x, np.array([w]), y)[0] == np.float32(x * w) / y


@pytest.mark.parametrize(
    ("x", "w", "y", "want"),
    [
        (TINY, TINY, 1.0, 0.0),  # the product alone vanishes
        (TINY, 0.5, 1.0, 0.0),  # subnormal
        (TINY, 1.0, 1.0, TINY),  # the smallest that stays
        (1e30, 1e30, 1.0, LARGEST),  # the product alone is infinite
        (1.0, 1.0, TINY, LARGEST),
        (2.0**90, 1.0, 1.0, LARGEST),  # the largest that stays
        (2.0**89, 1.0, 1.0, 2.0**89),
    ],
)
def test_a_multiplier_is_zero_or_normal_and_never_beyond_2_to_90(x, w, y, want):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert multiplier(np.float32(x), np.float32([w]), np.float32(y)).tolist() == [want]
        assert ratio(np.float32(x) * np.float32(min(w, 1.0)), np.float32(y)) <= LARGEST


@given(acc=int32s.filter(bool), small=st.floats(0, TINY, width=32, exclude_max=True), zero_point=codes)
def test_taming_a_multiplier_changes_no_code(acc, small, zero_point):
    assert one(acc, float(small), zero_point) == zero_point == one(acc, 0.0, zero_point)
    huge = float(np.finfo(np.float32).max) / 2**32
    assert one(acc, huge, zero_point) == (255 if acc > 0 else 0) == one(acc, float(LARGEST), zero_point)


@given(scale=normal_float32s, output=normal_float32s)
def test_a_ratio_is_one_division_and_exactly_a_float32(scale, output):
    got = ratio(np.float32(scale), np.float32(output))
    assert type(got) is float
    assert float(np.float32(got)) == got
    want = float32(Fraction(scale) / Fraction(output))
    if TINY <= want <= LARGEST:
        assert Fraction(got) == want
    else:
        assert got == (0.0 if want < TINY else float(LARGEST))


@given(
    weights=st.lists(st.integers(-127, 127), min_size=1, max_size=4),
    bias=st.integers(-100_000, 100_000),
    zero_point=codes,
)
def test_no_input_and_no_partial_sum_passes_the_accumulator_bound(weights, bias, zero_point):
    bound = accumulator_bound(np.int8([weights]), np.int32([bias]))
    for x in itertools.product((0, zero_point, 255), repeat=len(weights)):
        partial = np.cumsum([bias, *((a - zero_point) * w for a, w in zip(x, weights, strict=True))])
        assert np.abs(partial).max() <= bound


@pytest.mark.parametrize("sign", [1, -1])
def test_the_accumulator_bound_is_reached(sign):
    weights = np.int8([[127, 3, 50]]) * np.int8(sign)
    zero_point, x = (0, 255)
    reached = abs(sign * 1000 + sum((x - zero_point) * int(w) for w in weights[0]))
    assert accumulator_bound(weights, np.int32([sign * 1000])) == reached


def test_the_accumulator_bound_is_that_of_the_worst_channel_and_does_not_overflow_itself():
    weights = np.full((3, 66_312), 127, np.int8)
    weights[[0, 2]] = 1
    assert accumulator_bound(weights, np.zeros(3, np.int32)) == 66_312 * 127 * 255 > INT32_MAX
    assert accumulator_bound(weights[:, :66_311], np.zeros(3, np.int32)) <= INT32_MAX
    assert accumulator_bound(np.zeros((1, 4), np.int8), np.int32([-(2**31)])) == 2**31


def test_the_accumulator_bound_sums_over_all_axes_but_the_channels():
    w = np.arange(-12, 12, dtype=np.int8).reshape(2, 3, 4)
    bias = np.int32([5, -7, 11, 0])
    want = max(255 * int(np.abs(w[..., c].astype(int)).sum()) + abs(int(bias[c])) for c in range(4))
    assert accumulator_bound(w, bias, axis=2) == want
