"""The state of an unfinished training in one file: tensors and plain values, written whole or not at all.

The file is a line with the SHA-256 of the rest, then what `torch.save` wrote. A damaged file is told by its digest; an
honest one is read with torch's `weights_only` loader, which builds tensors and containers and executes nothing.
"""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from penjing.core import files
from penjing.core.digests import digest_array, digest_bytes
from penjing.core.errors import InvalidInput

FORMAT = 1


@dataclass(frozen=True)
class TrainingState:
    """How far a training has come.

    Attributes:
        epoch: epochs completed.
        step: steps completed in the epoch under way.
        losses: mean loss of every completed epoch.
        loss_sum: sum of the losses of the epoch under way.
    """

    epoch: int = 0
    step: int = 0
    losses: tuple[float, ...] = ()
    loss_sum: float = 0.0

    def after_step(self, loss: float, steps: int) -> "TrainingState":
        """The state one step later, in a training with `steps` steps to the epoch."""
        done, total = self.step + 1, self.loss_sum + loss
        if done < steps:
            return TrainingState(self.epoch, done, self.losses, total)
        return TrainingState(self.epoch + 1, 0, (*self.losses, total / steps), 0.0)


@dataclass(frozen=True)
class Checkpoint:
    """A file, and the training that it belongs to.

    Attributes:
        path: the file.
        identity: everything that decides the course of the training: settings, and digests of data and first weights.
    """

    path: Path
    identity: dict[str, str]

    def save(
        self, state: TrainingState, module: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> None:
        """Replace the file by the present state.

        Raises:
            WriteFailed: the disk is full, read-only, or the folder is missing; an older file is still whole.
        """
        content = {
            "format": FORMAT,
            "identity": self.identity,
            "epoch": state.epoch,
            "step": state.step,
            "losses": list(state.losses),
            "loss_sum": state.loss_sum,
            "module": module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "torch_random": torch.random.get_rng_state(),
            "augment_random": generator.get_state(),
        }
        write_content(self.path, content)

    def restore(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> TrainingState | None:
        """Bring module, optimizer and random states to where the file left them; None when there is no file.

        Raises:
            InvalidInput: the file is damaged, or belongs to another training.
        """
        content = read_content(self.path, self.identity)
        if content is None:
            return None
        try:
            module.load_state_dict(content["module"])
            optimizer.load_state_dict(content["optimizer"])
            generator.set_state(content["augment_random"])
            torch.random.set_rng_state(content["torch_random"])
            return TrainingState(content["epoch"], content["step"], tuple(content["losses"]), content["loss_sum"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise damaged(self.path, str(error)) from error


def write_content(path: Path, content: dict[str, Any]) -> None:
    """Tensors and plain values as a file; errors as in `Checkpoint.save`."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getvalue()
    files.write_atomically(path, digest_bytes(payload).encode() + b"\n" + payload, force=True)


def read_content(path: Path, identity: dict[str, str]) -> dict[str, Any] | None:
    """The inverse, None when there is no file; errors as in `Checkpoint.restore`."""
    if not path.exists():
        return None
    content = _read(path)
    _refuse_another_training(path, content.get("identity"), identity)
    return content


def damaged(path: Path, what: str) -> InvalidInput:
    """The error for a file that does not hold what it should."""
    return InvalidInput(
        f"the checkpoint cannot be read: {what}", where=str(path), hint="delete the file to start afresh"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        digest, _, payload = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error
    if digest != digest_bytes(payload).encode():
        raise damaged(path, "its digest does not match its contents")
    try:
        content = torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise damaged(path, str(error)) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise damaged(path, "it is not a checkpoint of this release")
    return content


def _refuse_another_training(path: Path, saved: Any, identity: dict[str, str]) -> None:
    if saved == identity:
        return
    saved = saved if isinstance(saved, dict) else {}
    differing = sorted(key for key in saved.keys() | identity.keys() if saved.get(key) != identity.get(key))
    raise InvalidInput(
        f"the checkpoint belongs to another training: {', '.join(differing)} differ",
        where=str(path),
        hint="delete the file to start afresh, or name another",
    )


def digest_state(module: nn.Module) -> str:
    """SHA-256 over names and contents of all parameters and buffers."""
    parts = []
    for name, tensor in module.state_dict().items():
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        parts.append(f"{name} {tensor.dtype} {list(tensor.shape)} {digest_array(raw.numpy())}")
    return digest_bytes("\n".join(parts).encode())
