"""The one way from raw values to what a network takes, the same in training, calibration and on the device."""

from collections.abc import Sequence

import numpy as np

from penjing.core.arithmetic import Float32


def normalise(
    raw: np.ndarray,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Float32:
    """(x - mean) / std in float32.

    Args:
        raw: (n, channels, ...); uint8 codes 0..255 are first spread over `value_range` (x / 255 for 0..1), floats must
            lie in it already.
        mean: one value per channel, or one for all; None is 0.
        std: likewise; None is 1.
        value_range: lowest and highest raw value.
    """
    x = raw.astype(np.float32)
    if raw.dtype == np.uint8:
        x /= np.float32(255)
        low, high = value_range
        if (low, high) != (0.0, 1.0):
            x = x * np.float32(high - low) + np.float32(low)
    channel = (-1,) + (1,) * (raw.ndim - 2)  # against axis 1 of x
    if mean is not None:
        x -= np.asarray(mean, np.float32).reshape(channel)
    if std is not None:
        x /= np.asarray(std, np.float32).reshape(channel)
    return x
