"""The page on quantization: its code runs as shown, and what it makes is what the page says."""

import numpy as np
import pytest

from penjing.ir.grid import grid_codes


@pytest.mark.slow
def test_the_page_runs_and_keeps_its_budget_of_bits(run_page):
    names = run_page("docs/howto/quantizing.md").names
    bits, inputs = names["bits"], names["inputs"]
    assert bits.keys() == inputs.keys()
    weights = {"0.weight.folded": 72, "3.weight": 1152, "6.weight": 5760}
    assert sum(weights[name] * b for name, b in bits.items()) <= 4 * sum(weights.values())
    assert np.abs(grid_codes(names["rounded"].constants["6.weight"])).max() == 127  # 8 bits, without data
