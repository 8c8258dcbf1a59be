"""A linear layer in float32 (see `f_sums`):

y[..., o] = clamp(acc + b[o]),   acc = sum over k of x[..., k] * w[k, o]
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.types import DType, Type
from penjing.ops.f_sums import LARGEST, check_floats, clamp_params, clamped, overflowing, summands
from penjing.ops.operator import Cost, IntegerOperator, Param, Sample, expect


@dataclass(frozen=True)
class FLinear(IntegerOperator):
    """x f32 (..., K), w f32 (K, O), bias f32 (O); output f32 (..., O)."""

    name = "f_linear"

    low: float
    high: float

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w, bias = inputs
        check_floats(*inputs)
        expect(x.rank >= 1 and w.rank == 2 and x.bounds[-1] == w.bounds[0], "x (..., K) and w (K, O) do not fit")
        expect(bias.bounds == w.bounds[1:], f"bias must have {w.bounds[1]} elements")
        return (Type((*x.shape[:-1], w.shape[1]), DType.F32),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w, bias = inputs
        acc = np.zeros((*x.shape[:-1], w.shape[1]), np.float32)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            for k in range(w.shape[0]):
                acc += x[..., k : k + 1] * w[k]
            return (clamped(acc + bias, self.low, self.high),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        k, oc = inputs[1].bounds
        return {"rows": inputs[0].elements // k, "k": k, "oc": oc, **clamp_params(self.low, self.high)}

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * inputs[1].bounds[0], sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(93)
        for i, outputs in enumerate((1, 3, 4, 7, 8, 15, 16, 17, 24, 31, 32, 33, 47, 64, 65)):
            k = (1, 2, 5, 33, 130)[i % 5]
            op = cls(*[(-LARGEST, LARGEST), (0.0, LARGEST), (-1.5, 6.0)][i % 3])
            arrays = [summands(rng, shape) for shape in ((1 + i % 3, k), (k, outputs), (outputs,))]
            yield Sample(op, tuple(arrays), constant=(1, 2))
        for x in overflowing((2, 8)):
            w = np.linspace(0.5, 2, 8 * 17).reshape(8, 17).astype(np.float32)
            yield Sample(cls(-LARGEST, LARGEST), (x, w, np.ones(17, np.float32)), constant=(1, 2))
            yield Sample(cls(-3.0, 5.0), (x, w, np.ones(17, np.float32)), constant=(1, 2))
        tiny = np.full((1, 4), 2.0**-100, np.float32)  # products below the normal floats
        yield Sample(
            cls(-LARGEST, LARGEST), (tiny, np.full((4, 9), 1.1 * 2.0**-40, np.float32), np.zeros(9, np.float32))
        )
