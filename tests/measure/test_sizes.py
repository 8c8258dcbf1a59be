"""Bytes and ratios as text."""

import math

import pytest

from penjing.core.errors import InvalidInput
from penjing.measure.sizes import bytes_text, ratio_text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (96 * 2**20, "96.0 MiB"),
        (5 * 2**30, "5.0 GiB"),
        (3 * 2**50, "3072.0 TiB"),
    ],
)
def test_bytes_are_written_in_powers_of_1024(n_bytes, text):
    assert bytes_text(n_bytes) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (400, 100, "4.00x smaller"),
        (100, 125, "1.25x larger"),
        (1234, 100, "12.3x smaller"),
        (12345, 100, "123x smaller"),
        (100, 100, "the same"),
        (1000, 1001, "the same"),
    ],
)
def test_ratios_say_their_direction(before, after, text):
    assert ratio_text(before, after) == text


def test_ratios_of_times_use_their_own_words():
    assert ratio_text(90, 30, "faster", "slower") == "3.00x faster"
    assert ratio_text(30, 90, "faster", "slower") == "3.00x slower"


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf])
def test_a_ratio_of_nothing_is_refused(bad):
    with pytest.raises(InvalidInput):
        ratio_text(bad, 1)
    with pytest.raises(InvalidInput):
        ratio_text(1, bad)


def test_a_negative_size_is_refused():
    with pytest.raises(InvalidInput):
        bytes_text(-1)
