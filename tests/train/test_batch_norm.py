"""Statistics measured anew: those of the whole stream, however it is cut into batches."""

import numpy as np
import pytest
import torch

from penjing.core.errors import CalibrationError
from penjing.ir.graph import Graph
from penjing.ir.text import print_graph
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.relu import Relu
from penjing.testing.networks import Network, edge_cnn
from penjing.train.batch_norm import reestimate_batch_norm
from penjing.train.module import trainable


def normed(depth: int = 1) -> Graph:
    net = Network()
    x = net.input(3, 6, 6)
    for i in range(depth):
        statistics = [net.constant(f"{name}{i}", np.full(3, v)) for name, v in (("mean", 0.5), ("var", 2.0))]
        x = net.node(BatchNorm(), net.conv(x, 3, out=f"conv{i}"), "", "", *statistics, out=f"bn{i}")
        x = net.node(Relu(), x, out=f"relu{i}")
    return net.done(x)


def images(n: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, 3, 6, 6)) + 2).astype(np.float32)


@pytest.mark.parametrize("cuts", [(12,), (5, 7), (1, 3, 8)])
def test_the_first_norm_gets_the_moments_of_the_whole_stream(cuts):
    graph = normed()
    batches = np.split(images(12), np.cumsum(cuts)[:-1])
    got = reestimate_batch_norm(graph, batches).constants
    weight, bias = (torch.tensor(graph.constants[f"conv0.{key}"].array) for key in ("weight", "bias"))
    y = torch.nn.functional.conv2d(torch.tensor(images(12)), weight, bias, padding=1).movedim(1, -1).reshape(-1, 3)
    np.testing.assert_allclose(got["mean0"].array, y.mean(0), rtol=1e-5)
    np.testing.assert_allclose(got["var0"].array, y.var(0), rtol=1e-5)


def test_a_network_then_computes_what_it_does_with_that_batch_alone():
    module = trainable(normed(3), batch_norm="train").train()
    x = torch.tensor(images(64))
    with torch.no_grad():
        want = module(x)
    reestimate_batch_norm(module, [images(64)])
    assert module.training and module.batch_norm == "train"
    with torch.no_grad():
        got = module.eval()(x)
    # the unbiased variance is larger by a factor of 1 + 1 / (64 * 36)
    torch.testing.assert_close(got, want, rtol=2e-3, atol=2e-3)


def test_a_frozen_module_stays_frozen_and_a_graph_as_it_was():
    graph = normed(2)
    before = print_graph(graph)
    module = trainable(graph).eval()
    reestimate_batch_norm(module, [images(8)])
    assert not module.training and module.batch_norm == "frozen"
    got = reestimate_batch_norm(graph, [images(8)])
    assert print_graph(graph) == before != print_graph(got) == print_graph(module.to_graph())


def test_a_graph_without_norms_is_left_alone():
    graph = edge_cnn()
    assert print_graph(reestimate_batch_norm(graph, [])) == print_graph(graph)


def test_bad_calibration_data_is_refused_and_changes_nothing():
    single = Network()
    statistics = [single.constant(name, np.ones(4)) for name in ("mean", "var")]
    flat = single.done(
        single.node(BatchNorm(), single.linear(single.input(2), 4, out="fc"), "", "", *statistics, out="y")
    )
    for graph, batches, named in [
        (normed(2), [], "empty"),
        (normed(2), [images(4), np.full((4, 3, 6, 6), np.nan, np.float32)], "NaN"),
        (flat, [np.ones((1, 2), np.float32)], "by itself"),
    ]:
        module = trainable(graph)
        with pytest.raises(CalibrationError, match=named):
            reestimate_batch_norm(module, batches)
        assert print_graph(module.to_graph()) == print_graph(graph)
