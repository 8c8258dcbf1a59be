"""Passes that promise the same function keep it on networks of any wiring, and leave the graph given as it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing.compress.share.tie_filters import TieFilters
from penjing.compress.share.tie_layers import TieLayers
from penjing.compress.structure.merge_branches import MergeBranches
from penjing.compress.structure.merge_layers import MergeLayers
from penjing.ir.passes import run_passes
from penjing.ir.text import print_graph
from penjing.ops.evaluate import evaluate
from penjing.testing.random_graphs import float_graphs

LINEAR = ("conv2d", "conv2d", "conv1d", "linear", "add", "sub", "mul", "batch_norm", "relu")
PASSES = (MergeLayers(), MergeLayers(force=True), MergeBranches(force=True), TieFilters(), TieLayers())


@pytest.mark.parametrize("passes", [PASSES, tuple(reversed(PASSES))])
@settings(max_examples=25, deadline=None)
@given(drawn=st.one_of(float_graphs(names=LINEAR, max_layers=8), float_graphs(max_layers=8)))
def test_a_random_network_stays_the_same_function(passes, drawn):
    graph, text = drawn.graph, print_graph(drawn.graph)
    got, _ = run_passes(graph, passes)
    assert print_graph(graph) == text
    peaks = [1e-3]
    with np.errstate(all="ignore"):  # some constants are as large as float32 gets
        want = evaluate(graph, *drawn.batch, watch=lambda name, array: peaks.append(float(np.abs(array).max())))
        outputs = evaluate(got, *drawn.batch)
    if not np.isfinite(peaks).all():
        return
    for y, expected in zip(outputs, want, strict=True):
        # values far above the output may have cancelled out on the way to it
        np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4 * max(peaks))
