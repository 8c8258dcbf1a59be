"""Masks of the patterns that kernels run: how many weights stay, which, and in which groups."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from penjing.compress.prune.patterns import (
    Anywhere,
    Blocks,
    NOfM,
    as_rows,
    block_masks,
    from_rows,
    kept_energy,
    n_of_m_mask,
    parse_pattern,
)
from penjing.core.errors import InvalidInput, PenjingError, PruningError

SHAPES = st.one_of(
    st.tuples(st.integers(1, 6), st.integers(1, 40)),
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3)),
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3)),
)


@st.composite
def weights(draw, elements=None):
    elements = st.floats(-4, 4, width=32) if elements is None else elements
    return draw(arrays.arrays(np.float32, draw(SHAPES), elements=elements))


def groups_of(values: np.ndarray, m: int) -> list[np.ndarray]:
    """(O, size) for each group: as the kernel's rows are cut, written out anew."""
    if values.ndim == 4:
        rows = [np.moveaxis(values[:, :, y], 1, -1).reshape(len(values), -1) for y in range(values.shape[2])]
    else:
        rows = [np.moveaxis(values, 1, -1).reshape(len(values), -1)]
    return [row[:, at : at + m] for row in rows for at in range(0, row.shape[1], m)]


@given(weights(), st.integers(1, 20), st.data())
def test_of_every_m_weights_in_a_row_the_n_largest_stay(w, m, data):
    n = data.draw(st.integers(1, m))
    mask = n_of_m_mask(w, n, m)
    assert mask.shape == w.shape and mask.dtype == np.bool_
    for kept, values in zip(groups_of(mask, m), groups_of(np.abs(w), m), strict=True):
        most = math.ceil(n * values.shape[1] / m)
        for keep, size in zip(kept, values, strict=True):
            assert keep.sum() == min(most, np.count_nonzero(size))
            assert size[keep].min(initial=9) >= size[~keep].max(initial=0)


@given(weights(), st.integers(1, 5), st.integers(1, 5), st.floats(0, 0.99))
def test_blocks_stay_or_go_whole_and_the_share_that_goes_is_exact(w, height, width, ratio):
    w = np.where(w == 0, np.float32(1), w)
    mask = Blocks(ratio, height, width).mask(w)
    blocks = [
        (kept[top : top + height], values[top : top + height])
        for kept, values in zip(groups_of(mask, width), groups_of(w, width), strict=True)
        for top in range(0, len(w), height)
    ]
    assert all(kept.all() or not kept.any() for kept, _ in blocks)
    gone = [float(np.square(v.astype(np.float64)).sum()) for kept, v in blocks if not kept.any()]
    stay = [float(np.square(v.astype(np.float64)).sum()) for kept, v in blocks if kept.all()]
    assert len(gone) == math.floor(ratio * len(blocks))
    assert max(gone, default=0) <= min(stay) * (1 + 1e-9)


@given(
    weights(elements=st.sampled_from([0.0, 1.0, 2.0])), st.sampled_from([NOfM(2, 4), Blocks(0.5, 2, 2), Anywhere(0.3)])
)
def test_what_is_zero_already_never_stays(w, pattern):
    assert not pattern.mask(w)[w == 0].any()


@given(weights())
def test_rows_lead_back_to_the_weight(w):
    np.testing.assert_array_equal(from_rows(as_rows(w), w.shape), w)


def test_where_m_divides_the_channels_groups_are_of_channels_at_one_tap():
    w = np.random.default_rng(0).normal(size=(3, 32, 3, 3)).astype(np.float32)
    mask = n_of_m_mask(w, 4, 16)
    assert (mask.reshape(3, 2, 16, 3, 3).sum(axis=2) == 4).all()


def test_importance_decides_in_the_place_of_magnitude():
    w = np.array([[4.0, 3.0, 2.0, 1.0]], np.float32)
    importance = np.array([[1.0, 2.0, 3.0, 4.0]])
    assert NOfM(2, 4).mask(w, importance).tolist() == [[False, False, True, True]]
    assert Anywhere(0.5).mask(w, importance).tolist() == [[False, False, True, True]]
    assert Blocks(0.5, 1, 2).mask(w, importance).tolist() == [[False, False, True, True]]


def test_blocks_of_all_tensors_compete_and_none_may_vanish():
    big, small = np.full((4, 8), 2.0, np.float32), np.ones((4, 8), np.float32)
    small[:, :4] = 3.0
    masks = block_masks({"big": big, "small": small}, (4, 4), 0.25)
    assert masks["big"].all() and masks["small"].tolist() == [[True] * 4 + [False] * 4] * 4
    with pytest.raises(PruningError, match="removes every block") as caught:
        block_masks({"big": big, "small": np.ones((4, 8), np.float32)}, (4, 4), 0.5)
    assert caught.value.where == "small"
    with pytest.raises(InvalidInput, match="no tensors"):
        block_masks({}, (4, 4), 0.5)


def test_kept_energy_is_a_share_of_the_sum_of_squares():
    assert kept_energy(np.array([3.0, 4.0]), np.array([True, False])) == pytest.approx(9 / 25)
    assert kept_energy(np.zeros(3), np.zeros(3, np.bool_)) == 1.0


@pytest.mark.parametrize(
    "make", [lambda: NOfM(0, 4), lambda: NOfM(5, 4), lambda: Blocks(1.0), lambda: Blocks(0.5, 0, 4)]
)
def test_patterns_that_keep_nothing_or_do_not_exist_are_refused(make):
    with pytest.raises(PruningError):
        make()


@pytest.mark.parametrize(
    ("text", "ratio", "pattern"),
    [
        ("4:16", None, NOfM(4, 16)),
        ("16x4", 0.7, Blocks(0.7)),
        ("8x1", 0.5, Blocks(0.5, 8, 1)),
        ("unstructured", 0.9, Anywhere(0.9)),
        *((text, 0.5, None) for text in ("", "stripes", "4:", "4:16 ", "4x", "-4:16", "4:16x4", "12345:3", "4：16")),
    ],
)
def test_text_names_a_pattern(text, ratio, pattern):
    assert parse_pattern(text, ratio) == pattern


@pytest.mark.parametrize(
    ("text", "ratio", "what"),
    [
        ("4:16", 0.5, "says how many"),
        ("16x4", None, "needs a ratio"),
        ("unstructured", None, "needs a ratio"),
        ("0:16", None, "cannot stay"),
        ("0x4", 0.5, "do not exist"),
        ("16x4", 1.0, "must lie in"),
        ("unstructured", float("nan"), "must lie in"),
    ],
)
def test_text_for_a_pattern_that_cannot_be_is_refused(text, ratio, what):
    with pytest.raises(PenjingError, match=what):
        parse_pattern(text, ratio)


@pytest.mark.parametrize("pattern", [NOfM(2, 4), Blocks(0.5), Anywhere(0.5)])
def test_bad_weights_and_importances_are_refused(pattern):
    w = np.ones((2, 4), np.float32)
    with pytest.raises(PruningError, match="NaN"):
        pattern.mask(np.array([[np.nan, 1.0]], np.float32))
    with pytest.raises(InvalidInput, match="nothing to prune"):
        pattern.mask(np.ones((0, 4), np.float32))
    for bad in (np.ones((2, 3)), np.full((2, 4), -1.0), np.full((2, 4), np.nan)):
        with pytest.raises(InvalidInput, match="importance"):
            pattern.mask(w, bad)
    if not isinstance(pattern, Anywhere):
        with pytest.raises(InvalidInput, match="2, 3 or 4 axes"):
            pattern.mask(np.ones(4, np.float32))
