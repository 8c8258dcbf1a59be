"""The trained networks that benchmarks compare, and their w8a8 form."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from penjing import api
from penjing.bundle.tray import read_tray
from penjing.ir.graph import Graph
from penjing.measure.correct import correct
from penjing.runtime.loading import from_tray
from penjing.runtime.model import Model
from penjing.zoo import catalog, data, trainings, weights
from penjing.zoo.data import Dataset

CALIBRATION_SAMPLES = 512
BATCH = 32


@dataclass(frozen=True, eq=False)
class Subject:
    """One trained network with its data.

    Attributes:
        name: in the catalogue.
        title: for tables.
        origin: where the weights come from.
        module: in evaluation mode.
        dataset: what it was trained on.
    """

    name: str
    title: str
    origin: str
    module: torch.nn.Module
    dataset: Dataset

    def calibration(self) -> np.ndarray:
        """(512, ...) normalised training images: every tool calibrates on these."""
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.dataset.train_x))[:CALIBRATION_SAMPLES])
        return self.dataset.normalise(self.dataset.train_x[chosen])

    def program(self) -> Graph:
        """The network in w8a8, lowered."""
        graph = api.capture(self.module, catalog.find(self.name).random_inputs(2), name=self.name)
        inputs = self.calibration()
        return api.lower(api.quantize(graph, (inputs[i : i + BATCH] for i in range(0, len(inputs), BATCH))))

    def tray(self) -> bytes:
        """A tray with the library for this machine, without source."""
        return api.build(self.program(), api.BuildOptions(with_source=False))

    def right(self, run: Callable[[np.ndarray], np.ndarray | tuple[np.ndarray, ...]], count: int) -> np.ndarray:
        """(count,) which of the first test images `run` gets right; it takes normalised images."""
        x, y = self.dataset.test_x[:count], self.dataset.test_y[:count]
        return correct(lambda part: run(self.dataset.normalise(part)), x, y)


def library_model(tray: bytes) -> Model:
    """The tray, run by its compiled library."""
    return from_tray(read_tray(tray), engine="library")


def subjects() -> tuple[Subject, ...]:
    """EdgeCNN, trained here as the zoo says (a minute), and ResNet-20 with the weights of the data folder.

    Raises:
        MissingData: the data folder lacks a file.
    """
    mnist, cifar10 = data.load("mnist"), data.load("cifar10")
    resnet20 = weights.trained("resnet20")
    edgecnn = catalog.create("edgecnn")
    print("training EdgeCNN on MNIST", flush=True)
    trainings.find("edgecnn", "mnist").fit(edgecnn, mnist)
    given = weights.FILES["resnet20"]
    return (
        Subject("edgecnn", "EdgeCNN", "the zoo's training, seed 0", edgecnn, mnist),
        Subject("resnet20", "ResNet-20", given, resnet20, cifar10),
    )
