"""The fully connected autoencoder for anomaly detection in machine sounds of MLPerf Tiny (DCASE 2020, task 2)."""

import torch
from torch import nn

HIDDEN = (128, 128, 128, 128, 8, 128, 128, 128, 128)


class Autoencoder(nn.Module):
    """(n, 640) log-mel energies (5 frames of 128 bands) -> (n, 640) reconstruction; 0.27 M parameters and MACs.

    Every layer but the last is followed by batch norm and a rectifier, the bottleneck of 8 included. The mean square of
    input minus output is the anomaly score.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        features = 640
        for hidden in HIDDEN:
            layers += [
                nn.Linear(features, hidden),
                nn.BatchNorm1d(hidden, eps=1e-3, momentum=0.01),
                nn.ReLU(),
            ]
            features = hidden
        layers.append(nn.Linear(features, 640))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The reconstruction, in the input's units."""
        return self.layers(x)
