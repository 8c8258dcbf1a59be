"""Capture for sequences of any length: what follows the length is carried, and the rest refused by name."""

import numpy as np
import pytest

from penjing.core.errors import InvalidInput, ParityError, UnsupportedOp
from penjing.core.length import Length
from penjing.frontends.torch_export import capture
from penjing.ir.text import print_graph
from penjing.ir.types import is_length
from penjing.ops.evaluate import evaluate

torch = pytest.importorskip("torch")

LONGEST, FEATURES = 9, 8


class Fn(torch.nn.Module):
    """A function as a module, with a few parameters."""

    def __init__(self, function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.table = torch.nn.Parameter(torch.randn(LONGEST, FEATURES))
        self.heads = torch.nn.Parameter(torch.randn(2, LONGEST + 3, FEATURES))
        self.linear = torch.nn.Linear(FEATURES, FEATURES)
        self.norm = torch.nn.LayerNorm(FEATURES)
        self.conv = torch.nn.Conv1d(FEATURES, 4, 3, padding=1)
        self.wide = torch.nn.Conv1d(FEATURES, FEATURES, 4, padding="same", dilation=3, groups=FEATURES)
        self.few = torch.nn.Conv1d(FEATURES, 4, 3)
        self.strided = torch.nn.Conv1d(FEATURES, 4, 3, 2, 1)
        self.register_buffer("mask", torch.full((LONGEST + 1, LONGEST + 1), -torch.inf).triu(1))

    def forward(self, *inputs):
        return self.function(self, *inputs)


def taken(function, *shapes, length=None, example_length=5):
    shapes = shapes or ((2, example_length, FEATURES),)
    example = tuple(torch.randn(*shape) for shape in shapes)
    return capture(Fn(function), example, length=length or Length(LONGEST))


def attend(m, x, mask=None, **more):
    q, k, v = (m.linear(x).unflatten(2, (2, -1)).transpose(1, 2) for _ in range(3))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, **more).transpose(1, 2).flatten(2)


CARRIED = {
    "a linear layer": lambda m, x: m.linear(x),
    "a layer norm and activations": lambda m, x: torch.nn.functional.gelu(m.norm(x)) * torch.sigmoid(x),
    "softmax along it": lambda m, x: x.softmax(1),
    "the mean over it": lambda m, x: x.mean(1),
    "the first step": lambda m, x: x[:, 0],
    "the last step": lambda m, x: m.linear(x[:, -1]),
    "a slice of another axis": lambda m, x: x[:, :, 2:5],
    "a convolution that keeps it": lambda m, x: m.conv(x.transpose(1, 2)),
    "windows that are longer": lambda m, x: m.wide(x.transpose(1, 2)).transpose(1, 2) + x,
    "scores": lambda m, x: x @ x.transpose(1, 2),
    "a product over it": lambda m, x: x.transpose(1, 2) @ x,
    "attention": attend,
    "causal attention": lambda m, x: attend(m, x, is_causal=True),
    "a causal mask cut from a buffer": lambda m, x: attend(m, x, m.mask[: x.size(1), : x.size(1)]),
    "a causal mask made to measure": lambda m, x: attend(m, x, torch.ones(x.size(1), x.size(1)).tril() > 0),
    "positions": lambda m, x: x + m.table[: x.size(1)],
    "positions by arange": lambda m, x: x + torch.nn.functional.embedding(torch.arange(x.size(1)), m.table),
    "positions of heads": lambda m, x: x.unflatten(2, (2, -1)).transpose(1, 2) * m.heads[:, : x.size(1), :4],
    "heads as another axis": lambda m, x: x.reshape(x.size(0), x.size(1), 2, 4).permute(0, 2, 1, 3),
    "a concat of features": lambda m, x: torch.cat([x, m.linear(x)], 2),
}


