"""What the numbers at a network's input mean, and the one normalisation that goes with it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penjing.core.normalise import normalise


@dataclass(frozen=True)
class InputKind:
    """What a network expects at its input.

    Attributes:
        color: "gray" or "rgb" for images, "features" for everything else.
        value_range: lowest and highest value before normalisation.
        mean: subtracted, one value per channel or one for all.
        std: divided by, likewise.
    """

    color: Literal["gray", "rgb", "features"]
    value_range: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, x: np.ndarray) -> NDArray[np.float32]:
        """(x - mean) / std in float32, for x of shape (n, channels, ...)."""
        return normalise(x, self.mean, self.std, self.value_range)


# Mean and deviation of the MNIST training pixels. Both digit sets use them, so that one network takes either.
GRAY_DIGITS = InputKind("gray", (0.0, 1.0), (0.1307,), (0.3081,))
# Those of ImageNet; the trained ResNet-20 for CIFAR-10 uses them as well.
RGB = InputKind("rgb", (0.0, 1.0), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RGB_PLAIN = InputKind("rgb", (0.0, 1.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
# The networks of MLPerf Tiny for sound take their features as they are. The ranges are wide enough for speech (MFCCs)
# and machine noise (log-mel energies in dB); they only bound random inputs.
MFCC = InputKind("features", (-128.0, 32.0), (0.0,), (1.0,))
LOG_MEL = InputKind("features", (-90.0, 20.0), (0.0,), (1.0,))
