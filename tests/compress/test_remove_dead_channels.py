"""Channels without a part in the result go, and the network computes what it did."""

from functools import cache

import numpy as np
import pytest

from penjing import api
from penjing.compress.prune.remove_dead_channels import RemoveDeadChannels
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant
from penjing.ops.evaluate import evaluate

torch = pytest.importorskip("torch")
F = torch.nn.functional


class Net(torch.nn.Module):
    def __init__(self, padding: int = 0):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 8, 3)
        self.second = torch.nn.Conv2d(8, 6, 3, padding=padding, bias=False)
        self.third = torch.nn.Linear(6 * 9 if padding == 0 else 6 * 25, 10)
        self.last = torch.nn.Linear(10, 4)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.relu(self.second(x))
        x = torch.flatten(F.max_pool2d(x, 1), 1)
        return self.last(F.relu(self.third(x)))


SHAPE = (1, 12, 12)


@cache
def graph_of(padding: int = 0) -> Graph:
    torch.manual_seed(1)
    return api.capture(Net(padding).eval(), torch.zeros(2, *SHAPE))


def with_zeros(graph: Graph, **zeros: tuple[int, list[int]]) -> Graph:
    """`layer=(axis, indices)`: these slices of its weight are zero."""
    graph = graph.copy()
    for layer, (axis, indices) in zeros.items():
        w = graph.constants[f"{layer}.weight"].array.copy()
        np.moveaxis(w, axis, 0)[indices] = 0
        graph.set_constant(f"{layer}.weight", Constant(w))
    return graph


def removed(graph: Graph) -> tuple[Graph, dict[str, int], list[str]]:
    small, (log,) = run_passes(graph, [RemoveDeadChannels()])
    x = np.random.default_rng(0).normal(size=(5, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(evaluate(small, x)[0], evaluate(graph, x)[0], rtol=1e-5, atol=1e-5)
    counts = {remark.where: int(remark.text.split()[0]) for remark in log.changed}
    return small, counts, [f"{remark.where}: {remark.text}" for remark in log.declined]


def test_a_network_without_dead_channels_stays_whole():
    graph = graph_of()
    small, counts, declined = removed(graph)
    assert not counts and small.parameters() == graph.parameters()
    assert "first.weight: none is dead" in declined


def test_channels_that_nothing_reads_go():
    small, counts, _ = removed(with_zeros(graph_of(), second=(1, [0, 5]), last=(1, [3])))
    assert counts == {"first.weight": 2, "third.weight": 1}
    assert small.constants["first.weight"].array.shape == (6, 1, 3, 3)
    assert small.constants["second.weight"].array.shape == (6, 6, 3, 3)


def test_channels_that_are_always_the_same_move_into_biases_also_where_there_was_none():
    small, counts, _ = removed(with_zeros(graph_of(), first=(0, [1, 2]), third=(0, [0, 9])))
    assert counts == {"first.weight": 2, "third.weight": 2}
    (conv,) = [node for node in small.nodes if "second.weight" in node.inputs]
    assert len(conv.inputs) == 3


def test_constant_channels_of_a_map_move_into_a_linear_layer_behind_a_flatten():
    graph = with_zeros(graph_of(), second=(0, [2]))
    bias = np.linspace(-1, 1, 6, dtype=np.float32)
    graph.add_constant("second.bias", Constant(bias))
    at = next(i for i, node in enumerate(graph.nodes) if "second.weight" in node.inputs)
    node = graph.nodes[at]
    graph.nodes[at] = type(node)(node.op, (*node.inputs[:2], "second.bias"), node.outputs, node.source)
    small, counts, _ = removed(graph)
    assert counts == {"second.weight": 1}
    assert small.constants["third.weight"].array.shape[1] == 5 * 9


def test_what_goes_may_take_others_with_it():
    _, counts, _ = removed(with_zeros(graph_of(), last=(1, [0, 1, 2]), third=(0, [3, 4, 5, 6, 7, 8, 9])))
    assert counts["third.weight"] == 9
    assert counts.get("second.weight", 0) == 0


def test_a_constant_channel_that_is_padded_stays_and_one_that_is_zero_goes():
    graph = with_zeros(graph_of(padding=1), first=(0, [1, 2]))
    bias = graph.constants["first.bias"].array.copy()
    bias[1], bias[2] = 0.5, -0.5
    graph.set_constant("first.bias", Constant(bias))
    _, counts, declined = removed(graph)
    assert counts == {"first.weight": 1}
    assert "first.weight: 1 constant channels are padded" in declined


def test_one_channel_is_left_of_a_dead_layer():
    small, counts, _ = removed(with_zeros(graph_of(), first=(0, list(range(8)))))
    assert counts["first.weight"] == 7
    assert small.constants["first.weight"].array.shape[0] == 1
