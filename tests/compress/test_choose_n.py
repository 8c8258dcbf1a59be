"""n for each layer: the budget is met, sensitive layers keep more, and impossible budgets are refused."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.prune.choose_n import CANDIDATES, choose_n, n_of_m_errors
from penjing.core.errors import InvalidInput, PruningError
from penjing.testing.networks import batches, edge_cnn

CURVE = {8: 0.01, 4: 0.05, 2: 0.2, 1: 0.5}


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.tuples(st.integers(1, 1000), st.floats(0.1, 10)),
        min_size=1,
    ),
    st.floats(0.0625, 1),
)
def test_the_average_density_is_met_and_nothing_more_is_given_up_than_one_step(layers, density):
    errors = {name: {n: scale * e for n, e in CURVE.items()} for name, (_, scale) in layers.items()}
    sizes = {name: size for name, (size, _) in layers.items()}
    chosen = choose_n(errors, sizes, density)
    total = sum(sizes.values())
    used = sum(sizes[name] * n / 16 for name, n in chosen.items())
    assert used <= density * total * (1 + 1e-9)
    one_step = max(sizes[name] * (8 - 1) / 16 for name in sizes)
    assert used >= min(0.5, density) * total - one_step - 1e-9


def test_the_layer_that_bears_it_gives_more():
    errors = {"hard": {n: 10 * e for n, e in CURVE.items()}, "easy": CURVE}
    chosen = choose_n(errors, {"hard": 100, "easy": 100}, 0.25)
    assert chosen["hard"] > chosen["easy"]
    # at the same error, a layer with more to save goes first
    assert choose_n({"big": CURVE, "small": CURVE}, {"big": 1000, "small": 10}, 0.3) == {"big": 4, "small": 8}


def test_layers_without_errors_count_as_dense():
    assert choose_n({"a": CURVE}, {"a": 100, "dense": 10}, 0.25) == {"a": 2}
    with pytest.raises(PruningError, match=r"density of 0.5 cannot be met: .* leaves 0.5312"):
        choose_n({"a": CURVE}, {"a": 100, "dense": 100}, 0.5)


@pytest.mark.parametrize("density", [0.0, -1.0, 1.5, float("nan")])
def test_a_density_outside_its_range_is_refused(density):
    with pytest.raises(PruningError, match="density"):
        choose_n({"a": CURVE}, {"a": 100}, density)


@pytest.mark.parametrize(
    ("errors", "sizes"),
    [({}, {}), ({"a": {}}, {"a": 1}), ({"a": CURVE}, {}), ({"a": {17: 0.1}}, {"a": 1}), ({"a": {4: np.nan}}, {"a": 1})],
)
def test_bad_tables_are_refused(errors, sizes):
    with pytest.raises(InvalidInput):
        choose_n(errors, sizes, 0.5)


def test_errors_are_of_layers_that_gain_and_grow_as_less_stays():
    graph = edge_cnn()
    inputs = collect_layer_inputs(graph, batches(graph, 24))
    errors = n_of_m_errors(graph, {name: seen for name, seen in inputs.items() if name != "fc1.weight"})
    assert set(errors) == {"conv2.weight"}
    values = [errors["conv2.weight"][n] for n in sorted(CANDIDATES)]
    assert all(a > b > 0 for a, b in pairwise(values)) and values[0] < 1
