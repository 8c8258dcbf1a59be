"""EdgeCNN, the network of the founding article: two convolutions and two fully connected layers on a 1x32x32 image."""

import torch
import torch.nn.functional as F
from torch import nn


class EdgeCNN(nn.Module):
    """(n, 1, 32, 32) -> (n, 10) logits; 268,362 parameters, 1.6 M MACs.

    The layers and their order are the article's; only the import of `torch.nn.functional`, which it forgot, is added.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(32 * 8 * 8, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the ten classes."""
        x = self.pool(F.relu(self.conv1(x)))  # (n, 16, 16, 16)
        x = self.pool(F.relu(self.conv2(x)))  # (n, 32, 8, 8)
        x = x.view(-1, 32 * 8 * 8)
        x = F.relu(self.fc1(x))
        return self.fc2(x)
