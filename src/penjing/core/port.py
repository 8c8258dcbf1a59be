"""How an input of a network was prepared in training, so that a device can prepare it likewise."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Port:
    """How an input was prepared in training, so that the tray can prepare it on the device.

    Attributes:
        mean: subtracted from each channel, in units of `value_range`; None for 0.
        std: what each channel was then divided by; None for 1.
        value_range: least and highest raw value, such as 0..1 for pixels divided by 255.
        color: of pictures.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    value_range: tuple[float, float] = (0.0, 1.0)
    color: Literal["rgb", "gray"] | None = None
