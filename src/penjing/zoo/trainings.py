"""Training settings that are known to work, one per network and data set, each with what it reached and how fast."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from penjing.core.errors import InvalidInput
from penjing.zoo.data import Dataset

if TYPE_CHECKING:
    from torch import nn

    from penjing.train.fit import FitResult
    from penjing.train.training import Progress


@dataclass(frozen=True)
class Training:
    """How to train one network of the catalogue on one data set.

    Attributes:
        model: name in the catalogue.
        dataset: name that `penjing.zoo.load` takes.
        epochs: passes over the training samples.
        batch_size: samples per step.
        learning_rate: the highest of the schedule.
        optimizer: as `penjing.train.fit.fit` takes it.
        schedule: likewise.
        weight_decay: likewise.
        crop_and_flip: augment by random crops and mirror images.
        reached: accuracy on the test set, 0..1: the lowest of the seeds tried.
    """

    model: str
    dataset: str
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Literal["adam", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "one-cycle"] = "one-cycle"
    weight_decay: float = 0.0
    crop_and_flip: bool = False
    reached: float = 0.0

    def fit(
        self,
        module: "nn.Module",
        data: Dataset,
        *,
        seed: int = 0,
        progress: "Callable[[Progress], None] | None" = None,
        checkpoint: Path | None = None,
    ) -> "FitResult":
        """Train `module` in place with these settings; arguments and errors are those of `penjing.train.fit.fit`."""
        from penjing.train.augment import crop_and_flip
        from penjing.train.fit import fit

        return fit(
            module,
            data,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            schedule=self.schedule,
            weight_decay=self.weight_decay,
            augment=crop_and_flip if self.crop_and_flip else None,
            seed=seed,
            progress=progress,
            checkpoint=checkpoint,
        )


def find(model: str, dataset: str) -> Training:
    """The training for this network and data set.

    Raises:
        InvalidInput: there is none; the message lists those there are.
    """
    for training in TRAININGS:
        if (training.model, training.dataset) == (model, dataset):
            return training
    known = ", ".join(f"{training.model} on {training.dataset}" for training in TRAININGS)
    raise InvalidInput(f"there is no training for {model!r} on {dataset!r}", hint=f"there are: {known}")


# Seconds of one CPU core: edgecnn on digits 4, on MNIST 50; lenet5 60; lenet300 10.
# Seeds tried: 0 to 2 for edgecnn, 0 for the LeNets.
TRAININGS = (
    Training("edgecnn", "digits", epochs=10, batch_size=32, learning_rate=0.003, reached=0.980),
    Training("edgecnn", "mnist", epochs=2, batch_size=64, learning_rate=0.05, optimizer="sgd", reached=0.991),
    Training("lenet300", "mnist", epochs=5, batch_size=128, learning_rate=0.003, reached=0.984),
    Training("lenet5", "mnist", epochs=2, batch_size=128, learning_rate=0.003, reached=0.992),
)
