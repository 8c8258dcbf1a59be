"""Trained weights from the data folder, loaded strictly: every tensor of the network, and nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from penjing.core.errors import InvalidInput
from penjing.zoo import catalog
from penjing.zoo.archive import damaged, data_file, read_arrays

if TYPE_CHECKING:
    from torch import nn

# Network of the catalogue -> file in the data folder.
FILES = {"resnet20": "resnet20_cifar10_jpeg.npz"}


def trained(name: str) -> "nn.Module":
    """The network `name` of the catalogue with its trained weights, in evaluation mode.

    "resnet20": 86.55 % on the 10,000 test images of CIFAR-10 (JPEG).

    Raises:
        InvalidInput: there are no trained weights for it, or the file does not fit.
        MissingData: the file is not on this machine.
    """
    if name not in FILES:
        raise InvalidInput(
            f"there are no trained weights for {name!r}", hint=f"there are for {', '.join(sorted(FILES))}"
        )
    path = data_file(FILES[name])
    module = catalog.create(name)
    load_into(module, path)
    return module


def load_into(module: "nn.Module", path: Path) -> None:
    """Copy the arrays of an .npz file, named as in the state dict, into `module`.

    Raises:
        InvalidInput: a tensor is missing, left over, of another shape, or not finite; `module` is then untouched.
    """
    import torch

    arrays = read_arrays(path)
    state = module.state_dict()
    missing, extra = sorted(state.keys() - arrays.keys()), sorted(arrays.keys() - state.keys())
    if missing or extra:
        raise damaged(path, f"missing: {', '.join(missing) or 'nothing'}; left over: {', '.join(extra) or 'nothing'}")
    for key, array in arrays.items():
        if array.shape != tuple(state[key].shape):
            raise damaged(path, f"{key} has the shape {array.shape}, the network {tuple(state[key].shape)}")
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise damaged(path, f"{key} holds values that are no finite numbers")
    module.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()}, strict=True)
