"""DS-CNN: the depthwise separable network for keyword spotting of MLPerf Tiny.

Zhang, Suda, Lai, Chandra: Hello Edge: Keyword Spotting on Microcontrollers (2017); the benchmark's Keras form, in which
every convolution has a bias and a batch norm.
"""

import torch
import torch.nn.functional as F
from torch import nn


class SeparableBlock(nn.Module):
    """Depthwise 3x3, then pointwise 1x1, each with batch norm and rectifier; the shape stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.bn1 = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, c, h, w)."""
        x = F.relu(self.bn1(self.depthwise(x)))
        return F.relu(self.bn2(self.pointwise(x)))


class DSCNN(nn.Module):
    """(n, 1, 49, 10) MFCCs (49 frames of 10) -> (n, 12) logits; 23.8 k parameters, 2.7 M MACs.

    The benchmark ends in a softmax; here it is left to the loss.
    """

    def __init__(self, classes: int = 12) -> None:
        super().__init__()
        # 'same' padding of a 10x4 kernel with stride 2 on 49x10: 4 rows above, 5 below, 1 column each side.
        self.pad = nn.ZeroPad2d((1, 1, 4, 5))
        self.conv = nn.Conv2d(1, 64, (10, 4), stride=2)
        self.bn = nn.BatchNorm2d(64, eps=1e-3, momentum=0.01)
        self.dropout1 = nn.Dropout(0.2)
        self.blocks = nn.Sequential(*(SeparableBlock(64) for _ in range(4)))
        self.dropout2 = nn.Dropout(0.4)
        self.pool = nn.AvgPool2d((25, 5))
        self.fc = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the keywords."""
        x = F.relu(self.bn(self.conv(self.pad(x))))  # (n, 64, 25, 5)
        x = self.blocks(self.dropout1(x))
        x = self.pool(self.dropout2(x))
        return self.fc(torch.flatten(x, 1))
