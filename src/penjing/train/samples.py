"""Samples to train on: what a data set must offer, the checks, and batches as tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from penjing.core.digests import digest_array
from penjing.core.errors import InvalidInput

Normalise = Callable[[np.ndarray], NDArray[np.float32]]


class TrainingData(Protocol):
    """Samples for training and test, such as `penjing.zoo.Dataset`; `normalise` makes network inputs of them."""

    @property
    def train_x(self) -> np.ndarray:
        """(n, ...) samples, in any form that `normalise` takes."""

    @property
    def train_y(self) -> np.ndarray:
        """(n,) class indices, or (n, ...) float targets."""

    @property
    def test_x(self) -> np.ndarray:
        """As train_x."""

    @property
    def test_y(self) -> np.ndarray:
        """As train_y."""

    def normalise(self, x: np.ndarray) -> NDArray[np.float32]:
        """Network inputs."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Checked training samples, normalised batch by batch so that no float copy of a whole set is needed."""

    x: np.ndarray
    y: np.ndarray
    normalise: Normalise | None

    @classmethod
    def of(cls, data: TrainingData | tuple[np.ndarray, np.ndarray]) -> "Samples":
        """The training part of a data set, or a pair of float inputs and targets.

        Raises:
            InvalidInput: no samples, another number of targets, integer inputs without a normalisation, NaN, infinity.
        """
        if isinstance(data, tuple):
            samples = cls(*data, normalise=None)
        else:
            samples = cls(data.train_x, data.train_y, data.normalise)
        x, y = samples.x, samples.y
        if len(x) == 0 or len(x) != len(y):
            raise InvalidInput(f"there are {len(x)} samples and {len(y)} targets to train on", where="x, y")
        if samples.normalise is None and x.dtype.kind != "f":
            raise InvalidInput(f"inputs must be floats, not {x.dtype}", where="x", hint="normalise them first")
        _refuse_non_finite("x", x)
        _refuse_non_finite("y", y)
        return samples

    def batch(self, chosen: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of the samples `chosen`."""
        x = self.x[chosen]
        return tensor(x if self.normalise is None else self.normalise(x)), tensor(self.y[chosen])

    def digest(self) -> str:
        """Of all contents."""
        return f"{digest_array(self.x)} {digest_array(self.y)}"


def tensor(array: np.ndarray) -> torch.Tensor:
    """float32, or int64 for class indices."""
    wanted = np.float32 if array.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.ascontiguousarray(array, dtype=wanted))


def _refuse_non_finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind != "f":
        return
    is_bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if is_bad.any():
        raise InvalidInput(f"{name} holds NaN or infinity, first in sample {int(is_bad.argmax())}", where=name)
