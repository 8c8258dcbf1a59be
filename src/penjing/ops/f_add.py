"""Addition and subtraction in float32 (see `f_sums`):  y = clamp(a + b),  y = clamp(a - b), with broadcasting."""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.types import DType, Type
from penjing.ops.add import broadcast, broadcast_params
from penjing.ops.f_sums import LARGEST, check_floats, clamp_params, clamped, overflowing, summands
from penjing.ops.operator import IntegerOperator, Param, Sample


@dataclass(frozen=True)
class FAdd(IntegerOperator):
    """a, b f32, broadcast together; `sign` of b is 1 or -1."""

    name = "f_add"

    sign: float
    low: float
    high: float

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        check_floats(*inputs)
        return (Type(broadcast(inputs[0].shape, inputs[1].shape), DType.F32),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        with np.errstate(over="ignore"):
            return (clamped(inputs[0] + np.float32(self.sign) * inputs[1], self.low, self.high),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {**broadcast_params(inputs, outputs[0]), "sign": self.sign, **clamp_params(self.low, self.high)}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from float_pairs(lambda i: cls(1.0 - 2 * (i % 2), *ENDS[i % 3]))


ENDS = ((-LARGEST, LARGEST), (0.0, LARGEST), (-1.5, 6.0))


def float_pairs(make: Callable[[int], IntegerOperator]) -> Iterator[Sample]:
    """Samples of a binary operator: broadcasts, and results that overflow; `make(i)` gives the i-th operator."""
    rng = np.random.default_rng(96)
    shapes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
        ((2, 17), (2, 17)),
        ((1, 5, 3, 4), (1, 1, 1, 4)),
        ((1, 5, 3, 4), (1, 5, 3, 1)),
        ((1, 1, 4, 1), (1, 3, 1, 33)),
        ((2, 3, 4, 2, 3, 5), (2, 3, 1, 2, 1, 5)),
        ((1, 1, 1), (2, 5, 13)),
        ((3, 1, 9), (3, 5, 9)),
    )
    for i, (a, b) in enumerate(shapes):
        yield Sample(make(i), (summands(rng, a), summands(rng, b)))
    for i, x in enumerate(overflowing((2, 9))):
        yield Sample(make(6 + i), (x, np.flip(x, 0).copy()))
        yield Sample(make(9 + i), (x, x))
