"""Channels removed by Torch-Pruning: `python prune.py FOLDER OUTPUT SHARE IMPORTANCES`. See ../contract.py.

As its authors prune networks for CIFAR-10: ranked over all layers, in many small steps, until the share is reached.
It takes the zero channels of an option A shortcut for an operation on each channel by itself: channel i before is
removed with channel i behind, though the shortcut puts it 8 or 16 further on. Hence three ways to prune:

inside blocks      the channels between the two convolutions of a block; what shortcuts join stays
shortcuts as conv  all channels, with each such shortcut as the 1x1 convolution that computes the same
as given           all channels, shortcuts as they are, to see what that costs
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from contract import attempt_file

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "src"))  # what the network is, nothing more
from penjing.zoo.models.resnet_cifar import BasicBlock, ResNetCIFAR

STEPS = 100
GRADIENTS_EVERY = 5  # steps; between them, gradients lose the channels that their parameters lose
BATCH = 64
SINGLE = 128  # images whose gradients are taken one by one
IMPORTANCES = {
    "L1": lambda: tp.importance.GroupMagnitudeImportance(p=1),
    "L2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
    "BN scale": tp.importance.BNScaleImportance,
    "FPGM": tp.importance.FPGMImportance,
    "Taylor": tp.importance.GroupTaylorImportance,
    "Hessian": tp.importance.GroupHessianImportance,
}


@dataclass(frozen=True)
class Setting:
    """One way to prune; its text is the name of the form."""

    importance: str
    place: str
    multiple: int = 8

    def __str__(self) -> str:
        counts = f"multiples of {self.multiple}" if self.multiple > 1 else "any number"
        return f"{self.importance}, {self.place}, {counts}"


SETTINGS = (
    *(Setting(name, "inside blocks", multiple) for name in IMPORTANCES for multiple in (8, 1)),
    *(Setting("L1", "shortcuts as conv", multiple) for multiple in (8, 1)),
    Setting("L1", "as given"),
)


class ConvShortcut(nn.Module):
    """A block whose shortcut puts the channels in the middle of its output by a 1x1 convolution with zeros and ones."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = block.conv1, block.bn1, block.conv2, block.bn2
        given, made = block.conv1.in_channels, block.conv2.out_channels
        self.shortcut = nn.Conv2d(given, made, 1, stride=block.stride, bias=False)
        before = block.extra_channels // 2
        with torch.no_grad():
            self.shortcut.weight.zero_()
            self.shortcut.weight[before : before + given, :, 0, 0] = torch.eye(given)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the block computes."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


def main() -> None:
    """One exported program for every setting."""
    folder, output, share, importances = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(1)
    weights = {name: torch.from_numpy(array) for name, array in np.load(folder / "weights.npz").items()}
    x, y = (torch.from_numpy(np.load(folder / name)) for name in ("calibration.npy", "labels.npy"))
    for setting in (s for s in SETTINGS if s.importance in importances.split(",")):

        def write(path: Path, setting: Setting = setting) -> None:
            small = pruned(given(weights), setting, x, y.long(), share)
            batch = torch.export.Dim("batch")
            torch.export.save(torch.export.export(small, (x[:2],), dynamic_shapes=({0: batch},)), path)

        attempt_file(output, str(setting), "model", ".pt2", write)


def given(weights: dict[str, torch.Tensor]) -> ResNetCIFAR:
    """The trained network."""
    network = ResNetCIFAR(20)
    network.load_state_dict(weights)
    return network.eval()


def pruned(network: ResNetCIFAR, setting: Setting, x: torch.Tensor, y: torch.Tensor, share: float) -> ResNetCIFAR:
    """`network`, which is changed, with at most `share` of the operations that Torch-Pruning counts."""
    limit = share * _operations(network, x)
    ignored: list[nn.Module] = [network.linear]
    if setting.place == "inside blocks":
        ignored += [network.conv1, *(m.conv2 for m in network.modules() if isinstance(m, BasicBlock))]
    if setting.place == "shortcuts as conv":
        for stack in (network.layer2, network.layer3):
            stack[0] = ConvShortcut(stack[0])
    importance = IMPORTANCES[setting.importance]()
    pruner = tp.pruner.BasePruner(
        network,
        x[:1],
        importance=importance,
        global_pruning=True,
        isomorphic=setting.place == "shortcuts as conv",
        pruning_ratio=1.0,
        iterative_steps=STEPS,
        round_to=setting.multiple if setting.multiple > 1 else None,
        ignored_layers=ignored,
    )
    while pruner.current_step < STEPS:
        if pruner.current_step % GRADIENTS_EVERY == 0:
            _set_gradients(network, importance, x, y)
        for group in pruner.step(interactive=True):
            group.prune()
            if _operations(network, x) <= limit:
                network.zero_grad()
                return network
    raise RuntimeError(f"{_operations(network, x) / limit * share:.3f} of the operations are left at best")


def _operations(network: nn.Module, x: torch.Tensor) -> float:
    return float(tp.utils.count_ops_and_params(network, x[:1])[0])


def _set_gradients(network: nn.Module, importance: tp.importance.Importance, x: torch.Tensor, y: torch.Tensor) -> None:
    """What `importance` reads from the parameters' gradients, if anything."""
    if isinstance(importance, tp.importance.GroupTaylorImportance):
        network.zero_grad()
        for images, labels in zip(x.split(BATCH), y.split(BATCH), strict=True):
            (F.cross_entropy(network(images), labels, reduction="sum") / len(x)).backward()
    if isinstance(importance, tp.importance.GroupHessianImportance):
        _set_squared_gradients(network, lambda i: F.cross_entropy(network(x[i : i + 1]), y[i : i + 1]))


def _set_squared_gradients(network: nn.Module, loss: Callable[[int], torch.Tensor]) -> None:
    """Means over single images; the tool's own `accumulate_grad` (1.6.1) keeps none but the last image's."""
    means = [torch.zeros_like(p) for p in network.parameters()]
    for i in range(SINGLE):
        network.zero_grad()
        loss(i).backward()
        for mean, p in zip(means, network.parameters(), strict=True):
            mean.add_(p.grad.square(), alpha=1 / SINGLE)
    for mean, p in zip(means, network.parameters(), strict=True):
        p.grad = mean


if __name__ == "__main__":
    main()
