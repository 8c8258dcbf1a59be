"""The how-to on pruning: its example prints what the page shows, and compensation is worth what the page says."""

import pytest


@pytest.mark.slow
def test_the_example_prunes_with_little_loss(run_page):
    pytest.importorskip("sklearn")
    names = run_page("docs/howto/pruning.md").names
    dense, pruned, plain = (names["accuracy"](names[name]) for name in ("graph", "pruned", "by_magnitude"))
    assert pruned > dense - 0.03
    assert plain < pruned
