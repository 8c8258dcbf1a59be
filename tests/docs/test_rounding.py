"""The page on learned rounding, run as a reader would."""

import pytest


@pytest.mark.slow
def test_the_page_on_learned_rounding_prints_what_it_shows(run_page):
    names = run_page("docs/howto/rounding.md").names
    assert names["error"] < 0.1
