"""What a recipe is applied with: typical inputs, samples to train on, labelled samples to measure on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penjing.compress.observe import Batch
from penjing.ir.graph import Graph

if TYPE_CHECKING:
    from penjing.train.samples import TrainingData

# (what is being done, how much of it is done, of how much or None)
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, eq=False)
class Labelled:
    """`x` (n, ...) float32, normalised as in training; `y` (n,) class indices."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Data:
    """All of it is optional; a step that needs what is not there is refused before any work.

    Attributes:
        calibration: batches of typical inputs, float32 (N, ...), normalised as in training; a tuple for several inputs.
        training: samples to train on, such as `penjing.zoo.Dataset`.
        tested: labelled samples on which every step's accuracy is measured.
        teacher: a float network for `distil` to learn from; None for the one that the recipe is given.
    """

    calibration: Sequence[Batch] = ()
    training: "TrainingData | None" = None
    tested: Labelled | None = None
    teacher: Graph | None = None

    @property
    def calibration_samples(self) -> int:
        """How many there are in all batches."""
        return sum(len(batch[0] if isinstance(batch, tuple) else batch) for batch in self.calibration)
