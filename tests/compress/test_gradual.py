"""Masks that tighten: they end in their pattern, and what is gone stays gone."""

import numpy as np
import pytest

from penjing.compress.prune.gradual import loosened, masks_by_density
from penjing.compress.prune.patterns import Anywhere, Blocks, NOfM
from penjing.core.cubic import cubic
from penjing.core.errors import InvalidInput, PruningError

PATTERNS = [NOfM(4, 16), NOfM(1, 3), Blocks(0.7, 2, 4), Anywhere(0.9), Anywhere(0.29)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_masks_begin_whole_tighten_and_end_in_the_pattern(pattern):
    w = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    masks = masks_by_density({"w": pattern}, 0.75)
    kept = w
    counts = []
    for step in range(21):
        mask = masks({"w": kept, "other": w}, 1 - cubic(step, 2, 12, 0.0, 0.75))["w"]
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
    mask = masks_by_density({"w": NOfM(1, 4)}, 0.75, {"w": (2, 4, 16)})({"w": w}, 0.25)["w"]
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
    with pytest.raises(InvalidInput, match="missing: w"):
        masks_by_density({"w": NOfM(4, 16)}, 0.75)({}, 0.5)

    class Strange:
        mask = NOfM(1, 4).mask

    with pytest.raises(PruningError, match="not known how"):
        masks_by_density({"w": Strange()}, 0.75)({"w": np.ones((1, 16))}, 0.5)
