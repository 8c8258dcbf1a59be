"""The sums over what layers read predict the squared error of any change of their weights."""

import numpy as np
import pytest

from penjing import api
from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.core.errors import CalibrationError, InvalidInput
from penjing.ops.evaluate import evaluate

torch = pytest.importorskip("torch")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Conv1d(2, 9, 3, padding=1)
        self.first = torch.nn.Conv2d(1, 6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2))
        self.grouped = torch.nn.Conv2d(6, 8, 3, groups=2)
        self.last = torch.nn.Linear(8, 5)

    def forward(self, x):
        y = torch.relu(self.line(x))
        y = torch.relu(self.first(y[:, None]))
        return self.last(self.grouped(y).mean((2, 3)))


def samples(n: int = 24) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(n, 2, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return api.capture(Net().eval(), torch.from_numpy(samples(2)))


@pytest.mark.parametrize("weight", ["line.weight", "first.weight", "grouped.weight", "last.weight"])
def test_the_gram_predicts_the_squared_error_of_a_changed_weight(graph, weight):
    seen = collect_layer_inputs(graph, np.split(samples(), 3))[weight]
    node = next(node for node in graph.nodes if weight in node.inputs)
    w = graph.constants[weight].array
    change = np.random.default_rng(4).normal(size=w.shape).astype(np.float32)
    values: dict[str, np.ndarray] = {}
    evaluate(graph, samples(), watch=lambda name, array: values.update({name: array}))
    (y,) = node.op.float_reference(values[node.inputs[0]], change)
    groups = len(seen.gram)
    rows = change.reshape(groups, -1, seen.gram.shape[1]).astype(np.float64)
    predicted = np.einsum("gok,gkl,gol->", rows, seen.gram, rows) * seen.rows
    assert predicted == pytest.approx(float(np.square(y.astype(np.float64)).sum()), rel=1e-5)
    summed = np.einsum("gok,gk->", rows, seen.mean) * seen.rows
    assert summed == pytest.approx(float(y.sum(dtype=np.float64)), rel=1e-4, abs=1e-2)


def test_how_the_samples_are_cut_changes_nothing(graph):
    whole = collect_layer_inputs(graph, [samples()])
    parts = collect_layer_inputs(graph, np.split(samples(), 6))
    for name, seen in whole.items():
        assert seen.rows == parts[name].rows
        np.testing.assert_allclose(seen.gram, parts[name].gram, rtol=1e-4, atol=1e-6)


def test_no_samples_and_spoilt_samples_are_refused(graph):
    with pytest.raises(CalibrationError, match="empty"):
        collect_layer_inputs(graph, [])
    spoilt = samples()
    spoilt[0] = np.nan
    with pytest.raises(CalibrationError, match="NaN"):
        collect_layer_inputs(graph, [spoilt])
    with pytest.raises(InvalidInput):
        collect_layer_inputs(graph, [samples()[:, :1]])
