"""A look-up from 8-bit codes to 16-bit ones:  y[i] = table[x[i]],  for states that are kept finer than activations."""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.types import DType, Quant, Type
from penjing.ops.integer_samples import LENGTHS, codes
from penjing.ops.operator import IntegerOperator, Param, Sample, expect


@dataclass(frozen=True)
class QWiden(IntegerOperator):
    """x u8 of any shape, table s16 (256); output s16 of x's shape."""

    name = "q_widen"

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, table = inputs
        expect((x.dtype, table.dtype, table.bounds) == (DType.U8, DType.S16, (256,)), "q_widen maps u8 by s16 (256)")
        return (Type(x.shape, DType.S16),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, table = inputs
        return (table[x],)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {"n": inputs[0].elements}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(71)
        for n in LENGTHS:
            table = rng.integers(-(2**15), 2**15, 256).astype(np.int16)
            yield Sample(cls(), (codes(rng, (1 + n % 2, n)), table), constant=(1,))


def wide_codes(real: np.ndarray, quant: Quant) -> np.ndarray:
    """s16 codes nearest to float64 reals."""
    codes_: np.ndarray = np.clip(np.rint(real / float(quant.scale)), -(2**15), 2**15 - 1).astype(np.int16)
    return codes_


def widening_table(source: Quant, target: Quant) -> np.ndarray:
    """s16 (256): for each code of `source`, the nearest code of `target`."""
    return wide_codes(float(source.scale) * (np.arange(256, dtype=np.float64) - source.zero_point), target)
