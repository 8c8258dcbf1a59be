"""The catalogue of reference networks: names, builders, what goes in and what comes out. Building imports torch."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from penjing.core.errors import InvalidInput, MissingDependency
from penjing.zoo.data import CIFAR10_LABELS, DIGIT_LABELS
from penjing.zoo.inputs import GRAY_DIGITS, LOG_MEL, MFCC, RGB, RGB_PLAIN, InputKind

if TYPE_CHECKING:
    from torch import nn

# In the benchmark's order.
KEYWORDS = ("Down", "Go", "Left", "No", "Off", "On", "Right", "Stop", "Up", "Yes", "Silence", "Unknown")


@dataclass(frozen=True)
class ZooModel:
    """One reference network.

    Attributes:
        name: as given to `find`.
        title: as written in tables.
        build: makes the module with torch's current random state; `create` makes it from a seed.
        input_shape: without the batch.
        input: what the numbers at the input mean.
        labels: names of the classes; None where the output is no class, or the list is the user's.
        dataset: name of the data set to train it on, as `penjing.zoo.load` takes it; None where there is none here.
    """

    name: str
    title: str
    build: Callable[[], "nn.Module"]
    input_shape: tuple[int, ...]
    input: InputKind
    labels: tuple[str, ...] | None = None
    dataset: str | None = None

    def random_inputs(self, count: int, seed: int = 0) -> NDArray[np.float32]:
        """(count, *input_shape) values, uniform over the value range and then normalised."""
        low, high = self.input.value_range
        values = np.random.default_rng(seed).uniform(low, high, (count, *self.input_shape))
        return self.input.normalise(values.astype(np.float32))


def names() -> tuple[str, ...]:
    """Names of all reference networks, in the order of the catalogue."""
    return tuple(model.name for model in _MODELS)


def find(name: str) -> ZooModel:
    """The network called `name`.

    Raises:
        InvalidInput: there is none; the message lists those there are.
    """
    for model in _MODELS:
        if model.name == name:
            return model
    raise InvalidInput(f"there is no network {name!r} in the zoo", hint=f"choose one of {', '.join(names())}")


def create(name: str, seed: int = 0, trained_batchnorm: bool = False) -> "nn.Module":
    """The network `name`, untrained, in evaluation mode; the same seed gives the same weights.

    Args:
        name: a name of the catalogue.
        seed: of the weights; torch's own random state is left as it was.
        trained_batchnorm: give every batch norm a random gamma and beta and the running statistics of random inputs.
            Activations then keep sane ranges through the depth of the network, as they do after training.
    """
    model = find(name)
    torch = _torch()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = model.build()
        if trained_batchnorm:
            _settle_batchnorm(module, model.random_inputs(16, seed))
    return module.eval()


def _settle_batchnorm(module: "nn.Module", inputs: NDArray[np.float32]) -> None:
    from torch.nn.modules.batchnorm import _BatchNorm

    torch = _torch()
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    with torch.no_grad():
        for layer in norms:
            layer.weight.uniform_(0.5, 1.5)
            layer.bias.normal_(0.0, 0.2)
            layer.reset_running_stats()
            layer.momentum = None  # None: the plain average over all passes
        module.train()
        for part in np.array_split(inputs, 2):
            module(torch.from_numpy(part))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def _build(file: str, class_name: str, **options: int) -> "nn.Module":
    _torch()
    module = importlib.import_module(f"penjing.zoo.models.{file}")
    return cast("nn.Module", getattr(module, class_name)(**options))


def _torch() -> ModuleType:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise MissingDependency(
            "the reference networks are torch modules, and torch is not installed",
            hint="pip install 'penjing[compress]'",
        ) from error


_MODELS = (
    ZooModel(
        "edgecnn",
        "EdgeCNN",
        partial(_build, "edge_cnn", "EdgeCNN"),
        (1, 32, 32),
        GRAY_DIGITS,
        DIGIT_LABELS,
        "digits",
    ),
    ZooModel(
        "lenet5",
        "LeNet-5 (Caffe)",
        partial(_build, "lenet", "LeNet5"),
        (1, 28, 28),
        GRAY_DIGITS,
        DIGIT_LABELS,
        "mnist",
    ),
    ZooModel(
        "lenet300",
        "LeNet-300-100",
        partial(_build, "lenet", "LeNet300"),
        (1, 28, 28),
        GRAY_DIGITS,
        DIGIT_LABELS,
        "mnist",
    ),
    ZooModel(
        "resnet8",
        "ResNet-8 (MLPerf Tiny)",
        partial(_build, "resnet_cifar", "ResNet8"),
        (3, 32, 32),
        RGB,
        CIFAR10_LABELS,
        "cifar10",
    ),
    ZooModel(
        "resnet8-option-a",
        "ResNet-8 (CIFAR form)",
        partial(_build, "resnet_cifar", "ResNetCIFAR", depth=8),
        (3, 32, 32),
        RGB,
        CIFAR10_LABELS,
        "cifar10",
    ),
    ZooModel(
        "resnet20",
        "ResNet-20",
        partial(_build, "resnet_cifar", "ResNetCIFAR", depth=20),
        (3, 32, 32),
        RGB,
        CIFAR10_LABELS,
        "cifar10",
    ),
    ZooModel(
        "resnet56",
        "ResNet-56",
        partial(_build, "resnet_cifar", "ResNetCIFAR", depth=56),
        (3, 32, 32),
        RGB,
        CIFAR10_LABELS,
        "cifar10",
    ),
    ZooModel("dscnn", "DS-CNN (MLPerf Tiny)", partial(_build, "ds_cnn", "DSCNN"), (1, 49, 10), MFCC, KEYWORDS),
    ZooModel(
        "mobilenetv1",
        "MobileNetV1-0.25 (MLPerf Tiny)",
        partial(_build, "mobilenet_v1", "MobileNetV1"),
        (3, 96, 96),
        RGB_PLAIN,
        ("non_person", "person"),
    ),
    ZooModel("mobilenetv2", "MobileNetV2", partial(_build, "mobilenet_v2", "MobileNetV2"), (3, 224, 224), RGB),
    ZooModel(
        "autoencoder", "Autoencoder (MLPerf Tiny)", partial(_build, "autoencoder", "Autoencoder"), (640,), LOG_MEL
    ),
)
