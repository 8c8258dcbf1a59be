"""Pruning masks by threshold and by ratio."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penjing.compress.prune.magnitude import (
    global_ratio_masks,
    lamp_masks,
    lamp_scores,
    ratio_mask,
    sparsity,
    threshold_mask,
)
from penjing.core.errors import InvalidInput, PruningError

CALLS = {
    "threshold": lambda w: threshold_mask(w, 0.1, "fc1"),
    "ratio": lambda w: ratio_mask(w, 0.5, "fc1"),
    "global": lambda w: global_ratio_masks({"fc1": w}, 0.5)["fc1"],
}


def test_a_magnitude_equal_to_the_threshold_stays():
    w = np.array([-0.5, -0.25, 0.0, 0.25, 0.49, 0.5], dtype=np.float32)
    assert threshold_mask(w, 0.5).tolist() == [True, False, False, False, False, True]


def test_the_comparison_is_exact_even_where_the_threshold_is_no_float32():
    w = np.array([0.7, 0.3, 1.0], dtype=np.float32)  # float32(0.7) < 0.7 and float32(0.3) > 0.3
    assert threshold_mask(w, 0.7).tolist() == [False, False, True]
    assert threshold_mask(w, 0.3).tolist() == [True, True, True]


def test_a_threshold_of_zero_keeps_everything():
    assert threshold_mask(np.zeros((2, 2)), 0.0).all()


def test_a_threshold_above_every_weight_is_refused_with_the_name_and_the_largest_weight():
    with pytest.raises(PruningError, match=r"all 6 weights; the largest is 0\.25") as caught:
        threshold_mask(np.full((2, 3), -0.25), 0.3, "fc1.weight")
    assert "fc1.weight" in str(caught.value)


@pytest.mark.parametrize("threshold", [-0.1, math.nan, math.inf])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(PruningError, match="threshold"):
        threshold_mask(np.ones(3), threshold)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=6), elements=st.integers(-3, 3)),
    st.integers(0, 99),
)
def test_a_ratio_removes_exactly_its_share_and_only_the_smallest(w, percent):
    mask = ratio_mask(w, percent / 100)
    assert mask.shape == w.shape
    assert int((~mask).sum()) == percent * w.size // 100
    if not mask.all():
        assert np.abs(w)[~mask].max() <= np.abs(w)[mask].min()


@pytest.mark.parametrize(("ratio", "n", "pruned"), [(0.29, 100, 29), (0.7, 10, 7), (0.999, 10, 9), (0.0, 5, 0)])
def test_the_ratio_means_what_is_written(ratio, n, pruned):
    assert int((~ratio_mask(np.arange(1.0, n + 1), ratio)).sum()) == pruned


def test_of_equal_magnitudes_the_first_goes_first():
    assert ratio_mask(np.array([1.0, -1.0, 1.0, 0.5, -1.0]), 0.6).tolist() == [False, False, True, False, True]


def test_a_global_ratio_takes_from_the_tensor_with_the_smaller_weights():
    masks = global_ratio_masks({"big": np.full(4, 2.0), "small": np.array([[0.1, 3.0], [0.2, 0.3]])}, 0.375)
    assert masks["big"].all()
    assert masks["small"].tolist() == [[False, True], [False, False]]


def test_ties_between_tensors_fall_in_the_order_given():
    a, b = np.ones(2), np.ones(2)
    masks = global_ratio_masks({"a": a, "b": b}, 0.25)
    assert (masks["a"].tolist(), masks["b"].tolist()) == ([False, True], [True, True])


def test_a_tensor_that_would_lose_everything_is_named():
    with pytest.raises(PruningError, match="all 3 weights") as caught:
        global_ratio_masks({"fc1": np.ones(7), "fc2": np.full(3, 0.01)}, 0.5)
    assert "at   fc2" in str(caught.value)


@pytest.mark.parametrize("ratio", [1.0, -0.1, math.nan, math.inf, 2])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    with pytest.raises(PruningError, match="ratio"):
        ratio_mask(np.ones(3), ratio)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_weights_are_refused_with_name_and_place(call, bad):
    w = np.ones((2, 2))
    w[1, 0] = bad
    with pytest.raises(PruningError, match=r"1 of 4 weights .* \[1, 0\]") as caught:
        call(w)
    assert "fc1" in str(caught.value)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("bad", [np.zeros((0, 2)), np.array([True]), np.array(["a"]), np.array([1j])])
def test_empty_tensors_and_tensors_of_other_things_are_refused(call, bad):
    with pytest.raises(InvalidInput):
        call(bad)


def test_no_tensors_are_refused():
    with pytest.raises(InvalidInput, match="no tensors"):
        global_ratio_masks({}, 0.5)


def test_the_lowest_integer_has_a_magnitude():
    assert threshold_mask(np.array([-128, 1], dtype=np.int8), 100).tolist() == [True, False]


def test_sparsity_counts_exact_zeros():
    assert sparsity(np.array([0.0, -0.0, 1e-45, 1.0], dtype=np.float32)) == 0.5
    with pytest.raises(InvalidInput):
        sparsity(np.zeros(0))


def test_lamp_scores_are_shares_of_what_is_at_least_as_large():
    w = np.array([[3.0, -1.0], [0.0, 2.0]], dtype=np.float32)
    np.testing.assert_allclose(lamp_scores(w), [[1, 1 / 14], [0, 4 / 13]])
    np.testing.assert_array_equal(lamp_scores(1024 * w), lamp_scores(w))
    assert not lamp_scores(np.zeros(3)).any()


def test_lamp_masks_take_no_layer_whole_however_small_its_weights():
    rng = np.random.default_rng(0)
    tensors = {"small": 1e-6 * rng.normal(size=100), "large": rng.normal(size=(30, 30))}
    masks = lamp_masks(tensors, 0.02)
    assert sum(int(mask.sum()) for mask in masks.values()) == 20
    assert masks["small"].any() and masks["large"].any()
    assert not global_ratio_masks({"large": tensors["large"]}, 0.99)["large"].all()
    with pytest.raises(PruningError, match="ratio"):
        lamp_masks(tensors, 1.5)
