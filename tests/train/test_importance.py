"""Taylor importances: (w * gradient)^2, summed over batches, compared with gradients by hand and by differences."""

import numpy as np
import pytest

from penjing.compress.prune.prune_n_of_m import PruneNOfM
from penjing.core.errors import InvalidInput
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant, Encoding
from penjing.testing.networks import Network, edge_cnn
from penjing.train.importance import taylor_importance


def data(n: int = 12, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 1, 32, 32)).astype(np.float32), rng.integers(0, classes, n)


def squares(_x, output, target):
    return ((output - target) ** 2).sum(1).mean()


def test_a_linear_layer_gives_what_the_formula_says():
    net = Network()
    graph = net.done(net.linear(net.input(3), 2, out="fc"))
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(6, n)).astype(np.float32) for n in (3, 2))
    got = taylor_importance(graph, (x, y), squares, batch_size=4)
    w, b = (graph.constants[f"fc.{part}"].array for part in ("weight", "bias"))
    wanted = np.zeros((2, 3))
    for part in (slice(0, 4), slice(4, 6)):
        apart = x[part] @ w.T + b - y[part]
        wanted += np.square(w * (2 * apart.T @ x[part] / len(apart)))
    np.testing.assert_allclose(got["fc.weight"], wanted, rtol=1e-4)
    assert set(got) == {"fc.weight"}


def test_batches_limit_what_is_looked_at_and_the_graph_stays():
    graph = edge_cnn()
    before = {name: constant.array for name, constant in graph.constants.items()}
    x, y = data()
    some = taylor_importance(graph, (x, y), batch_size=4, batches=2)
    same = taylor_importance(graph, (x[:8], y[:8]), batch_size=4)
    for name, values in some.items():
        assert values.shape == graph.constants[name].array.shape and (values >= 0).all() and values.any()
        np.testing.assert_array_equal(values, same[name])
    assert all(graph.constants[name].array is array for name, array in before.items())


def test_weights_that_are_zero_do_not_matter_and_passes_take_the_importances():
    graph = edge_cnn()
    array = graph.constants["conv2.weight"].array.copy()
    array[3] = 0
    graph.set_constant("conv2.weight", Constant(array))
    found = taylor_importance(graph, data(), batch_size=6)
    assert not found["conv2.weight"][3].any()
    got, (log,) = run_passes(graph, [PruneNOfM(4, importance=found)])
    kept = got.constants["conv2.weight"].array != 0
    assert found["conv2.weight"][kept].mean() > 2 * found["conv2.weight"][~kept].mean()
    assert log.changed


def test_values_that_a_codebook_shares_matter_each_for_itself():
    graph = edge_cnn()
    coarse = np.sign(graph.constants["conv2.weight"].array) / 8
    graph.set_constant("conv2.weight", Constant(coarse))
    plain = taylor_importance(graph, data(), batch_size=6)
    graph.set_constant("conv2.weight", Constant(coarse, Encoding.CODEBOOK))
    np.testing.assert_allclose(taylor_importance(graph, data(), batch_size=6)["conv2.weight"], plain["conv2.weight"])


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batches": 0}])
def test_no_batch_is_refused(options):
    with pytest.raises(InvalidInput, match="batches"):
        taylor_importance(edge_cnn(), data(), **options)


def test_spoilt_data_and_losses_are_refused():
    x, y = data()
    x[0, 0, 0, 0] = np.nan
    with pytest.raises(InvalidInput, match="NaN"):
        taylor_importance(edge_cnn(), (x, y))
    with pytest.raises(InvalidInput, match="a gradient is NaN or infinite"):
        taylor_importance(edge_cnn(), data(), lambda x, output, target: output.sum() * float("nan"))
