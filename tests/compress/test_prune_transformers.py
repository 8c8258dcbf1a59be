"""Heads of attention and widths of feed-forward layers leave whole; what is left computes the same."""

import numpy as np
import pytest
import torch
from torch import nn

from penjing import api
from penjing.compress.prune.prune_channels import PruneChannels
from penjing.ir.passes import run_passes
from penjing.ops.evaluate import evaluate

WIDTH, HEADS, HIDDEN, STEPS = 32, 4, 48, 6
HEAD = WIDTH // HEADS


@pytest.fixture(scope="module")
def layer() -> nn.Module:
    """A layer whose heads 1 and 2 and every other hidden unit say nothing."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True, activation="gelu").eval()
    silent = torch.arange(WIDTH).reshape(HEADS, HEAD)[1:3].reshape(-1)
    with torch.no_grad():
        for part in range(3):
            layer.self_attn.in_proj_weight[part * WIDTH + silent] *= 1e-3
            layer.self_attn.in_proj_bias[part * WIDTH + silent] = 0
        layer.self_attn.out_proj.weight[:, silent] = 0
        layer.linear1.weight[::2], layer.linear1.bias[::2] = 0, 0
    return layer


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, STEPS, WIDTH)).astype(np.float32)


def test_silent_heads_and_units_leave_and_nothing_changes(layer, x):
    graph = api.capture(layer, torch.from_numpy(x))
    small, (log,) = run_passes(graph, [PruneChannels(0.5)])
    assert [remark.text for remark in log.changed[:2]] == ["4 units of 8 channels, 2 left", "48 channels, 24 left"]
    weights = sorted(c.array.shape for c in small.constants.values() if c.array.ndim == 2)
    assert weights == [(16, 32)] * 3 + [(24, 32), (32, 16), (32, 24)]
    np.testing.assert_allclose(evaluate(small, x)[0], evaluate(graph, x)[0], rtol=0, atol=1e-5)


def test_heads_go_by_the_step_that_leaves_whole_tiles(layer, x):
    graph = api.capture(layer, torch.from_numpy(x))
    for round_to, left in ((8, 3), (16, 4), (32, 4)):  # of 4 heads of 8 features a quarter would go
        small, (log,) = run_passes(graph, [PruneChannels(0.25, round_to=round_to)])
        queries = small.constants["self_attn.0"].array
        assert len(queries) == left * HEAD, round_to
    assert any("4 units of 8 channels" in remark.text for remark in log.declined)


def test_a_pruned_layer_is_quantized_and_lowered(layer, x):
    graph = api.capture(layer, torch.from_numpy(x))
    small, _ = run_passes(graph, [PruneChannels(macs=0.6)])
    program = api.lower(api.quantize(small, [x]))
    assert program.types[program.outputs[0]].bounds == (1, STEPS, WIDTH)
