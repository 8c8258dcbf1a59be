"""The affine map q = floor(w * S + B) mod M, and the per-channel weight quantizer."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penjing.compress.quantize.affine_map import (
    AffineMap,
    mean_centred,
    min_max,
    smallest_size,
    symmetric_per_channel,
)
from penjing.core import arithmetic
from penjing.core.errors import InvalidInput, QuantizationError

BUILDERS = {"range": min_max, "mean": mean_centred}
small_weights = hnp.arrays(
    np.float32, st.integers(1, 12), elements=st.floats(-4, 4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
)


def wild(*values):
    return np.array(values, dtype=np.float32)


# --- the formula ---------------------------------------------------------------------------------------------------


def test_saturation_is_the_formula_with_clamped_ends():
    amap = AffineMap(scale=2.0, offset=4.5, size=8)
    assert amap.quantize(wild(-100, -2.25, -2, 0, 0.5, 1.25, 100)).tolist() == [0, 0, 0, 4, 5, 7, 7]


def test_wrap_around_is_the_formula_as_the_seed_document_writes_it():
    s, b, m = 32.0, 0.0, 256
    w = np.linspace(-20, 20, 401)
    expected = [math.floor(x * s + b) % m for x in w]
    assert AffineMap(s, b, m, "wrap").quantize(w).tolist() == expected


def test_wrap_and_saturate_agree_inside_the_range():
    w = np.linspace(-1, 1, 77)
    inside = min_max(w, 100)
    wrapping = AffineMap(inside.scale, inside.offset, inside.size, "wrap")
    assert np.array_equal(inside.quantize(w), wrapping.quantize(w))
    assert wrapping.quantize(np.array([1.02]))[0] == 0
    assert inside.quantize(np.array([1.02]))[0] == 99


def test_every_code_survives_the_way_to_real_and_back():
    for amap in (AffineMap(1 / 0.03, 17.5, 256), AffineMap(8.0, 3.2, 100), min_max(wild(1000.0, 1000.001), 256)):
        codes = np.arange(amap.size)
        assert np.array_equal(amap.quantize(amap.dequantize(codes)), codes)


@pytest.mark.parametrize("zero_point", [0, 3, 128, 255])
def test_kernel_parameters_give_the_kernels_codes_except_at_ties_below_even(zero_point):
    scale = 0.25  # a power of two: w * S and w / scale are both exact
    steps = np.arange(-600, 601) / 2  # every code, every tie, and far outside
    ours = AffineMap.from_parameters(scale, zero_point).quantize(steps * scale)
    kernel = arithmetic.quantize(steps * scale, np.float32(scale), zero_point)
    floor = np.floor(steps)
    tie_above_even = (steps != floor) & (floor % 2 == 0)
    differs = ours != kernel
    assert differs.any()
    assert not (differs & ~tie_above_even).any()
    assert np.all(ours[differs] == kernel[differs].astype(int) + 1)


def test_the_tie_of_the_docstring():
    amap = AffineMap.from_parameters(1.0, 128)
    assert (amap.quantize(wild(2.5, -2.5, 3.5)) - 128).tolist() == [3, -2, 4]
    kernel = arithmetic.quantize(wild(2.5, -2.5, 3.5), np.float32(1), 128).astype(int) - 128
    assert kernel.tolist() == [2, -2, 4]


@given(small_weights, st.integers(2, 300), st.sampled_from(sorted(BUILDERS)))
def test_no_value_moves_by_more_than_half_a_step(w, size, centre):
    amap = BUILDERS[centre](w, size)
    if w.min() == w.max():
        assert amap.error(w).max_abs <= 1e-15 * abs(float(w[0]))
    else:
        assert amap.error(w).max_abs <= 0.5 / amap.scale * (1 + 1e-6)


def test_error_reports_maximum_rms_and_sqnr():
    w = wild(0.0, 0.25, -0.25, 1.0)
    error = AffineMap.from_parameters(1.0, 128).error(w)
    assert error.max_abs == 0.25
    assert error.rms == pytest.approx(0.25 / math.sqrt(2))
    assert error.sqnr_db == pytest.approx(10 * math.log10(1.125 / 0.125))


def test_error_without_loss_is_infinite_sqnr_and_noise_on_zeros_is_minus_infinity():
    assert AffineMap.from_parameters(1.0, 128).error(wild(1, 2, 3)).sqnr_db == math.inf
    assert AffineMap(1.0, 0.75, 256).error(np.zeros(3)).sqnr_db == -math.inf


# --- mean-centred --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 255, 256])
def test_the_mean_maps_to_the_middle_and_the_largest_deviation_to_an_end(size):
    w = wild(0.9, 1.0, 1.1, 1.9)
    amap = mean_centred(w, size)
    mean = float(w.astype(np.float64).mean())
    assert mean * amap.scale + amap.zero_point == pytest.approx((size - 1) / 2)
    assert amap.quantize(w)[3] == size - 1


def test_mean_centring_is_never_finer_than_min_max():
    rng = np.random.default_rng(7)
    for w in (rng.normal(size=99), rng.exponential(size=99), rng.uniform(3, 4, size=99)):
        assert mean_centred(w, 256).scale <= min_max(w, 256).scale * (1 + 1e-12)


def test_mean_centring_wins_when_most_values_sit_at_the_mean_and_m_is_odd():
    w = np.full(1001, 0.3)
    w[:2] = 0.3 - 0.7, 0.3 + 0.69
    w[2] += 0.01  # the mean stays at 0.3
    assert mean_centred(w, 15).error(w).rms < 0.1 * min_max(w, 15).error(w).rms


def test_mean_centring_wins_over_a_map_that_must_hold_zero_when_values_lie_far_from_it():
    w = np.random.default_rng(3).normal(1.0, 0.02, size=500)
    with_zero = min_max(np.append(w, 0.0), 256)
    assert mean_centred(w, 256).error(w).rms < 0.2 * with_zero.error(w).rms


def test_mean_centring_loses_on_skewed_values():
    w = np.random.default_rng(3).exponential(size=500)
    assert mean_centred(w, 256).error(w).rms > 1.3 * min_max(w, 256).error(w).rms


@pytest.mark.parametrize("value", [0.0, 0.1, -0.1, 3.7e20, -3.3e38, 1e-44, -1e-44, 7])
@pytest.mark.parametrize("size", [2, 3, 255, 256])
@pytest.mark.parametrize("build", [min_max, mean_centred])
def test_a_constant_array_keeps_its_value_and_real_zero(value, size, build):
    w = np.full((3, 5), value, dtype=np.float32)
    amap = build(w, size)
    assert amap.error(w).max_abs <= 1e-15 * abs(float(w[0, 0]))
    assert amap.error(np.zeros(1)).max_abs == 0
    middle = amap.quantize(w)[0, 0]
    assert abs(middle - (size - 1) / 2) <= 0.5


# --- smallest size -------------------------------------------------------------------------------------------------


def brute_force(w, max_error, metric, centre, limit):
    for size in range(2, limit + 1):
        error = BUILDERS[centre](w, size).error(w)
        if (error.max_abs if metric == "max" else error.rms) <= max_error:
            return size
    return None


@settings(max_examples=150)
@given(small_weights, st.floats(0.004, 2), st.sampled_from(["max", "rms"]), st.sampled_from(["range", "mean"]))
def test_the_smallest_size_is_the_one_that_brute_force_finds(w, max_error, metric, centre):
    expected = brute_force(w, max_error, metric, centre, 1100)
    found = smallest_size(w, max_error=max_error, metric=metric, centre=centre)
    assert found.size == expected
    assert found == BUILDERS[centre](w, found.size)


@pytest.mark.parametrize("metric", ["max", "rms"])
def test_the_smallest_size_is_the_one_that_brute_force_finds_on_many_weights(metric):
    w = np.random.default_rng(5).normal(size=5000)
    found = smallest_size(w, max_error=0.02, metric=metric)
    assert found.size == brute_force(w, 0.02, metric, "range", 400)


def test_the_error_is_not_monotonic_so_bisection_would_miss_the_smallest_size():
    w = np.array([0.0, 0.5, 1.0])
    assert min_max(w, 3).error(w).max_abs == 0
    assert min_max(w, 4).error(w).max_abs > 0.1
    assert smallest_size(w, max_error=0.0).size == 3


def test_a_hit_beyond_the_first_block_of_sizes_is_found():
    w = np.array([0.0, 1.0, 1500.0])
    assert smallest_size(w, max_error=1e-9).size == 1501


def test_a_constant_needs_two_codes():
    assert smallest_size(np.full(9, 0.1), max_error=1e-12).size == 2


def test_an_error_that_no_size_keeps_is_reported():
    with pytest.raises(QuantizationError, match="no map of up to 300 codes"):
        smallest_size(np.random.default_rng(1).normal(size=100), max_error=1e-6, limit=300)


@pytest.mark.parametrize(
    "options",
    [
        {"max_error": -1.0},
        {"max_error": math.nan},
        {"max_error": math.inf},
        {"max_error": 0.1, "metric": "mean"},
        {"max_error": 0.1, "centre": "median"},
        {"max_error": 0.1, "limit": 1},
    ],
)
def test_options_of_the_search_that_do_not_exist_are_refused(options):
    with pytest.raises(InvalidInput):
        smallest_size(wild(1, 2), **options)


# --- symmetric per channel -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_largest_weight_of_every_channel_gets_an_end_code(bits, axis):
    w = np.random.default_rng(11).normal(size=(6, 5, 3, 3)).astype(np.float32)
    codes, scales = symmetric_per_channel(w, bits, axis)
    top = 2 ** (bits - 1) - 1
    rest = tuple(i for i in range(4) if i != axis % 4)
    assert codes.dtype == np.int8
    assert codes.shape == w.shape
    assert codes.flags.c_contiguous
    assert scales.dtype == np.float32
    assert scales.shape == (w.shape[axis],)
    assert np.all(np.abs(codes.astype(int)).max(axis=rest) == top)


def test_codes_are_the_nearest_even_integers_and_the_error_is_half_a_step():
    w = wild(127, 2.5, 3.5, -2.5, -0.5, 0)[None, :]
    codes, scales = symmetric_per_channel(w)
    assert scales.tolist() == [1.0]
    assert codes[0].tolist() == [127, 2, 4, -2, 0, 0]


@given(st.floats(1e-30, 1e38), st.integers(0, 2**32 - 1))
def test_the_peak_maps_to_127_for_any_magnitude(peak, seed):
    w = np.random.default_rng(seed).uniform(-1, 1, size=(1, 7)).astype(np.float32) * np.float32(peak)
    codes, scales = symmetric_per_channel(w)
    assert np.abs(codes.astype(int)).max() == (127 if np.any(w) else 0)
    assert np.abs(codes * scales[:, None].astype(np.float64) - w).max() <= 0.5001 * scales[0]


def test_an_all_zero_channel_gets_scale_one_and_spoils_no_other():
    w = np.zeros((3, 4), dtype=np.float32)
    w[1] = 0.5
    codes, scales = symmetric_per_channel(w)
    assert scales[0] == scales[2] == 1
    assert codes.tolist() == [[0] * 4, [127] * 4, [0] * 4]


def test_a_vanishing_channel_gets_a_normal_scale():
    _, scales = symmetric_per_channel(wild(1e-44, -1e-45)[None, :])
    assert scales[0] == np.finfo(np.float32).tiny


@pytest.mark.parametrize("clip", ["max", "mse"])
def test_every_dtype_of_real_numbers_is_taken(clip):
    for dtype in (np.float16, np.float32, np.float64, np.int8):
        codes, _ = symmetric_per_channel(np.array([[1, -2]], dtype=dtype), clip=clip)
        assert codes[0, 1] == -127


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_mse_variant_is_never_worse_and_much_better_at_few_bits(bits):
    w = np.random.default_rng(2).laplace(size=(4, 3000)).astype(np.float32)

    def squares(clip):
        codes, scales = symmetric_per_channel(w, bits, clip=clip)
        assert np.abs(codes.astype(int)).max() <= 2 ** (bits - 1) - 1
        return np.square(codes * scales[:, None].astype(np.float64) - w).sum(axis=1)

    assert np.all(squares("mse") <= squares("max"))
    if bits <= 4:
        assert np.all(squares("mse") < 0.6 * squares("max"))


def test_the_mse_variant_finds_the_best_clip_of_a_fine_search():
    w = np.random.default_rng(4).normal(size=(1, 2000)).astype(np.float32)
    codes, scales = symmetric_per_channel(w, 4, clip="mse")
    ours = np.square(codes * scales[:, None] - w).sum()
    fine = min(
        np.square(np.clip(np.rint(w / s), -7, 7) * s - w).sum()
        for s in np.linspace(0.02, 1, 2000) * np.abs(w).max() / 7
    )
    assert ours <= 1.005 * fine


# --- hostile input -------------------------------------------------------------------------------------------------

CALLS = {
    "quantize": AffineMap(1.0, 0.5, 256).quantize,
    "error": AffineMap(1.0, 0.5, 256).error,
    "min_max": lambda w: min_max(w, 256),
    "mean_centred": lambda w: mean_centred(w, 256),
    "smallest_size": lambda w: smallest_size(w, max_error=0.1),
    "symmetric_per_channel": symmetric_per_channel,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_non_finite_weights_are_counted_and_the_first_is_named(call, bad):
    w = np.ones((2, 3))
    w[1, 0] = w[1, 2] = bad
    with pytest.raises(QuantizationError, match="2 of 6 values") as caught:
        call(w)
    assert "[1, 0]" in str(caught.value)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.array([True]), np.array([1j]), np.array(["1"]), np.array([None])])
def test_empty_arrays_and_arrays_of_other_things_are_refused(call, bad):
    with pytest.raises(InvalidInput):
        call(bad)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_not_positive_and_finite_is_refused(scale):
    with pytest.raises(QuantizationError, match="positive and finite"):
        AffineMap(scale, 0.5, 256)
    with pytest.raises(QuantizationError, match="positive and finite"):
        AffineMap.from_parameters(scale, 0)


@pytest.mark.parametrize("size", [1, 0, -5, 2**31 + 1])
def test_a_size_below_two_or_beyond_int32_is_refused(size):
    with pytest.raises(InvalidInput, match=r"2\.\.2\*\*31"):
        AffineMap(1.0, 0.5, size)


def test_an_unknown_overflow_is_refused():
    with pytest.raises(InvalidInput, match="overflow"):
        AffineMap(1.0, 0.5, 256, "clamp")


@pytest.mark.parametrize("offset", [math.nan, math.inf, 2.0**45])
def test_an_offset_that_leaves_no_exact_codes_is_refused(offset):
    with pytest.raises(QuantizationError, match="no exact codes"):
        AffineMap(1.0, offset, 256)


def test_values_nearly_constant_beyond_float64_are_refused_instead_of_mapped_to_noise():
    with pytest.raises(QuantizationError, match="no exact codes"):
        min_max(np.array([1.0, 1.0 + 1e-15]), 256)


def test_the_closest_two_float32_values_are_still_told_apart():
    w = np.array([1.0, np.nextafter(np.float32(1), np.float32(2))], dtype=np.float32)
    assert min_max(w, 2**16).quantize(w).tolist() == [0, 2**16 - 1]


def test_huge_values_saturate_and_refuse_to_wrap():
    w = wild(3e38, -3e38)
    assert AffineMap(1e300, 128.5, 256).quantize(w).tolist() == [255, 0]
    with pytest.raises(QuantizationError, match="wrap"):
        AffineMap(1e300, 128.5, 256, "wrap").quantize(w)


@pytest.mark.parametrize("codes", [np.array([256]), np.array([-1]), np.array([1.0])])
def test_codes_outside_the_map_are_refused(codes):
    with pytest.raises(InvalidInput):
        AffineMap(1.0, 0.5, 256).dequantize(codes)


@pytest.mark.parametrize("options", [{"bits": 1}, {"bits": 9}, {"axis": 2}, {"axis": -3}, {"clip": "best"}])
def test_options_of_the_weight_quantizer_that_do_not_exist_are_refused(options):
    with pytest.raises(InvalidInput):
        symmetric_per_channel(np.ones((2, 2)), **options)


def test_a_scalar_has_no_channels():
    with pytest.raises(InvalidInput, match="axis"):
        symmetric_per_channel(np.float32(3))