@pytest.mark.parametrize("function", CARRIED.values(), ids=CARRIED.keys())
def test_what_follows_the_length_is_carried(function):
    graph = taken(function)  # which compares it with the module at three lengths
    assert graph.types[graph.inputs[0]].shape[1].max == LONGEST
    for length in (1, 4, LONGEST):
        x = np.random.default_rng(0).normal(size=(2, length, FEATURES)).astype(np.float32)
        with torch.no_grad():
            want = Fn(function).eval()(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(evaluate(graph, x)[0], want, atol=1e-5)


REFUSED = {
    "the length in another axis": (lambda m, x: x.flatten(1), "mixes the batch or the length with another axis"),
    "steps joined to it": (lambda m, x: torch.cat([x, x], 1), "mixes the batch or the length"),
    "a part of it": (lambda m, x: x[:, :3], "any length"),
    "the second step": (lambda m, x: x[:, 1], "element 1 of axis 1"),
    "a norm over it": (lambda m, x: torch.nn.functional.layer_norm(x, x.shape[1:]), "number|length"),
    "a convolution that shortens it": (lambda m, x: m.few(x.transpose(1, 2)), "any length"),
    "every second window": (lambda m, x: m.strided(x.transpose(1, 2)), "any length"),
    "a pool along it": (lambda m, x: torch.nn.functional.max_pool1d(x.transpose(1, 2), 3, 1, 1), "any length"),
    "a mask that is not causal": (lambda m, x: attend(m, x, m.mask[: x.size(1), : x.size(1)].T), "mask"),
    "two lengths of a constant": (lambda m, x: x @ x.mT + m.mask[: x.size(1), : x.size(1)].exp(), "along 2 axes"),
    "a sum of positions": (lambda m, x: x + m.table[: x.size(1)].sum(0), "not by its first elements"),
    "a fixed length": (lambda m, x: x + m.table[:5], "any length"),
}


@pytest.mark.parametrize(("function", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_follow_is_refused_with_a_reason(function, reason):
    with pytest.raises(UnsupportedOp, match=reason):
        taken(function)


def test_a_constant_that_is_no_prefix_of_the_longest_is_found():
    with pytest.raises(ParityError):
        taken(lambda m, x: x + m.table[: x.size(1)].flip(0))


def test_several_inputs_share_one_length():
    graph = taken(lambda m, x, y: x + y, (2, 5, 3), (2, 5, 3))
    assert [graph.types[name].shape[1].max for name in graph.inputs] == [LONGEST, LONGEST]
    with pytest.raises(InvalidInput, match="length = 3, another input 2"):
        evaluate(graph, np.zeros((1, 2, 3), np.float32), np.zeros((1, 3, 3), np.float32))


def test_an_input_without_steps_keeps_its_shape():
    graph = taken(lambda m, x, y: x + y[:, None], (5, 5, 3), (5, 3), length=Length(LONGEST, (1, None)))
    assert [any(map(is_length, graph.types[name].shape)) for name in graph.inputs] == [True, False]


def test_the_length_may_be_the_last_axis_and_the_example_of_one_step_or_of_as_many_as_samples():
    for shape in ((1, FEATURES, 1), (2, FEATURES, 2), (3, FEATURES, 3)):
        graph = taken(lambda m, x: m.linear(x.transpose(1, 2)), shape, length=Length(LONGEST, 2))
        assert str(graph.types[graph.outputs[0]].shape[1]) == f"length<={LONGEST}"


def test_the_text_says_the_bound():
    assert f"f32[batch<=1, length<={LONGEST}, {FEATURES}]" in print_graph(taken(CARRIED["positions"]))


@pytest.mark.parametrize(
    ("length", "what"),
    [
        (Length(0), "at most 0"),
        (Length(1), "at most 1"),
        (Length(2**16), "at most 65536"),
        (Length(9.0), "at most 9.0"),
        (Length(True), "at most True"),
        (Length(LONGEST, 0), "axis 0"),
        (Length(LONGEST, 3), "no input"),
        (Length(LONGEST, (1, 1)), "2 inputs"),
        (Length(LONGEST, (-1,)), "axis -1"),
        (Length(LONGEST, (1.0,)), "axis 1.0"),
        (Length(LONGEST, (None,)), "no input"),
        (Length(4), "5 steps, more than the bound 4"),
    ],
)
def test_a_length_that_is_none_is_refused(length, what):
    with pytest.raises(InvalidInput, match=what):
        taken(CARRIED["a linear layer"], length=length)


def test_inputs_of_different_lengths_are_refused():
    with pytest.raises(InvalidInput, match=r"different lengths: \[4, 5\]"):
        taken(lambda m, x, y: x.mean(1) + y.mean(1), (2, 5, 3), (2, 4, 3))


def test_a_table_shorter_than_the_bound_is_refused():
    with pytest.raises(UnsupportedOp, match="any length"):
        taken(CARRIED["positions"], length=Length(LONGEST + 1))
