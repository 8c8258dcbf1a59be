"""The how-to on smaller structure: its code runs, prints what it shows, and the program holds codebooks."""

import numpy as np
import pytest


@pytest.mark.slow
def test_the_page_shrinks_a_network_as_it_says(run_page):
    names = run_page("docs/howto/shrinking.md").names
    assert names["accuracy"](names["graph"]) > 90
    codes = [c.array for c in names["program"].constants.values() if c.array.dtype == np.int8]
    assert codes and all(np.unique(array).size <= 16 for array in codes)
