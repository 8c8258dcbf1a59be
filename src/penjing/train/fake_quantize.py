"""Rounding to codes that training goes through, with step sizes that are learned.

    v = x / s,    q = clamp(rne(v), low, high),    x^ = s q

Backwards, x gets the gradient of x^ wherever low <= v <= high and 0 elsewhere (the straight-through estimator), and

    d x^ / d s  =  q - v inside,    low or high outside                                             (equation 3)

times g = 1 / sqrt(n max(-low, high)), n being how many values share the step (section 2.2). (Esser et al., "Learned
Step Size Quantization", 2020.)

g is chosen there so that a step moves about as fast, relative to its size, as the values that share it: the ratio

    R = (|dL/ds| / s) / (|dL/dx| / |x|)

is near 1. With many codes it is not where values reach an end code: each pulls with the whole of it, and steps would
jump by multiples of themselves. So the gradient of s is moreover limited to R <= 1, |dL/dx| of activations being that
of one sample.

A step is held as s = s_0 p with p = 1 at first, and p gets the gradient of s divided by s_0. Under gradient descent s
then moves as the paper has it, and under Adam, whose step does not depend on the gradient's size, by a share of itself.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from penjing.core.errors import QuantizationError

LEAST = 2.0**-6  # of p: a step stays positive whatever the learning rate


class StepSizes(nn.Module):
    """Learned positive steps.

    Args:
        start: s_0, float32, of a shape that broadcasts against what is rounded.
        shared: n above; of activations, those of one sample.
        low: the lowest code, 0 or less.
        high: the highest code, 0 or more.

    Raises:
        QuantizationError: a step to start from is not a positive number.
    """

    start: torch.Tensor

    def __init__(self, start: torch.Tensor, *, shared: int, low: int, high: int) -> None:
        super().__init__()
        if not (torch.isfinite(start) & (start > 0)).all():
            raise QuantizationError("a step size to start from is not a positive number")
        self.register_buffer("start", start.clone())
        self.relative = nn.Parameter(torch.ones_like(start))
        self.low, self.high = low, high
        self._gradient = _Gradient(1 / math.sqrt(shared * max(-low, high)), shared)

    def forward(self) -> torch.Tensor:
        """The present steps."""
        steps: torch.Tensor = _Steps.apply(self.relative, self.start)
        return steps

    def round(self, x: torch.Tensor) -> torch.Tensor:
        """x^ above."""
        rounded: torch.Tensor = _FakeQuantize.apply(x, self(), self.low, self.high, self._gradient)
        return rounded

    def codes(self, x: torch.Tensor) -> torch.Tensor:
        """q above, as float32."""
        return _codes(x, self(), self.low, self.high)


def fake_quantize(x: torch.Tensor, steps: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """x^ above, in the format of `x`, for steps with the plain gradient of equation 3, or with none.

    Args:
        x: any shape.
        steps: float32, broadcasts against `x` with as many axes, or has none.
        low: the lowest code, 0 or less.
        high: the highest code, 0 or more.
    """
    rounded: torch.Tensor = _FakeQuantize.apply(x, steps, low, high, _Gradient(1.0, None))
    return rounded


@dataclass(frozen=True)
class _Gradient:
    """What becomes of the gradient of a step."""

    scale: float
    shared: int | None  # by so many values; None where R has no limit


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, relative: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(start)
        return start * relative.clamp_min(LEAST)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (start,) = ctx.saved_tensors
        return gradients[0] / start, None


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, steps: torch.Tensor, low: int, high: int, of_steps: _Gradient
    ) -> torch.Tensor:
        ctx.save_for_backward(x, steps)
        ctx.limits, ctx.of_steps = (low, high), of_steps
        return _codes(x, steps, low, high).mul_(steps).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None, None]:
        x, steps = ctx.saved_tensors
        low, high = ctx.limits
        (gradient,) = gradients
        v = x.float() / steps
        inside = gradient * ((v >= low) & (v <= high))
        if not ctx.needs_input_grad[1]:
            return inside, None, None, None, None
        of_steps = (v.round().clamp_(low, high) * gradient).sub_(v.mul_(inside)).sum_to_size(steps.shape)
        of_steps = of_steps * ctx.of_steps.scale
        if ctx.of_steps.shared is not None:
            samples = x.numel() / (steps.numel() * ctx.of_steps.shared)
            slope = _norm(gradient, steps) / _norm(x, steps).clamp_min(torch.finfo(torch.float32).tiny)
            limit = samples * steps * slope
            of_steps = of_steps.clamp(-limit, limit)
        return inside, of_steps, None, None, None


def _codes(x: torch.Tensor, steps: torch.Tensor, low: int, high: int) -> torch.Tensor:
    return (x.float() / steps).round_().clamp_(low, high)


def _norm(x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Of the values that share each step."""
    return x.float().square().sum_to_size(steps.shape).sqrt()
