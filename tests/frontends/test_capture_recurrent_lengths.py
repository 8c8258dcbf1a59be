"""Recurrent layers of torch in sequences of any length: torch's numbers at every length, in both directions."""

import numpy as np
import pytest

from penjing.core.errors import UnsupportedOp
from penjing.core.length import Length
from penjing.frontends.torch_export import capture
from penjing.ops.evaluate import evaluate

torch = pytest.importorskip("torch")
nn = torch.nn

LONGEST = 9


class Net(nn.Module):
    """A recurrent layer, and what is read of it."""

    def __init__(self, layer, read) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.read = layer(), read

    def forward(self, x):
        y, states = self.layer(x)
        return self.read(y, states)


def every(y, states):
    return y


def ends(y, states):
    return torch.cat([*states], 1)


LAYERS = {
    "lstm": lambda: nn.LSTM(3, 4, batch_first=True),
    "lstm, both ways, two layers": lambda: nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True),
    "lstm, projected": lambda: nn.LSTM(3, 4, batch_first=True, proj_size=2),
    "gru, both ways": lambda: nn.GRU(3, 4, batch_first=True, bidirectional=True),
    "gru without biases": lambda: nn.GRU(3, 4, batch_first=True, bias=False),
    "plain": lambda: nn.RNN(3, 4, batch_first=True),
    "plain, rectified, both ways": lambda: nn.RNN(3, 4, 2, "relu", batch_first=True, bidirectional=True),
}
READ = {"every step": every, "the last state": lambda y, h: ends(y, h[0] if isinstance(h, tuple) else h)}


def at_every_length(module, graph):
    for length in range(1, LONGEST + 1):
        x = np.random.default_rng(length).normal(size=(2, length, 3)).astype(np.float32)
        with torch.no_grad():
            want = module(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(evaluate(graph, x)[0], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("read", READ.values(), ids=READ)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_layer_is_torchs_at_every_length(layer, read):
    module = Net(layer, read).eval()
    at_every_length(module, capture(module, torch.randn(2, 5, 3), length=Length(LONGEST)))


def test_time_may_come_first_inside():
    class TimeFirst(Net):
        def forward(self, x):
            y, states = self.layer(x.transpose(0, 1))
            return torch.cat([y[-1], states[-1]], 1)

    module = TimeFirst(lambda: nn.GRU(3, 4, bidirectional=True), None).eval()
    at_every_length(module, capture(module, torch.randn(2, 5, 3), length=Length(LONGEST)))


def test_the_cell_at_the_end_is_carried():
    module = Net(lambda: nn.LSTM(3, 4, batch_first=True, bidirectional=True), lambda y, h: ends(y, h[1])).eval()
    at_every_length(module, capture(module, torch.randn(2, 5, 3), length=Length(LONGEST)))


def test_packed_sequences_are_refused():
    def pack(y, states):
        packed = nn.utils.rnn.pack_padded_sequence(y, torch.tensor([5, 5]), batch_first=True)
        return nn.LSTM(4, 4)(packed)[0].data

    with pytest.raises(UnsupportedOp):
        capture(Net(LAYERS["lstm"], pack).eval(), torch.randn(2, 5, 3), length=Length(LONGEST))


def test_torch_is_left_as_it_was():
    own = [getattr(torch._VF, name) for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")]
    capture(Net(LAYERS["lstm"], every).eval(), torch.randn(2, 5, 3), length=Length(LONGEST))
    assert [getattr(torch._VF, name) for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")] == own
    assert nn.GRU(3, 4)(torch.zeros(2, 1, 3))[0].shape == (2, 1, 4)
