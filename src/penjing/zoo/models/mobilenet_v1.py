"""MobileNetV1, width 0.25: visual wake words (person or no person) of MLPerf Tiny.

Howard et al.: MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications (2017). This is the
benchmark's Keras form, in which every convolution has a bias and a batch norm.
"""

import torch
from torch import nn

# (output channels at width 1, stride) of the thirteen separable blocks; table 1 of the paper.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


class MobileNetV1(nn.Module):
    """(n, 3, 96, 96) -> (n, classes) logits; at width 0.25 with 2 classes 0.22 M parameters and 7.5 M MACs.

    Any height and width that 32 divides will do. The benchmark ends in a softmax; here it is left to the loss.
    """

    def __init__(self, width: float = 0.25, classes: int = 2) -> None:
        super().__init__()
        channels = int(32 * width)
        layers = _conv(3, channels, stride=2)
        for base, stride in BLOCKS:
            out_channels = int(base * width)
            layers += _conv(channels, channels, stride=stride, groups=channels)
            layers += _conv(channels, out_channels, kernel=1)
            channels = out_channels
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the classes."""
        x = self.pool(self.features(x))
        return self.fc(x.flatten(1))


def _conv(in_channels: int, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    # Keras pads an even size before a 3x3 convolution of stride 2 at the end only.
    pad = [nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 else []
    return [
        *pad,
        nn.Conv2d(in_channels, channels, kernel, stride, padding=0 if stride == 2 else kernel // 2, groups=groups),
        nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01),
        nn.ReLU(),
    ]
