"""Train a network that tells sine, square and sawtooth apart, and build it as a library with its weights inside."""

import numpy as np
import torch
from torch import nn

import penjing

NAMES = ["sine", "square", "sawtooth"]
SAMPLES = 64


def waves(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Waves (count, 1, SAMPLES) of -1..1 with some noise, 2 to 6 periods, any phase; and which they are."""
    rng = np.random.default_rng(seed)
    phase = np.arange(SAMPLES) / SAMPLES * rng.uniform(2, 6, (count, 1)) + rng.uniform(0, 1, (count, 1))
    kind = rng.integers(0, 3, count)
    sine = np.sin(2 * np.pi * phase)
    forms = np.stack([sine, np.where(sine >= 0, 1.0, -1.0), 2 * (phase % 1) - 1])
    x = forms[kind, np.arange(count)] + rng.normal(0, 0.05, (count, SAMPLES))
    return torch.tensor(np.clip(x, -1, 1), dtype=torch.float32)[:, None], torch.tensor(kind)


def train(module: nn.Module, epochs: int) -> None:
    """Learn to tell the waves apart."""
    x, y = waves(3000, seed=0)
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    module.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x[chosen]), y[chosen]).backward()
            optimizer.step()
    module.eval()


torch.manual_seed(0)
torch.set_num_threads(1)  # a network this small trains fastest on one core
network = nn.Sequential(
    nn.Conv1d(1, 8, 5, stride=2, padding=2),
    nn.ReLU(),
    nn.Conv1d(8, 16, 5, stride=2, padding=2),
    nn.ReLU(),
    nn.AdaptiveAvgPool1d(1),
    nn.Flatten(),
    nn.Linear(16, len(NAMES)),
)
train(network, epochs=6)

samples, _ = waves(256, seed=1)
graph = penjing.capture(network, samples[:2], name="waves")
program = penjing.lower(penjing.quantize(graph, [samples.numpy()]))
options = penjing.BuildOptions(standalone=True, labels=NAMES)
penjing.save(penjing.build(program, options), "waves.tray", force=True)

test, kind = waves(1000, seed=2)
right = penjing.load("waves.tray").run(test.numpy()).argmax(axis=1) == kind.numpy()
with torch.inference_mode():
    print(f"float {100 * (network(test).argmax(1) == kind).float().mean():.1f} %, int8 {100 * right.mean():.1f} %")
