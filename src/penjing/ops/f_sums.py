"""What the float32 layers of a program share: clamps, the order of sums, and inputs that show another order.

    y = clamp(acc + b),   acc = ((0 + x_1 * w_1) + x_2 * w_2) + ...        every product and sum rounded to float32

The order is that of the weights as they are stored. A product with padding is one with 0 and may be left out: a sum
that begins with +0 is never -0. The clamp is y >= low ? min(y, high) : low, with the largest floats where there is
none: every value is finite, and what is no number becomes the lower end, on every CPU alike.
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator

import numpy as np

from penjing.core.arithmetic import Float32
from penjing.ir.types import DType, Type
from penjing.ops.operator import Param, expect

LARGEST = float(np.finfo(np.float32).max)


def finite_ends(low: float, high: float) -> tuple[float, float]:
    """A clamp with the largest floats in the place of infinite ends, both rounded to float32."""
    ends = np.clip(np.array([low, high]), -LARGEST, LARGEST).astype(np.float32)
    return float(ends[0]), float(ends[1])


def clamped(values: Float32, low: float, high: float) -> Float32:
    """The clamp above."""
    lower, upper = np.float32(low), np.float32(high)
    raised = np.where(values >= lower, values, lower)
    held: Float32 = np.where(raised > upper, upper, raised)
    return held


def clamp_params(low: float, high: float) -> dict[str, Param]:
    """The last fields of a kernel's struct."""
    return {"low": low, "high": high}


def check_floats(*types: Type) -> None:
    """The dtype rule of every float32 operator."""
    expect(all(type_.dtype is DType.F32 for type_ in types), "a float32 operator takes f32 alone")


def summands(rng: np.random.Generator, shape: tuple[int, ...]) -> Float32:
    """Floats of very different sizes and both signs, some of them 0 and -0: another order of their sum shows."""
    values = rng.normal(size=shape) * np.exp2(rng.integers(-12, 12, shape))
    values[rng.random(shape) < 0.05] = -0.0
    return values.astype(np.float32)


def overflowing(shape: tuple[int, ...]) -> Iterator[Float32]:
    """Inputs whose sums with weights of about 1 overflow: to either side, and to what is no number."""
    huge = np.full(shape, LARGEST, np.float32)
    yield huge
    yield -huge
    mixed = huge.copy()
    mixed.reshape(-1)[shape[-1] // 2 :] = -LARGEST
    yield mixed
