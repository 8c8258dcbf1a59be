"""Rounding to codes that training goes through, with step sizes that are learned.

    v = x / s,    q = clamp(rne(v), low, high),    x^ = s q

Backwards, x gets the gradient of x^ wherever low <= v <= high and 0 elsewhere (the straight-through estimator), and

    d x^ / d s  =  q - v inside,    low or high outside                                             (equation 3)

times g = 1 / sqrt(n high), n being how many values share the step, so that steps move as fast, relative to their size,
as weights do (section 2.2). (Esser et al., "Learned Step Size Quantization", 2020.)

A step is held as s = s_0 p with p = 1 at first, and p gets the gradient of s times g / s_0. Under gradient descent s
then moves as the paper has it, and under Adam, whose step does not depend on the gradient's size, by a share of itself.
"""

import math
from typing import Any

import torch
from torch import nn

from penjing.core.errors import QuantizationError

LEAST = 2.0**-10  # of p: a step stays positive whatever the learning rate


class StepSizes(nn.Module):
    """Learned positive steps.

    Args:
        start: s_0, float32, of a shape that broadcasts against what is rounded.
        shared: n above.
        top: the highest code.
    """

    start: torch.Tensor

    def __init__(self, start: torch.Tensor, shared: int, top: int) -> None:
        super().__init__()
        if not (torch.isfinite(start) & (start > 0)).all():
            raise QuantizationError("a step size to start from is not a positive number")
        self.register_buffer("start", start.clone())
        self.relative = nn.Parameter(torch.ones_like(start))
        self._gradient_scale = 1 / math.sqrt(shared * top)

    def forward(self) -> torch.Tensor:
        """The present steps."""
        steps: torch.Tensor = _Steps.apply(self.relative, self.start, self._gradient_scale)  # type: ignore[no-untyped-call]
        return steps


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, relative: torch.Tensor, start: torch.Tensor, gradient_scale: float) -> torch.Tensor:
        ctx.save_for_backward(start)
        ctx.gradient_scale = gradient_scale
        return start * relative.clamp_min(LEAST)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (start,) = ctx.saved_tensors
        return gradients[0] * (ctx.gradient_scale / start), None, None


def fake_quantize(x: torch.Tensor, steps: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """x^ above, in the format of `x`; the codes are computed in float32.

    Args:
        x: any shape.
        steps: float32, broadcasts against `x` with as many axes, or has none.
        low: the lowest code, 0 or less.
        high: the highest code, 0 or more.
    """
    rounded: torch.Tensor = _FakeQuantize.apply(x, steps, low, high)  # type: ignore[no-untyped-call]
    return rounded


def codes(x: torch.Tensor, steps: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """q above, as float32."""
    return (x.float() / steps).round_().clamp_(low, high)


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, steps: torch.Tensor, low: int, high: int) -> torch.Tensor:
        ctx.save_for_backward(x, steps)
        ctx.limits = low, high
        return codes(x, steps, low, high).mul_(steps).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None]:
        x, steps = ctx.saved_tensors
        low, high = ctx.limits
        (gradient,) = gradients
        v = x.float() / steps
        inside = gradient * ((v >= low) & (v <= high))
        if not ctx.needs_input_grad[1]:
            return inside, None, None, None
        slope = (codes(x, steps, low, high) * gradient).sub_(v * inside)
        return inside, slope.sum_to_size(steps.shape), None, None
