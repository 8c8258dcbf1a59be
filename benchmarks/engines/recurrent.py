"""LSTM and GRU of 2 layers of 128 units, 100 steps of 40 features, as `torch.nn.LSTM` and `torch.nn.GRU` begin them.

Whole sequences in, all steps out. Inputs are noise that is smooth in time.
"""

import numpy as np
import torch

STEPS, FEATURES, UNITS, LAYERS = 100, 40, 128, 2
KINDS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


class Sequence(torch.nn.Module):
    """(N, T, features) -> (N, T, units): the last layer's output at all steps."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layers = KINDS[kind](FEATURES, UNITS, LAYERS, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All steps at once."""
        return self.layers(x)[0]


def network(kind: str) -> torch.nn.Module:
    """In evaluation mode; the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Sequence(kind).eval()


def title(kind: str) -> str:
    """For tables."""
    return f"{kind.upper()} {LAYERS} x {UNITS}, {STEPS} steps of {FEATURES}"


def sequences(count: int, seed: int) -> np.ndarray:
    """Noise (count, steps, features) of about unit variance, of which each step keeps four fifths of the last."""
    noise = np.random.default_rng(seed).normal(size=(count, STEPS, FEATURES))
    x = np.empty_like(noise)
    x[:, 0] = noise[:, 0]
    for t in range(1, STEPS):
        x[:, t] = 0.8 * x[:, t - 1] + 0.6 * noise[:, t]
    return x.astype(np.float32)
