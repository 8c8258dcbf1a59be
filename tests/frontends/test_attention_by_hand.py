"""Attention and norms as users write them and as exporters take them apart, from torch and from ONNX."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from penjing import api
from penjing.core.errors import ParityError, UnsupportedOp
from penjing.frontends.onnx.capture import capture as capture_onnx
from penjing.frontends.torch_export import capture
from penjing.ops.attend import Attend
from penjing.ops.matmul import Matmul
from penjing.program.interpret import interpret, interpret_samples

STEPS, WIDTH, HEADS = 9, 16, 2
INFINITE = torch.full((STEPS, STEPS), -math.inf).triu(1)
SCALE = (WIDTH // HEADS) ** -0.5


class ByHand(nn.Module):
    """Self-attention in products and a softmax; `masked` is done to the scores."""

    def __init__(self, masked=None, *, before: bool = False, weights: bool = False) -> None:
        super().__init__()
        self.qkv, self.out, self.dropout = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH), nn.Dropout(0.1)
        self.register_buffer("mask", torch.tril(torch.ones(1, 1, STEPS, STEPS)))
        self.register_buffer("infinite", INFINITE)
        self.masked, self.before, self.weights = masked, before, weights

    def forward(self, x):
        heads = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        q, k, v = heads
        if self.before:
            scores = (q * math.sqrt(SCALE)) @ (k.transpose(-2, -1) * math.sqrt(SCALE))
        else:
            scores = q @ k.transpose(-2, -1) / math.sqrt(WIDTH // HEADS)
        if self.masked is not None:
            scores = self.masked(self, scores)
        weights = self.dropout(scores.softmax(-1))
        y = self.out((weights @ v).transpose(1, 2).flatten(2))
        return (y, weights) if self.weights else y


MASKS = {
    "fill": lambda m, s: s.masked_fill(m.mask == 0, -math.inf),
    "add": lambda m, s: s + m.infinite,
    "where": lambda m, s: torch.where(m.mask == 1, s, torch.tensor(-1e4)),
    "where the other way": lambda m, s: torch.where(m.mask == 0, torch.tensor(-torch.inf), s),
}


def x():
    return torch.randn(2, STEPS, WIDTH, generator=torch.Generator().manual_seed(0))


def from_torch(module, tmp_path):
    return capture(module.eval(), x())


def from_onnx(module, tmp_path):
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), x(), path, dynamo=False, opset_version=17, dynamic_axes={"x": {0: "n"}}, input_names=["x"]
        )
    return capture_onnx(path).graph


BOTH = pytest.mark.parametrize("source", [from_torch, from_onnx])


def product_and_attend(graph) -> tuple[Matmul, Attend]:
    names = [node.op.name for node in graph.nodes]
    assert not {"softmax", "mul", "add"} & set(names)
    (product,) = [node.op for node in graph.nodes if isinstance(node.op, Matmul)]
    (attend,) = [node.op for node in graph.nodes if isinstance(node.op, Attend)]
    return product, attend


@BOTH
@pytest.mark.parametrize("before", [False, True])
def test_products_and_a_softmax_are_attention_and_scales_are_the_products(source, before, tmp_path):
    product, attend = product_and_attend(source(ByHand(before=before), tmp_path))
    assert math.isclose(product.scale, SCALE, rel_tol=1e-6)
    assert attend == Attend(causal=False)


@BOTH
@pytest.mark.parametrize("name", MASKS)
def test_masks_are_recognised_however_they_are_written(source, name, tmp_path):
    assert product_and_attend(source(ByHand(MASKS[name]), tmp_path))[1] == Attend(causal=True)


def test_attention_by_hand_goes_step_by_step(tmp_path):
    rng = np.random.default_rng(0)
    graph = from_torch(ByHand(MASKS["fill"]), tmp_path)
    whole = api.quantize(graph, [rng.normal(size=(16, STEPS, WIDTH)).astype(np.float32)])
    codes = rng.integers(0, 256, (1, STEPS, WIDTH), np.uint8)
    steps = np.concatenate([codes[:, i : i + 1] for i in range(STEPS)])
    (want,), (got,) = interpret(api.lower(whole), codes), interpret_samples(api.lower(api.stream(whole)), steps)
    np.testing.assert_array_equal(got.reshape(want.shape), want)


@BOTH
def test_a_mask_that_is_not_causal_is_a_constant_and_a_bias_is_added(source, tmp_path):
    hides = torch.zeros(STEPS, STEPS)
    hides[:, 3] = -math.inf
    hides[2, 5] = 0.5
    module = ByHand(lambda m, s: s + m.infinite)
    module.infinite = hides
    graph = source(module, tmp_path)
    (attend,) = [node for node in graph.nodes if isinstance(node.op, Attend)]
    (adder,) = [node for node in graph.nodes if node.op.name == "add"]
    assert attend.op == Attend() and attend.inputs[0] == adder.output
    np.testing.assert_array_equal(graph.constants[attend.inputs[2]].array, (hides > -1).float().numpy())
    (bias,) = [graph.constants[name].array for name in adder.inputs if name in graph.constants]
    assert bias[2, 5] == 0.5 and np.count_nonzero(bias) == 1


@BOTH
def test_weights_that_others_read_stay(source, tmp_path):
    graph = source(ByHand(weights=True), tmp_path)
    assert [node.op.name for node in graph.nodes].count("softmax") == 1
    assert not any(isinstance(node.op, Attend) for node in graph.nodes)


@BOTH
def test_a_mask_without_attention_is_refused(source, tmp_path):
    with pytest.raises(UnsupportedOp, match="hides numbers that no attention reads"):
        source(ByHand(MASKS["fill"], weights=True), tmp_path)


@pytest.mark.parametrize(
    "masked",
    [
        lambda m, s: s.masked_fill(m.mask == 0, 0.0),
        lambda m, s: s.masked_fill(s > 0, -math.inf),
        lambda m, s: torch.where(m.mask == 1, s, s.relu()),
    ],
)
def test_other_choices_are_refused(masked, tmp_path):
    with pytest.raises(UnsupportedOp):
        from_torch(ByHand(masked), tmp_path)


class Norms(nn.Module):
    """Norms by their formulas."""

    def __init__(self, formula) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.linspace(0.5, 2, WIDTH)), nn.Parameter(torch.linspace(-1, 1, WIDTH))
        self.formula = formula

    def forward(self, x):
        return self.formula(self, x)


def centre(x):
    return x - x.mean(-1, keepdim=True)


LAYER_NORMS = {
    "sqrt": lambda m, x: centre(x) / (centre(x).pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * m.gamma + m.beta,
    "whole": lambda m, x: nn.functional.layer_norm(x, (WIDTH,), m.gamma, m.beta),
}
RMS_NORMS = {
    "rsqrt": lambda m, x: m.gamma * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)),
    "square": lambda m, x: x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * m.gamma,
    "cast": lambda m, x: m.gamma * (x.double() * torch.rsqrt(x.double().pow(2).mean(-1, True) + 1e-6)).to(x.dtype),
}


@BOTH
@pytest.mark.parametrize("name", LAYER_NORMS)
def test_layer_norm_by_its_formula(source, name, tmp_path):
    graph = source(Norms(LAYER_NORMS[name]), tmp_path)
    (node,) = graph.nodes
    assert node.op.name == "layer_norm" and len(node.inputs) == 3


@BOTH
@pytest.mark.parametrize("name", RMS_NORMS)
def test_rms_norm_by_its_formula(source, name, tmp_path):
    graph = source(Norms(RMS_NORMS[name]), tmp_path)
    (node,) = graph.nodes
    assert node.op.name == "rms_norm" and len(node.inputs) == 2


@BOTH
def test_a_norm_that_others_read_before_its_factor_keeps_both(source, tmp_path):
    def both(m, x):
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        return y * m.gamma, y

    graph = source(Norms(both), tmp_path)
    assert [node.op.name for node in graph.nodes] == ["rms_norm", "mul"]


@BOTH
@pytest.mark.parametrize(
    "formula",
    [
        lambda m, x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-5),
        lambda m, x: x * torch.rsqrt((x + 1).pow(2).mean(-1, keepdim=True) + 1e-5),
        lambda m, x: m.beta * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5),
    ],
)
def test_what_only_looks_like_a_norm_is_refused(source, formula, tmp_path):
    with pytest.raises((UnsupportedOp, ParityError)):
        source(Norms(formula), tmp_path)
