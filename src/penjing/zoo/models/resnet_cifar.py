"""ResNets for 32x32 images: the CIFAR form of the paper, and the ResNet-8 of the MLPerf Tiny benchmark.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (2015), section 4.2. The paper's networks for CIFAR-10
have 6n + 2 layers and use "option A" shortcuts, which hold no parameters: where the resolution halves, every second
pixel is taken and the missing channels are zeros.
"""

import torch
import torch.nn.functional as F
from torch import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around an option A shortcut; (n, c_in, h, w) -> (n, c_out, h/s, w/s)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.extra_channels = channels - in_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output, after the second rectifier."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        """The input itself, or every second pixel of it with zero channels on both sides."""
        if self.stride == 1 and self.extra_channels == 0:
            return x
        before = self.extra_channels // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.extra_channels - before))


class ResNetCIFAR(nn.Module):
    """(n, 3, 32, 32) -> (n, classes) logits; depth 20 has 0.27 M parameters and 41 M MACs.

    Args:
        depth: 6n + 2 layers: 8, 14, 20, 32, 44, 56, ...
        classes: number of logits.
    """

    def __init__(self, depth: int, classes: int = 10) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stack(16, 16, blocks, stride=1)
        self.layer2 = _stack(16, 32, blocks, stride=2)
        self.layer3 = _stack(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the classes."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = x.mean(dim=(2, 3))
        return self.linear(x)


def _stack(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


class ConvShortcutBlock(nn.Module):
    """A residual block in the Keras form: convolutions with bias; a bare 1x1 convolution where the size changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        # Keras pads an even size before a 3x3 convolution of stride 2 at the end only.
        self.pad: nn.Module = nn.ZeroPad2d((0, 1, 0, 1)) if stride == 2 else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=0 if stride == 2 else 1)
        self.bn1 = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
        self.shortcut: nn.Module = nn.Conv2d(in_channels, channels, 1, stride=2) if stride == 2 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output, after the second rectifier."""
        out = F.relu(self.bn1(self.conv1(self.pad(x))))
        out = self.bn2(self.conv2(out))
        return F.relu(self.shortcut(x) + out)


class ResNet8(nn.Module):
    """(n, 3, 32, 32) -> (n, 10) logits: image classification of MLPerf Tiny; 78 k parameters, 12.5 M MACs.

    Three stacks of one block (16, 32 and 64 channels). The benchmark ends in a softmax; here it is left to the loss.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.bn = nn.BatchNorm2d(16, eps=1e-3, momentum=0.01)
        self.stack1 = ConvShortcutBlock(16, 16, stride=1)
        self.stack2 = ConvShortcutBlock(16, 32, stride=2)
        self.stack3 = ConvShortcutBlock(32, 64, stride=2)
        self.pool = nn.AvgPool2d(8)
        self.fc = nn.Linear(64, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the ten classes."""
        x = F.relu(self.bn(self.conv(x)))
        x = self.stack3(self.stack2(self.stack1(x)))
        x = torch.flatten(self.pool(x), 1)
        return self.fc(x)
