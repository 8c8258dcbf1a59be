"""What `capture` makes of a torch module: the same function, telling names, and a module left as it was."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from penjing.frontends.torch_export import capture
from penjing.ir.parse import parse_graph
from penjing.ir.text import print_graph
from penjing.ir.types import Dim
from penjing.ir.verify import verify
from penjing.ops import registry
from penjing.ops.evaluate import evaluate

TOLERANCE = 1e-5  # of the output's scale: float32 sums of at most a few hundred terms, in another order


def example(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def assert_same(module: nn.Module, graph, *inputs: torch.Tensor) -> None:
    with torch.no_grad():
        expected = module.eval()(*(x.clone() for x in inputs))
    expected = expected if isinstance(expected, tuple) else (expected,)
    actual = evaluate(graph, *(x.numpy() for x in inputs))
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e.numpy(), rtol=0, atol=TOLERANCE * float(e.abs().max()))


def operators(graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.conv2(y) + x)


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Residual(), Residual())
        self.fc = nn.Linear(3 * 16, 4)

    def forward(self, x):
        return self.fc(self.blocks(x).view(-1, 3 * 16))


class Function(nn.Module):
    """A module of one function, with whatever parts it needs as `self`."""

    def __init__(self, function, **parts) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


FUNCTIONS = {
    "view(-1, n)": lambda m, x: x.view(-1, 48),
    "view(size, -1)": lambda m, x: x.view(x.size(0), -1),
    "flatten(1)": lambda m, x: x.flatten(1),
    "reshape of a size that is computed": lambda m, x: x.reshape(x.shape[0] * 2 // 2, 6, -1),
    "concat": lambda m, x: torch.cat([x, x * 2], dim=1),
    "split and chunk": lambda m, x: torch.cat([x.split([1, 2], 1)[1], x.chunk(3, 1)[0]], 1),
    "pad": lambda m, x: F.pad(x, (1, 0, 2, 1), value=0.0),
    "slices": lambda m, x: x[:, 1:, ::2, -1:],
    "mean": lambda m, x: x.mean((2, 3)),
    "scalars": lambda m, x: (1 - x) / 2 + 3 * x - (-x) + torch.add(x, 1, alpha=2) - 0.5,
    "a division by a buffer": lambda m, x: x / m.scale,
    "an integer buffer": lambda m, x: x * m.steps - m.steps,
    "a tensor made in forward": lambda m, x: x * torch.tensor(2.0) + torch.ones(3, 1, 1),
    "casts": lambda m, x: (x.double() * 2).float().to(x.dtype),
    "permute back and forth": lambda m, x: (x.permute(0, 2, 3, 1) + 1).permute(0, 3, 1, 2),
    "pool with a tuple of results": lambda m, x: F.adaptive_max_pool2d(x, 2),
    "a value used after it was written": lambda m, x: (lambda y: y + F.relu(y, inplace=True))(x * 1),
    "dropout in evaluation": lambda m, x: F.dropout(x, 0.5, training=m.training) * 2,
}


@pytest.mark.parametrize("title", FUNCTIONS)
def test_the_graph_computes_what_the_module_does(title):
    module = Function(FUNCTIONS[title], scale=torch.tensor([[[0.5]], [[3.0]], [[-7.0]]]), steps=torch.tensor(3))
    graph = capture(module, example(2, 3, 4, 4))
    for batch in (1, 2, 5):
        assert_same(module, graph, example(batch, 3, 4, 4))
    assert all(graph.types[name].shape[0] == Dim("batch", 1) for name in (*graph.inputs, *graph.outputs))


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_any_batch_in_the_example_gives_the_same_graph(batch):
    torch.manual_seed(0)
    module = Nested()
    assert print_graph(capture(module, example(batch, 3, 4, 4))) == print_graph(capture(module, example(3, 3, 4, 4)))


def test_values_and_constants_are_named_after_modules_and_nodes_know_their_lines():
    graph = capture(Nested(), example(1, 3, 4, 4))
    assert graph.name == "nested" and graph.stage == "imported"
    names = [node.output for node in graph.nodes]
    assert names[:3] == ["blocks.0.conv1", "blocks.0.bn1", "blocks.0.relu"]
    assert names[-2:] == ["view", "fc"]
    assert {"blocks.1.conv2.bias", "fc.weight", "blocks.0.bn1.running_var"} <= set(graph.constants)
    (addition,) = [node for node in graph.nodes if node.output == "blocks.1.add"]
    first = Residual.forward.__code__.co_firstlineno
    assert str(addition.source) == f"test_capture.py:{first + 2}, from aten.add.Tensor"
    assert not any("/" in node.source.file for node in graph.nodes)
    arrays = {name: constant.array for name, constant in graph.constants.items()}
    assert print_graph(parse_graph(print_graph(graph), arrays, registry())) == print_graph(graph)


def test_a_sequential_gives_names_that_begin_with_digits():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8, 3))
    graph = capture(module, example(1, 1, 4, 4))
    assert [node.output for node in graph.nodes] == ["0", "1", "2", "3"]
    assert list(graph.constants) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert_same(module, graph, example(2, 1, 4, 4))


def test_a_module_called_twice_gives_two_values():
    module = Function(lambda m, x: m.act(m.fc(m.act(x))), fc=nn.Linear(4, 4), act=nn.ReLU())
    assert [node.output for node in capture(module, example(1, 4)).nodes] == ["act", "fc", "act_1"]


def test_tied_weights_stay_one_constant():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    module = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), first)
    graph = capture(module, example(1, 4))
    assert list(graph.constants) == ["0.weight", "0.bias", "2.bias"]
    assert_same(module, graph, example(3, 4))


def test_weights_computed_from_parameters_are_folded():
    module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)))
    masked = Function(lambda m, x: F.linear(x, m.fc.weight * m.mask), fc=nn.Linear(4, 3), mask=torch.eye(3, 4))
    for each in (module, masked):
        graph = capture(each, example(1, 4))
        assert operators(graph) == ["linear"]
        assert_same(each, graph, example(3, 4))


def test_dropout_vanishes_and_every_submodule_gets_its_mode_back():
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    module[2].eval()
    statistics = module[2].running_mean.clone()
    graph = capture(module, example(2, 4))
    assert operators(graph) == ["linear", "batch_norm"]
    assert [part.training for part in module] == [True, True, False, True] and module.training
    assert torch.equal(module[2].running_mean, statistics)
    assert all(p.requires_grad for p in module.parameters())


def test_the_graph_does_not_change_when_the_module_is_trained_further():
    module = nn.Linear(4, 4)
    graph = capture(module, example(1, 4))
    before = graph.constants["weight"].array.copy()
    with torch.no_grad():
        module.weight.add_(1.0)
    assert np.array_equal(graph.constants["weight"].array, before)


def test_a_buffer_that_only_counts_calls_is_left_alone():
    def forward(m, x):
        m.calls.add_(1)
        return x * 2

    module = Function(forward, calls=torch.zeros(()))
    assert operators(capture(module, example(2, 4))) == ["mul"]
    assert module.calls == 0


def test_several_inputs_and_nested_outputs_come_in_order():
    module = Function(lambda m, a, b: {"sum": a + b, "pair": (a - b, a)})
    graph = capture(module, (example(1, 4), 3 * example(1, 4)))
    a, b = example(2, 4), 5 * example(2, 4)
    total, difference, same = evaluate(graph, a.numpy(), b.numpy())
    assert np.allclose(total, (a + b).numpy()) and np.allclose(difference, (a - b).numpy()) and np.array_equal(same, a)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_modules_of_another_precision_become_float32(dtype):
    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).to(dtype)
    graph = capture(module, example(2, 8).numpy())
    verify(graph)
    assert {constant.array.dtype for constant in graph.constants.values()} == {np.dtype(np.float32)}
    assert_same(module.float(), graph, example(3, 8))


@pytest.mark.parametrize("kind", ["float64", "float16"])
def test_numpy_examples_of_another_precision_are_converted(kind):
    assert operators(capture(nn.Linear(4, 2), np.ones((2, 4), kind))) == ["linear"]


def test_a_module_written_for_a_batch_of_one_still_gets_a_batch():
    module = Function(lambda m, x: m.fc(x.view(1, -1)), fc=nn.Linear(48, 5))
    graph = capture(module, example(1, 3, 4, 4))
    assert graph.types[graph.outputs[0]].shape == (Dim("batch", 1), 5)
    x = example(3, 3, 4, 4)
    with torch.no_grad():
        expected = torch.cat([module(x[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(evaluate(graph, x.numpy())[0], expected.numpy(), rtol=0, atol=1e-5)


def test_the_stage_is_dumped(tmp_path, monkeypatch):
    monkeypatch.setenv("PENJING_DUMP", str(tmp_path))
    graph = capture(nn.Linear(4, 2), example(1, 4), name="tiny")
    assert (tmp_path / "00-tiny-imported.penjing").read_text(encoding="utf-8") == print_graph(graph)
