"""Multiplication in float32 (see `f_sums`):  y = clamp(a * b), with broadcasting."""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.types import DType, Type
from penjing.ops.add import broadcast, broadcast_params
from penjing.ops.f_add import ENDS, float_pairs
from penjing.ops.f_sums import check_floats, clamp_params, clamped
from penjing.ops.operator import IntegerOperator, Param, Sample


@dataclass(frozen=True)
class FMul(IntegerOperator):
    """a, b f32, broadcast together."""

    name = "f_mul"

    low: float
    high: float

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        check_floats(*inputs)
        return (Type(broadcast(inputs[0].shape, inputs[1].shape), DType.F32),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        with np.errstate(over="ignore", under="ignore"):
            return (clamped(inputs[0] * inputs[1], self.low, self.high),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {**broadcast_params(inputs, outputs[0]), **clamp_params(self.low, self.high)}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from float_pairs(lambda i: cls(*ENDS[i % 3]))
