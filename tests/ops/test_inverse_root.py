"""The root that norms divide by: exact digits, within its stated bound, for every radicand."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penjing.core.errors import InvalidGraph
from penjing.ops.inverse_root import LIMIT, check_radicand, inverse_root, radicand
from penjing.ops.layer_norm import LayerNorm

MOST_ELEMENTS = (2**31 - 1) // 255


@given(st.integers(0, LIMIT - 1))
@example(0)
@example(2**60 - 1)
@example(LIMIT - 1)
@example((2**31 - 1) ** 2)
@example((2**31 - 1) ** 2 - 1)
def test_an_inverse_root_is_its_definition(w: int) -> None:
    (found,) = inverse_root(np.array([w], np.int64), 0, 0)
    w, h = max(w, 1), 0
    while w << 2 * h < 2**60:
        h += 1
    assert found == np.float32(2**h) / np.float32(math.isqrt(w << 2 * h))
    # of its square: twice the roundings of the root to 31 bits, of that to a float, and of the quotient
    assert abs(Fraction(float(found)) ** 2 * w - 1) < Fraction(2, 2**30) + Fraction(2, 2**24) * 2


@given(st.floats(0, 1e30), st.integers(2, MOST_ELEMENTS))
def test_a_radicand_fits_and_its_eps_is_fine(eps: float, n: int) -> None:
    largest = (255 * n) ** 2 // 4
    found = radicand(eps, largest)
    check_radicand(found.shift, found.eps, largest)
    assert largest * Fraction(2) ** found.shift + found.eps < LIMIT
    # the least that is normalized, one code that differs from the others, is off by little
    exact = n - 1 + Fraction(eps)
    kept = math.floor((n - 1) * Fraction(2) ** found.shift) + found.eps
    assert abs(kept / Fraction(2) ** found.shift / exact - 1) <= Fraction(1, 2**22)
    assert found.factor**2 == pytest.approx(2.0**found.shift)


def test_the_longest_row_has_a_radicand_and_a_longer_one_is_refused() -> None:
    largest = (255 * MOST_ELEMENTS) ** 2 // 4
    assert radicand(0.0, largest).shift >= 0
    with pytest.raises(InvalidGraph, match="radicand"):
        check_radicand(3, 0, largest)


def test_a_row_without_variance_becomes_beta() -> None:
    beta = np.array([1, -2, 3], np.float32)
    (y,) = LayerNorm(1).float_reference(np.full((2, 3), 7, np.float32), None, beta)
    np.testing.assert_array_equal(y, [beta, beta])
