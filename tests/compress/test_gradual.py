"""Masks that tighten: the cubic schedule, and that what is gone stays gone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.compress.prune.gradual import cubic_density, gradual_masks, loosened, masks_by_density
from penjing.compress.prune.patterns import Anywhere, Blocks, NOfM
from penjing.core.errors import InvalidInput, PruningError

PATTERNS = [NOfM(4, 16), NOfM(1, 3), Blocks(0.7, 2, 4), Anywhere(0.9), Anywhere(0.29)]


@given(st.floats(0, 1), st.floats(0.01, 1), st.floats(0, 1), st.floats(0.001, 1))
def test_the_schedule_goes_from_first_to_last_and_never_back(begin, length, at, final):
    end, initial = begin + length, max(final, 0.9)
    step = begin + at * length
    now = cubic_density(step, begin, end, initial, final)
    assert final <= now * (1 + 1e-12) and now <= initial
    assert cubic_density(step + 0.01, begin, end, initial, final) <= now * (1 + 1e-12)
    assert cubic_density(begin - 1, begin, end, initial, final) == pytest.approx(initial)
    assert cubic_density(end, begin, end, initial, final) == final


def test_half_way_an_eighth_of_the_zeros_is_still_to_come():
    assert cubic_density(50, 0, 100, 1.0, 0.2) == pytest.approx(0.2 + 0.8 / 8)


@pytest.mark.parametrize(
    "bad",
    [(0, 2, 1, 1, 0.5), (0, 0, 1, 0.5, 0.6), (0, 0, 1, 1, -0.1), (0, 0, 1, 1.5, 0.5), (float("nan"), 0, 1, 1, 0.5)],
)
def test_schedules_that_make_no_sense_are_refused(bad):
    with pytest.raises(InvalidInput):
        cubic_density(*bad)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_masks_begin_whole_tighten_and_end_in_the_pattern(pattern):
    w = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    masks = gradual_masks({"w": pattern}, begin=0.1, end=0.6)
    kept = w
    counts = []
    for progress in np.linspace(0, 1, 21):
        mask = masks({"w": kept, "other": w}, float(progress))["w"]
        counts.append(int(mask.sum()))
        assert not mask[kept == 0].any()
        kept = np.where(mask, kept, np.float32(0))
    assert counts[0] == counts[2] == w.size and counts == sorted(counts, reverse=True)
    assert counts[12] == counts[-1] == pattern.mask(w).sum()
    np.testing.assert_array_equal(kept != 0, pattern.mask(w))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_all_the_way_is_the_pattern_itself(pattern):
    assert loosened(pattern, 1.0) == pattern and loosened(pattern, 0.0).mask(np.ones((3, 5), np.float32)).all()


def test_groups_of_a_flattened_layer_are_found_in_its_view():
    w = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
    mask = gradual_masks({"w": NOfM(1, 4)}, {"w": (2, 4, 16)})({"w": w}, 1.0)["w"]
    assert (mask.reshape(2, 4, 16).sum(axis=1) == 1).all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_schedule_elsewhere_leads_to_the_pattern_whatever_share_it_ends_at(pattern):
    w = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    masks = masks_by_density({"w": pattern}, 0.75)
    counts = [int(masks({"w": w}, density)["w"].sum()) for density in (1.0, 0.75, 0.5, 0.25)]
    assert counts[0] == w.size and counts == sorted(counts, reverse=True)
    assert counts[-1] == pattern.mask(w).sum()
    with pytest.raises(PruningError):
        masks_by_density({"w": pattern}, 1.0)


def test_bad_calls_are_refused():
    with pytest.raises(InvalidInput):
        gradual_masks({}, begin=0.6, end=0.5)
    masks = gradual_masks({"w": NOfM(4, 16)})
    with pytest.raises(InvalidInput, match="progress"):
        masks({"w": np.ones((1, 16))}, 1.1)
    with pytest.raises(InvalidInput, match="missing: w"):
        masks({}, 0.5)

    class Strange:
        mask = NOfM(1, 4).mask

    with pytest.raises(PruningError, match="not known how"):
        gradual_masks({"w": Strange()})({"w": np.ones((1, 16))}, 0.25)
