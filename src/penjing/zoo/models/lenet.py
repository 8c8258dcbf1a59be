"""LeNet-300-100 and LeNet-5 (LeCun et al., 1998), in the forms that the pruning literature measures on MNIST."""

import torch
import torch.nn.functional as F
from torch import nn


class LeNet300(nn.Module):
    """(n, 1, 28, 28) -> (n, 10) logits: fully connected 784-300-100-10; 266,610 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the ten classes."""
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class LeNet5(nn.Module):
    """(n, 1, 28, 28) -> (n, 10) logits: the Caffe form, 20-50-500-10; 431,080 parameters, 2.3 M MACs.

    As in Caffe's example, the convolutions have no padding and no activation, the pools take the maximum, and the one
    rectifier follows the first fully connected layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the ten classes."""
        x = F.max_pool2d(self.conv1(x), 2)  # (n, 20, 12, 12)
        x = F.max_pool2d(self.conv2(x), 2)  # (n, 50, 4, 4)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)
