"""torch's LSTM, GRU and RNN modules, in all options, as single layers that compute the same."""

import numpy as np
import pytest
import torch
from torch import nn

from penjing.core.errors import UnsupportedOp
from penjing.frontends.torch_export import capture
from penjing.ir.parse import parse_graph
from penjing.ir.text import print_graph
from penjing.ir.verify import verify
from penjing.ops import registry
from penjing.ops.evaluate import evaluate

TOLERANCE = 1e-5
BATCH, STEPS, FEATURES, UNITS = 3, 2, 5, 7

KINDS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *args, **options: nn.RNN(*args, nonlinearity="relu", **options),
}


def data(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def layer(kind: str, **options) -> nn.Module:
    torch.manual_seed(2)
    return KINDS[kind](FEATURES, UNITS, **options)


class Everything(nn.Module):
    """All outputs of a layer, those of the batch first; its states are given by `states`, in the module's own order."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core

    def forward(self, x, *states):
        x = x if self.core.batch_first else x.transpose(0, 1)
        given = [state.transpose(0, 1).contiguous() for state in states]
        y, last = self.core(x, *([tuple(given) if len(given) > 1 else given[0]] if given else []))
        last = last if isinstance(last, tuple) else (last,)
        return (y if self.core.batch_first else y.transpose(0, 1), *(state.transpose(0, 1) for state in last))


class Ends(nn.Module):
    """What networks use of a layer: its last step, and the last state of the last layer."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core

    def forward(self, x):
        y, last = self.core(x if self.core.batch_first else x.transpose(0, 1))
        last = last[0] if isinstance(last, tuple) else last
        return y[:, -1] if self.core.batch_first else y[-1], last[-1]


def captured(module: nn.Module, *inputs: torch.Tensor):
    """The graph, once it is known to compute what the module does."""
    graph = capture(module.eval(), tuple(x[:1] for x in inputs))
    verify(graph)
    with torch.no_grad():
        expected = module(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for ours, theirs in zip(evaluate(graph, *(x.numpy() for x in inputs)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=TOLERANCE * max(1.0, float(theirs.abs().max())))
    arrays = {name: constant.array for name, constant in graph.constants.items()}
    assert print_graph(parse_graph(print_graph(graph), arrays, registry())) == print_graph(graph)
    return graph


def layers(graph) -> list[str]:
    return [node.op.name for node in graph.nodes if node.op.name in ("lstm", "gru", "rnn")]


# pairs of options: each meets each other one
OPTIONS = (
    {"batch_first": True, "bidirectional": False},
    {"batch_first": False, "bidirectional": True, "bias": False},
    {"batch_first": True, "bidirectional": True, "num_layers": 2, "dropout": 0.5},
)


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "bidirectional", "deep"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_module_is_carried_as_single_layers_with_all_that_it_returns(kind, options):
    graph = captured(Everything(layer(kind, **options)), data(BATCH, STEPS, FEATURES))
    directions = 1 + options["bidirectional"]
    count = options.get("num_layers", 1) * directions
    assert len(layers(graph)) == count
    reverse = [node.op.reverse for node in graph.nodes if node.op.name == layers(graph)[0]]
    assert reverse == [False, True][:directions] * (count // directions)
    assert [name for name in graph.constants if "weight" in name][:2] == ["core.weight_ih_l0", "core.weight_hh_l0"]


@pytest.mark.parametrize("options", [{"bias": False}, {"bidirectional": True, "num_layers": 2}])
def test_a_projection_is_part_of_the_layer(options):
    graph = captured(Everything(layer("lstm", proj_size=3, batch_first=True, **options)), data(BATCH, STEPS, FEATURES))
    assert all(node.op.projected for node in graph.nodes if node.op.name == "lstm")


@pytest.mark.parametrize(("kind", "batch_first"), [("lstm", False), ("gru", True)])
def test_the_last_step_and_the_last_state_can_be_read(kind, batch_first):
    graph = captured(Ends(layer(kind, num_layers=2, batch_first=batch_first)), data(BATCH, STEPS, FEATURES))
    assert all(graph.types[name].bounds == (1, UNITS) for name in graph.outputs)


@pytest.mark.parametrize("kind", ["lstm", "relu"])
def test_initial_states_can_be_inputs(kind):
    states = 2 if kind == "lstm" else 1
    core = layer(kind, bidirectional=True, batch_first=True)
    given = [0.5 * data(BATCH, 2, UNITS) for _ in range(states)]
    graph = captured(Everything(core), data(BATCH, STEPS, FEATURES), *given)
    assert len(graph.inputs) == 1 + states


class Learned(nn.Module):
    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core
        self.h = nn.Parameter(data(1, 1, UNITS))

    def forward(self, x):
        state = self.h.expand(-1, x.shape[0], -1)
        zeros = torch.zeros(1, x.shape[0], UNITS)
        return self.core(x, (state, zeros) if isinstance(self.core, nn.LSTM) else state)[0]


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_an_initial_state_can_be_learned(kind):
    graph = captured(Learned(layer(kind, batch_first=True)), data(BATCH, STEPS, FEATURES))
    assert any(constant.array.shape == (1, UNITS) for constant in graph.constants.values())


def test_states_that_nothing_reads_are_not_made():
    class OnlyY(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = layer("lstm", batch_first=True)

        def forward(self, x):
            return self.core(x)[0]

    assert [node.op.name for node in captured(OnlyY(), data(BATCH, STEPS, FEATURES)).nodes] == ["lstm"]


def test_one_step_is_a_sequence():
    captured(Everything(layer("gru", batch_first=True)), data(BATCH, 1, FEATURES))


def test_a_lone_sequence_whose_batch_is_time_is_refused():
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = layer("gru")

        def forward(self, x):
            return self.core(x)[0]

    with pytest.raises(UnsupportedOp, match=r"(?s)time along the batch axis.*batch_first=True"):
        capture(Steps(), data(BATCH, STEPS, FEATURES))


def test_packed_sequences_are_refused():
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = layer("lstm", batch_first=True)

        def forward(self, x):
            lengths = torch.full((x.shape[0],), STEPS)
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            return self.core(packed)[1][0]

    with pytest.raises(UnsupportedOp):
        capture(Packed(), data(BATCH, STEPS, FEATURES))


def test_weights_that_are_computed_are_refused():
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = layer("tanh", batch_first=True)

        def forward(self, x):
            weights = [p * x.mean() if i == 1 else p for i, p in enumerate(self.core.parameters())]
            return torch._VF.rnn_tanh(x, x.new_zeros(1, x.shape[0], UNITS), weights, True, 1, 0.0, False, False, True)[
                0
            ]

    with pytest.raises(UnsupportedOp, match="computed from the input"):
        capture(Computed(), data(BATCH, STEPS, FEATURES))
