"""Train an autoencoder on healthy pumps, compress it, write pump.tray, and measure what that cost."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from vibration import BINS, spectra, strangeness

import penjing


def train(module: nn.Module, x: torch.Tensor, epochs: int) -> None:
    """Learn to rebuild `x`."""
    optimizer = torch.optim.Adam(module.parameters(), 0.003)
    module.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.l1_loss(module(x[chosen]), x[chosen]).backward()
            optimizer.step()
    module.eval()


def report(name: str, run: Callable[[np.ndarray], np.ndarray], nbytes: int) -> None:
    """Print how the network judges pumps that it has not heard."""
    found, wrong = (
        (strangeness(heard, run(heard)) > threshold).mean()
        for heard in (spectra(1000, worn=True, seed=2), spectra(1000, worn=False, seed=3))
    )
    judged = f"finds {100 * found:.1f} % of worn pumps, suspects {100 * wrong:.1f} % of healthy ones"
    print(f"{name:6} {judged}, {nbytes:,} bytes")


torch.manual_seed(0)
torch.set_num_threads(1)  # a network this small trains fastest on one core
network = nn.Sequential(
    nn.Linear(BINS, 32), nn.ReLU(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, BINS)
)
healthy = spectra(4000, worn=False, seed=0)
train(network, torch.from_numpy(healthy), epochs=30)


def in_float(x: np.ndarray) -> np.ndarray:
    """The network as it was trained."""
    with torch.inference_mode():
        return network(torch.from_numpy(x)).numpy()


threshold = float(np.quantile(strangeness(healthy, in_float(healthy)), 0.99))

graph = penjing.capture(network, healthy[:2], name="pump")
program = penjing.lower(penjing.quantize(graph, [healthy[:500]]))
# what else the device must know travels in the tray, on its card
card = {"description": "hears worn pumps", "threshold": repr(threshold)}
penjing.save(penjing.build(program, penjing.BuildOptions(card=card)), "pump.tray", force=True)

model = penjing.load("pump.tray")
report("float", in_float, 4 * graph.parameters())
report("int8", model.run, model.tray.manifest.variants["default"].weights_bytes)
