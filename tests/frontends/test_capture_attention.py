"""Attention and norms of torch: what they become, for any batch, and what is refused; `capture` checks parity."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from penjing.api import clean
from penjing.core.errors import InvalidInput, UnsupportedOp
from penjing.frontends.torch_export import capture
from penjing.ir.types import Dim
from penjing.ops.attend import Attend
from penjing.zoo.models.decoder import Decoder

LATER = torch.ones(5, 5).triu(1).bool()
INFINITE = torch.zeros(5, 5).masked_fill(LATER, -torch.inf)
attention = F.scaled_dot_product_attention
BLOCK = {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "batch_first": True}


def x(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Function(nn.Module):
    def __init__(self, function, part=None, mask=None) -> None:
        super().__init__()
        self.function, self.part = function, part
        self.register_buffer("mask", mask)

    def forward(self, x):
        return self.function(self, x)


def captured(function, *args):
    torch.manual_seed(0)
    graph = capture(Function(function, *args).eval(), x(2, 5, 8))
    assert isinstance(graph.types[graph.outputs[0]].shape[0], Dim)
    return graph


def computing(graph) -> list[str]:
    return [node.op.name for node in graph.nodes if node.op.name not in ("permute", "reshape", "slice")]


def attends(graph) -> list[Attend]:
    return [node.op for node in graph.nodes if isinstance(node.op, Attend)]


def heads(x, count: int):
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_an_encoder_layer_is_captured_whole_and_for_any_batch(norm_first, activation):
    layer = nn.TransformerEncoderLayer(**BLOCK, norm_first=norm_first, activation=activation)
    first = ["linear", "linear", "linear", "matmul", "attend", "linear"]
    second = ["linear", activation, "linear"]
    if norm_first:
        want = ["layer_norm", *first, "add", "layer_norm", *second, "add"]
    else:
        want = [*first, "add", "layer_norm", *second, "add", "layer_norm"]
    assert computing(captured(lambda self, x: self.part(x), layer)) == want


def test_torch_is_left_as_it_was():
    own, fast = F.multi_head_attention_forward, torch.backends.mha.get_fastpath_enabled()
    captured(lambda self, x: self.part(x), nn.TransformerEncoderLayer(**BLOCK))
    with pytest.raises(UnsupportedOp):
        captured(lambda self, x: torch.erfinv(self.part(x)), nn.TransformerEncoderLayer(**BLOCK))
    assert F.multi_head_attention_forward is own and torch.backends.mha.get_fastpath_enabled() == fast


@pytest.mark.parametrize("mask", [LATER, INFINITE, None], ids=["bool", "-inf", "none"])
@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_with_and_without_its_weights(mask, need_weights):
    def forward(self, x):
        return self.part(x, x, x, attn_mask=self.mask, need_weights=need_weights)[: 1 + need_weights]

    graph = captured(forward, nn.MultiheadAttention(8, 2, batch_first=True), mask)
    assert [op.causal for op in attends(graph)] == [mask is not None] * (1 + need_weights)
    assert not [name for name in graph.constants if "mask" in name]


def test_keys_and_values_may_be_others_and_of_other_sizes():
    def forward(self, x):
        return self.part(x, x[:, :3, :6], x[:, 1:4, :4], need_weights=False)[0]

    part = nn.MultiheadAttention(8, 2, batch_first=True, kdim=6, vdim=4, bias=False)
    assert computing(captured(forward, part)).count("linear") == 4


@pytest.mark.parametrize(
    ("function", "mask", "want"),
    [
        (lambda s, x: attention(x, x, x, scale=0.1), None, ["matmul", "attend"]),
        (lambda s, x: attention(x, x[:, :3], x[:, 2:], is_causal=True), None, ["matmul", "attend"]),
        (lambda s, x: attention(x, x, x, s.mask), x(5, 5).tril(), ["matmul", "add", "attend"]),
        (lambda s, x: attention(x, x, x, s.mask), -1e4 * LATER, ["matmul", "attend"]),
        (lambda s, x: attention(x, x, x, s.mask), x(5, 5) > -1, ["matmul", "attend"]),
        (lambda s, x: attention(x, x, x, s.mask), x(5, 5) - 1 / (x(5, 5) > 0).float(),
         ["matmul", "add", "attend"]),
        (lambda s, x: torch.bmm(x, x.transpose(1, 2)) @ x @ s.mask, x(8, 3), ["matmul", "matmul", "linear"]),
    ],
    ids=["scale", "causal", "bias", "finite causal", "some", "bias and some", "products"],
)  # fmt: skip
def test_attention_and_products(function, mask, want):
    assert computing(captured(function, None, mask)) == want


def test_a_causal_mask_needs_no_constant():
    graph = captured(lambda s, x: attention(x, x, x, s.mask), None, ~LATER)
    assert [op.causal for op in attends(graph)] == [True] and not graph.constants


@pytest.mark.parametrize("mask", [None, x(6, 5, 5) > -1, x(5, 5) > -1], ids=["none", "of heads", "of all"])
def test_grouped_queries_share_keys_and_values(mask):
    def forward(self, x):
        q, k, v = heads(self.part[0](x), 6), heads(self.part[1](x), 3), heads(self.part[2](x), 3)
        y = attention(q, k, v, attn_mask=self.mask, enable_gqa=True)
        return y.transpose(1, 2).flatten(2)

    parts = nn.ModuleList([nn.Linear(8, 24), nn.Linear(8, 12), nn.Linear(8, 12)])
    graph = captured(forward, parts, mask)
    (attend,) = [node for node in graph.nodes if isinstance(node.op, Attend)]
    assert [graph.types[name].bounds[1:] for name in attend.inputs[:2]] == [(3, 2, 5, 5), (3, 1, 5, 4)]


def test_norms_over_one_axis_and_over_several():
    parts = nn.ModuleList(
        [nn.LayerNorm(8), nn.RMSNorm(8), nn.LayerNorm((5, 8), bias=False), nn.RMSNorm((5, 8), eps=0.1)]
    )
    with torch.no_grad():
        for parameter in parts.parameters():
            parameter.copy_(x(*parameter.shape))
    graph = captured(lambda self, x: self.part[1](self.part[0](x)) + self.part[3](self.part[2](x)), parts)
    assert sorted(computing(graph)) == ["add", "layer_norm", "layer_norm", "rms_norm", "rms_norm"]


@pytest.mark.parametrize(
    ("function", "mask", "reason"),
    [
        (lambda s, x: attention(x, x, x, x @ x.transpose(1, 2)), None, "computed from the input"),
        (lambda s, x: attention(x, x, x, s.mask), LATER, "hides every key"),
        (lambda s, x: attention(x, x, x, dropout_p=0.1), None, "dropout"),
        (lambda s, x: F.layer_norm(x, x.shape[1:], s.mask), INFINITE.repeat(1, 2)[:, :8], "NaN or infinite"),
    ],
    ids=["computed", "hides all", "dropout", "infinite"],
)
def test_what_cannot_be_carried_is_refused(function, mask, reason):
    with pytest.raises((InvalidInput, UnsupportedOp), match=reason):
        captured(function, None, mask)


def test_a_mask_of_infinities_gives_finite_constants():
    hidden = x(5, 5) - 1 / (x(5, 5) > 0).float()
    graph = captured(lambda s, x: attention(x, x, x, s.mask), None, hidden)
    assert all(np.isfinite(constant.array).all() for constant in graph.constants.values())


def test_a_decoder_is_captured_whole_for_any_batch_and_reads_step_by_step_what_it_reads_at_once():
    torch.manual_seed(0)
    network = Decoder(11, width=16, layers=1, heads=4, groups=2, hidden=24).eval()
    tokens = torch.randint(0, 11, (2, 6))
    graph = clean(capture(network, tokens.numpy()))
    assert isinstance(graph.types[graph.outputs[0]].shape[0], Dim)
    attention_ops = ["linear", "linear", "linear", "rotary", "rotary", "matmul", "attend", "linear", "add"]
    gated = ["linear", "silu", "linear", "mul", "linear", "add"]
    found = computing(graph)
    assert found[:2] + found[-2:] == ["embedding", "rms_norm", "rms_norm", "linear"]
    assert sorted(found[2:-2]) == sorted([*attention_ops, "rms_norm", *gated])
    past, logits = None, []
    with torch.no_grad():
        for one in tokens.split(1, 1):
            y, past = network.step(one, past)
            logits.append(y)
        torch.testing.assert_close(torch.cat(logits, 1), network(tokens))
