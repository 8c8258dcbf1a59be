"""The check after an import: a graph that computes something else is an error that names the node and its line."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from penjing.core.errors import ParityError
from penjing.frontends.parity import TOLERANCE, Case, check_parity, departure
from penjing.frontends.torch_export import capture
from penjing.ir.graph import Graph
from penjing.ir.types import Dim, Type
from penjing.ops.relu import Relu


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.fc = nn.Linear(64, 3)

    def forward(self, x):
        x = self.conv(x)
        x = F.leaky_relu(x, 0.1)
        return self.fc(F.relu(x).flatten(1))


def example(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_a_wrong_operator_is_named_with_its_line(monkeypatch):
    monkeypatch.setattr(Relu, "float_reference", lambda self, x: (np.maximum(x, 0.05),))
    with pytest.raises(ParityError, match=r"departs from the source model by .* for a batch of 1") as caught:
        capture(Net(), example(1, 1, 4, 4))
    line = Net.forward.__code__.co_firstlineno + 3
    assert f"node relu (relu, test_capture_parity.py:{line}, from aten.relu.default)" in caught.value.where
    capture(Net(), example(1, 1, 4, 4), check=False)


def test_a_wrong_shape_is_named_too(monkeypatch):
    monkeypatch.setattr(Relu, "float_reference", lambda self, x: (x[:, :1].repeat(4, 1)[..., :1].repeat(4, 3),))
    with pytest.raises(ParityError, match="first to depart"):
        capture(Net(), example(1, 1, 4, 4))


def test_a_squeeze_that_drops_a_batch_of_one_is_caught():
    class Squeeze(nn.Module):
        def forward(self, x):
            return x.squeeze()

    with pytest.raises(
        ParityError, match=r"shape \(5,\) in the source model and \(1, 5\) here for a batch of 1"
    ) as caught:
        capture(Squeeze(), example(2, 5, 1, 1))
    assert "squeeze(-1)" in caught.value.hint


def test_samples_that_flow_into_one_another_are_caught_even_without_check():
    class Mixing(nn.Module):
        def forward(self, x):
            # right for one sample; the transposed view joins what would be several
            return x.view(1, 4, 4).permute(1, 0, 2).reshape(1, 16) + x.view(1, 16) * 2

    with pytest.raises(ParityError, match="two samples together") as caught:
        capture(Mixing(), example(1, 4, 4), check=False)
    assert "x.flatten(1)" in caught.value.hint


def test_the_check_keeps_to_the_range_of_the_example():
    seen = []

    class Watching(nn.Module):
        def forward(self, x):
            if not torch.compiler.is_exporting():
                seen.append(x.clone())
            return x * 2

    capture(Watching(), torch.rand(4, 100) + 3)
    assert {len(x) for x in seen} == {1, 3, 4}
    assert all(float(x.min()) >= 3 and float(x.max()) <= 4 for x in seen)


@pytest.mark.parametrize(
    ("actual", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.2], [1.0, 2.0], 0.1),
        ([1.0, 2.0], [[1.0, 2.0]], np.inf),
        ([np.nan, 2.0], [np.nan, 2.0], 0.0),
        ([np.nan, 2.0], [1.0, 2.0], np.inf),
        ([1.0, 2.0], [1.0, np.nan], np.inf),
        ([np.inf, 2.0], [np.inf, 2.0], 0.0),
        ([1e-12, 0.0], [0.0, 0.0], 1e-7),  # zero but for rounding: the scale has a floor
        ([], [], 0.0),
    ],
)
def test_departure_is_measured_in_the_scale_of_the_expected_output(actual, expected, error):
    assert departure(np.array(actual), np.array(expected)) == pytest.approx(error)


def test_the_tolerance_stands_between_rounding_and_mistakes():
    graph = Graph("one")
    graph.add_input("x", Type((Dim("batch", 1), 4)))
    graph.add_node(Relu(), ("x",), ("y",))
    graph.outputs = ("y",)
    x = np.linspace(0.5, 2, 4, dtype=np.float32)[None]
    check_parity(graph, [Case((x,), (x * (1 + TOLERANCE / 2),), "a batch of 1")], TOLERANCE)
    with pytest.raises(ParityError, match=r"tolerance 0\.001"):
        check_parity(graph, [Case((x,), (x * (1 + TOLERANCE * 2),), "a batch of 1")], TOLERANCE)
