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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from penjing.core.errors import QuantizationError

_PIECE = 2**15  # values rounded at a time: their float32 and what is made of them stay in the cache
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
        x = _dense(x)
        ctx.save_for_backward(x, steps)
        ctx.limits, ctx.of_steps = (low, high), of_steps
        rounded = torch.empty_like(x)
        for part, place in _pieces(steps, x, rounded):
            place.copy_(_codes(part, steps, low, high).mul_(steps))
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None, None]:
        x, steps = ctx.saved_tensors
        low, high = ctx.limits
        gradient = torch.empty_like(x).copy_(gradients[0])  # of the layout of x, whatever it comes in
        inside = torch.empty_like(x)
        slope, of_x, size = (torch.zeros_like(steps) for _ in range(3))
        for x_part, gradient_part, place in _pieces(steps, x, gradient, inside):
            v, g = x_part.float() / steps, gradient_part.float()
            limited = v.clamp(low, high)
            passed = g * (limited == v)
            place.copy_(passed)
            if ctx.needs_input_grad[1]:
                of_x += g.square().sum_to_size(steps.shape)
                size += v.square().sum_to_size(steps.shape)
                slope += limited.round_().mul_(g).sub_(v.mul_(passed)).sum_to_size(steps.shape)
        if not ctx.needs_input_grad[1]:
            return inside, None, None, None, None
        of_steps = slope * ctx.of_steps.scale
        if ctx.of_steps.shared is not None:
            samples = x.numel() / (steps.numel() * ctx.of_steps.shared)
            limit = samples * of_x.sqrt() / size.sqrt().clamp_min(torch.finfo(torch.float32).tiny)
            of_steps = of_steps.clamp(-limit, limit)
        return inside, of_steps, None, None, None


def _dense(x: torch.Tensor) -> torch.Tensor:
    return x if x.is_contiguous() or _is_channels_last(x) else x.contiguous()


def _is_channels_last(x: torch.Tensor) -> bool:
    return x.ndim == 4 and bool(x.is_contiguous(memory_format=torch.channels_last))


def _pieces(steps: torch.Tensor, *tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Dense tensors of one layout, cut alike: whole where steps broadcast, else into pieces that stay in the cache."""
    if steps.ndim:
        yield tensors
        return
    flat = [(x.permute(0, 2, 3, 1) if _is_channels_last(x) else x).reshape(-1) for x in tensors]
    for start in range(0, flat[0].numel(), _PIECE):
        yield tuple(x[start : start + _PIECE] for x in flat)


def _codes(x: torch.Tensor, steps: torch.Tensor, low: int, high: int) -> torch.Tensor:
    return (x.float() / steps).round_().clamp_(low, high)
