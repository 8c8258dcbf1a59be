"""The schedule of gradual pruning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.core.cubic import cubic


@given(st.floats(0, 1), st.floats(0.01, 1), st.floats(0, 1), st.floats(0.001, 1))
def test_the_schedule_goes_from_first_to_last_and_never_back(begin, length, at, final):
    end, initial = begin + length, max(final, 0.9)
    step = begin + at * length
    now = cubic(step, begin, end, initial, final)
    assert final <= now * (1 + 1e-12) and now <= initial * (1 + 1e-12)
    assert cubic(step + 0.01, begin, end, initial, final) <= now * (1 + 1e-12)
    assert cubic(begin - 1, begin, end, initial, final) == initial
    assert cubic(end, begin, end, initial, final) == final


def test_half_way_an_eighth_is_still_to_come():
    assert cubic(50, 0, 100, 1.0, 0.2) == pytest.approx(0.2 + 0.8 / 8)
    assert cubic(50, 0, 100, 0.0, 1.0) == pytest.approx(1 - 1 / 8)


def test_a_schedule_without_length_is_a_step():
    assert [cubic(step, 3, 3, 0.1, 0.9) for step in (2, 3, 4)] == [0.1, 0.9, 0.9]
