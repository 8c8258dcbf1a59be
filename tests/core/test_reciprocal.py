"""Quantizing by an inverse in two parts gives the codes of the division, or is not offered."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.core.reciprocal import FARTHEST, rounds_alike, two_part_inverse

TINY = float(np.finfo(np.float32).tiny)
scales = st.floats(TINY, 2.0**70, width=32, allow_subnormal=False)


def float32(value: Fraction) -> Fraction:
    """The float32 nearest to `value`, ties to even; the value must stay finite."""
    if value == 0:
        return Fraction(0)
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    if abs(value) < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** max(exponent - 23, -149)
    return round(value / step) * step


def by_parts(x: float, inverse: float, rest: float) -> int:
    return round(float32(Fraction(x) * Fraction(inverse) + float32(Fraction(x) * Fraction(rest))))


def clamped(steps: int) -> int:
    return min(max(steps, -255), 255)


@given(scale=scales, tie=st.integers(-300, 299), beside=st.integers(-6, 6), anywhere=st.floats(-1, 1, width=32))
def test_the_parts_give_the_codes_of_the_division(scale, tie, beside, anywhere):
    parts = two_part_inverse(np.float32(scale))
    assert parts is not None
    near = np.float32((tie + 0.5) * scale)
    for _ in range(abs(beside)):
        near = np.nextafter(near, np.float32(np.copysign(np.inf, beside)))
    for x in (float(near), float(np.float32(FARTHEST * anywhere) * np.float32(scale))):
        wanted = round(float32(Fraction(x) / Fraction(scale)))
        assert clamped(by_parts(x, *parts)) == clamped(wanted)


@pytest.mark.parametrize("scale", [0.1, 1 / 3, 0.0123, 0.7])
def test_parts_that_are_not_the_inverse_are_told(scale):
    scale = np.float32(scale)
    inverse, rest = two_part_inverse(scale)
    beside = float(np.nextafter(np.float32(inverse), np.float32(np.inf)))
    for wrong in ((inverse, 0.0), (inverse, -rest), (inverse, rest / 4), (beside, rest), (inverse / 2, rest)):
        assert not rounds_alike(scale, *wrong)
    assert rounds_alike(scale, inverse, rest)


@pytest.mark.parametrize("scale", [2.0**119, 3e38, 1.1 * 2.0**105])
def test_scales_whose_parts_or_limits_are_no_normal_numbers_keep_the_division(scale):
    assert two_part_inverse(np.float32(scale)) is None


@pytest.mark.parametrize("scale", [TINY, 2.0**-10, 1.0, 2.0**100])
def test_powers_of_two_have_no_rest(scale):
    assert two_part_inverse(np.float32(scale)) == (1 / scale, 0.0)
