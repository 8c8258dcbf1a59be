"""Heads, feed-forward widths and layers of Transformers leave whole; what is left computes the same, and learns."""

import numpy as np
import pytest
import torch
from torch import nn

from penjing import api
from penjing.compress.prune.prune_channels import PruneChannels
from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.structure.remove_blocks import RemoveBlocks
from penjing.compress.structure.residual_blocks import block_effects
from penjing.ir.passes import run_passes
from penjing.ops.evaluate import evaluate
from penjing.train.qat import quantization_aware

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


def deep() -> nn.Module:
    """Three layers, norms first, of which the second says nothing."""
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True, activation="gelu", norm_first=True)
    module = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    silent = module.layers[1]
    with torch.no_grad():
        for part in (silent.self_attn.out_proj, silent.linear2):
            part.weight[:], part.bias[:] = 0, 0
    return module


def test_a_layer_that_says_nothing_leaves_and_nothing_changes(x):
    graph = api.capture(deep(), torch.from_numpy(x))
    effects = block_effects(graph, [x])
    small, (log,) = run_passes(graph, [RemoveBlocks(effects, 2)])
    assert sorted(effects.values())[:2] == [0, 0]
    assert [node.op.name for node in small.nodes].count("attend") == 2
    assert len(log.changed) == 2
    np.testing.assert_allclose(evaluate(small, x)[0], evaluate(graph, x)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rounded", [False, True], ids=["floats", "for integers"])
def test_what_is_left_learns_what_the_whole_said(x, rounded):
    graph = api.capture(deep(), torch.from_numpy(x))
    (wanted,) = map(torch.from_numpy, evaluate(graph, x))
    small, _ = run_passes(graph, [RemoveBlocks({"layers.0": 0.0}, 1)])
    module = quantization_aware(small, calibrate(small, [x], "mse").ranges) if rounded else api.trainable(small)
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = (module(torch.from_numpy(x)) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert evaluate(module.to_graph(), x)[0].shape == wanted.shape
