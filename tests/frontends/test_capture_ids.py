"""Modules that look up ids: what they become, and what integers may not do; `capture` checks parity on random ids."""

import numpy as np
import pytest
import torch
from torch import nn

from penjing.core.errors import UnsupportedOp
from penjing.frontends.torch_export import capture
from penjing.ir.types import DType
from penjing.ops.embedding import id_rows


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.places, self.out = nn.Embedding(50, 6), nn.Embedding(9, 6), nn.Linear(6, 3)
        self.function = function

    def forward(self, *inputs):
        return self.function(self, *inputs)


IDS = torch.randint(0, 50, (2, 5), generator=torch.Generator().manual_seed(1))


def looked_up(m, ids):
    return m.out(m.words(ids) + m.places(torch.arange(ids.shape[1])))


@pytest.mark.parametrize("kind", [torch.int64, torch.int32])
def test_an_embedding_is_captured_for_any_batch_and_constant_ids_are_looked_up_now(kind):
    graph = capture(Function(looked_up), IDS.to(kind))
    assert [node.op.name for node in graph.nodes] == ["embedding", "add", "linear"]
    assert graph.types[graph.inputs[0]].dtype is DType.S32
    assert list(id_rows(graph).values()) == [50]


def test_the_smaller_of_two_tables_bounds_the_ids():
    graph = capture(Function(lambda m, ids: m.out(m.words(ids) + m.places(ids))), IDS % 9)
    assert list(id_rows(graph).values()) == [9]


def test_ids_and_reals_come_side_by_side():
    graph = capture(Function(lambda m, ids, x: m.out(m.words(ids)) + x), (IDS, torch.randn(2, 5, 3)))
    assert [graph.types[name].dtype for name in graph.inputs] == [DType.S32, DType.F32]
    assert graph.real_inputs == (graph.inputs[1],)


def test_casts_between_integers_change_nothing():
    graph = capture(Function(lambda m, ids: m.out(m.words(ids.long()))), IDS.int())
    assert [node.op.name for node in graph.nodes] == ["embedding", "linear"]


def test_numpy_ids_are_taken_as_well():
    graph = capture(Function(looked_up), np.zeros((1, 5), np.int64))
    assert graph.types[graph.inputs[0]].bounds == (1, 5)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda m, ids: m.out(m.words(ids)) * ids.float().unsqueeze(-1), "computes with ids"),
        (lambda m, ids: m.words(ids + 1), "activations are floats"),
        (lambda m, ids: m.words(ids) * (ids > 0).unsqueeze(-1), "activations are floats"),
        (lambda m, ids: m.words(ids.flatten()), "mixes the batch"),
    ],
    ids=["as numbers", "computed", "as a mask", "flattened"],
)
def test_integers_are_for_looking_up_alone(function, said):
    with pytest.raises(UnsupportedOp, match=said):
        capture(Function(function), IDS % 9)
