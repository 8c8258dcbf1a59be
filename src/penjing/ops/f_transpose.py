"""Permutation of axes in float32:  y[i_p(0), i_p(1), ...] = x[i_0, i_1, ...]; values are moved, not computed."""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.types import DType, Type
from penjing.ops.f_sums import check_floats, summands
from penjing.ops.operator import IntegerOperator, Param, Sample
from penjing.ops.transpose import QTranspose, permuted


@dataclass(frozen=True)
class FTranspose(IntegerOperator):
    """x f32 of rank up to 6; output with its axes in the order `perm`."""

    name = "f_transpose"

    perm: tuple[int, ...]

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        check_floats(*inputs)
        return permuted(inputs[0], self.perm, DType.F32)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (np.ascontiguousarray(np.transpose(inputs[0], self.perm)),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return QTranspose(self.perm).kernel_params(inputs, outputs)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(95)
        for shape, perm in (
            ((2, 3, 4, 5), (0, 2, 3, 1)),
            ((2, 9, 11, 3), (0, 3, 1, 2)),
            ((1, 17, 16), (0, 2, 1)),
            ((2, 3, 2, 3, 4, 2), (5, 1, 4, 0, 2, 3)),
            ((2, 3, 2, 3, 2, 2), (5, 3, 1, 4, 2, 0)),
        ):
            yield Sample(cls(perm), (summands(rng, shape),))
