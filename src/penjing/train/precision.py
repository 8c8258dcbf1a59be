"""The number format that layers compute in while they are trained; weights, loss and statistics stay in float32.

Micikevicius et al., "Mixed Precision Training" (2018), section 3; bfloat16 has the range of float32, so that no loss
scaling is needed (Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training", 2019).
"""

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which convolutions and matrix products are computed in `precision`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def for_convolutions(x: torch.Tensor, precision: Precision) -> torch.Tensor:
    """`x` with channels last where it has four axes: the layout in which bfloat16 convolutions are fastest."""
    if precision == "float32" or x.ndim != 4:
        return x
    return x.contiguous(memory_format=torch.channels_last)
