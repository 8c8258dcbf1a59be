"""Rounding that is learned (AdaRound: Nagel et al., "Up or Down?", 2020, section 3.3).

    w~ = s * (floor(w / s) + h(v)),    h(v) = clip(sigmoid(v) (zeta - gamma) + gamma, 0, 1)      (eqs. 22 and 23)

starts at w~ = w; while v is trained on what the network computes, the penalty

    sum of 1 - |2 h(v) - 1|^beta,    beta falling to 2                                           (eq. 24)

drives every h to 0 or 1, so that in the end each weight is rounded up or down. The scale s of an output channel is at
first the one of least squared error, and may be trained along: a code keeps its two candidates, floor(w / s) and the
next. NOTE: beta begins at 8, not at the paper's 20: with hundreds of steps in place of 10,000, too many weights would
still be undecided at the end.
"""

import numpy as np
import torch
from torch import nn

from penjing.ir.grid import activation_parameters, least_squares_scales, on_grid
from penjing.ir.types import Constant

ZETA, GAMMA = 1.1, -0.1
_FIRST_BETA, _LAST_BETA = 8.0, 2.0
_WARM_UP = 0.2  # of the steps, without penalty


class LearnedRounding(nn.Module):
    """A weight on a grid of `bits` bits whose codes are learned; zeros stay zero.

    Args:
        weight: float32, any shape.
        bits: 2 to 8; codes run from -(2**(bits-1) - 1) to 2**(bits-1) - 1.
        axis: of the output channels, each of which has a scale.
    """

    def __init__(self, weight: np.ndarray, bits: int, axis: int) -> None:
        super().__init__()
        top = 2 ** (bits - 1) - 1
        self._axis = axis
        self._along = [-1 if i == axis else 1 for i in range(weight.ndim)]
        rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
        self._scales = torch.from_numpy(least_squares_scales(rows, top))
        ratio = torch.tensor(weight) / self._scales.reshape(self._along)
        # a weight beyond the range has the end code and the one before it as its candidates
        self._floor = torch.floor(ratio).clamp(-top, top - 1)
        rest = (ratio - self._floor).clamp(0, 1)
        self._kept, self._nearest = (ratio != 0).float(), rest >= 0.5
        self.choice = nn.Parameter(torch.logit((rest - GAMMA) / (ZETA - GAMMA)))
        self.stretch = nn.Parameter(torch.zeros(len(self._scales)))

    def soft(self) -> torch.Tensor:
        """The weight while it is learned: between its two candidates."""
        return (self._floor + self._share()) * self._kept * self._steps()

    def hard(self) -> torch.Tensor:
        """Every weight at the candidate it leans to; the scales still have a gradient."""
        return (self._floor + (self._share().detach() >= 0.5)) * self._kept * self._steps()

    def nearest(self) -> torch.Tensor:
        """Rounding to nearest with the scales of the start."""
        return (self._floor + self._nearest) * self._kept * self._scales.reshape(self._along)

    def penalty(self, beta: float) -> torch.Tensor:
        """The mean of 1 - |2 h - 1|^beta: 0 where all weights have chosen."""
        return 1 - (2 * self._share() - 1).abs().pow(beta).mean()

    def constant(self, *, nearest: bool = False) -> Constant:
        """The weight on its grid, as `hard` has it, or as `nearest`."""
        up = self._nearest if nearest else self._share().detach() >= 0.5
        codes = ((self._floor + up) * self._kept).numpy().astype(np.int8)
        scales = self._scales if nearest else self._scales * self.stretch.detach().exp()
        return on_grid(codes, scales.numpy(), self._axis)

    def _share(self) -> torch.Tensor:
        return torch.clamp(torch.sigmoid(self.choice) * (ZETA - GAMMA) + GAMMA, 0, 1)

    def _steps(self) -> torch.Tensor:
        return (self._scales * self.stretch.exp()).reshape(self._along)


class FakeQuant:
    """Rounds an activation to u8 codes, with the gradient of a clamp.

    Args:
        low: smallest value that codes should cover, in units of the activation; likewise high.
        high: widened, if need be, so that zero lies within.
    """

    def __init__(self, low: float, high: float) -> None:
        scale, zero = activation_parameters(low, high)
        self._scale = float(scale)
        self._low, self._high = -zero * self._scale, (255 - zero) * self._scale

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest value that has a code."""
        clamped = torch.clamp(x, self._low, self._high)
        with torch.no_grad():
            error = torch.round(clamped / self._scale).mul_(self._scale).sub_(clamped)
        return clamped + error


def penalty_beta(step: int, steps: int) -> float | None:
    """beta of a step, falling evenly; None in the first fifth, which has no penalty."""
    warm_up = int(steps * _WARM_UP)
    if step < warm_up:
        return None
    return _FIRST_BETA + (_LAST_BETA - _FIRST_BETA) * (step - warm_up) / (steps - warm_up)
