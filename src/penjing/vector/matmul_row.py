"""Products of one row, or few, with rows that are many, read as they lie: steps of a decoder against its cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import cast

import numpy as np

from penjing.core.arithmetic import U8_MAX
from penjing.ir.graph import Operation
from penjing.ir.types import Type
from penjing.ops.integer_samples import codes, float32
from penjing.ops.matmul import MAX_K, QMatmul
from penjing.ops.operator import Sample
from penjing.vector.operator import Taken, VectorOperator
from penjing.vector.packing import round_up

VECTOR = 32  # elements of 16 bits, at most


def row_fault(rows: object, *, counted: bool) -> str:
    """Why so many rows are not for a kernel that takes them one by one; '' if they are."""
    return "" if rows == 1 or counted else "more than one row, of which packed columns serve all"


@dataclass(frozen=True)
class VMatmulRow(QMatmul, VectorOperator):
    """As q_matmul: a u8 (..., M, K), b u8 (..., N, K), leading axes equal or 1, [position s32]; u8 (..., M, N)."""

    name = "v_matmul_row"
    replaces = "q_matmul"
    preference = 1
    splits = True

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        fault = row_fault(types[0].shape[-2], counted=len(types) > 2)
        return fault or Taken(cls(*astuple(cast(QMatmul, op))), {})

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return 2 * round_up(inputs[0].bounds[-1], VECTOR)  # a row of a, in 16 bits

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QMatmul.samples())
        yield from cls.taken(row_samples())


def row_samples() -> Iterator[Sample]:
    """Columns and elements around those of vectors; memories filled by one step, by some, and by all."""
    rng = np.random.default_rng(64)
    for n in (1, 3, 4, 5, 15, 16, 17, 31, 33, 63, 64, 65, 67, 130):
        op = QMatmul(float32(0.004), n % 3 * 100, 140, 120, 3, 250)
        yield Sample(op, (codes(rng, (2, 1, 12)), codes(rng, (2, n, 12))))
    for k in (1, 15, 16, 17, 31, 32, 33, 47, 64, 65):
        op = QMatmul(float32(0.02 / k**0.5), 255 * (k % 2), 7, 100, 0, 255)
        yield Sample(op, (codes(rng, (2, 3, 1, k)), codes(rng, (2, 1, 9, k))))
    for rows, at in ((1, 0), (1, 3), (1, 66), (1, 69), (3, 5), (2, 68)):
        op = QMatmul(float32(0.003), 100, 140, 9, 0, 255)
        yield Sample(op, (codes(rng, (1, 2, rows, 24)), codes(rng, (1, 2, 70, 24)), np.array([[at]], np.int32)))
    ends = np.repeat(np.array([[0], [U8_MAX]], np.uint8), MAX_K, axis=1)  # the longest sums, of either sign
    for zeros in ((0, 0), (255, 255), (0, 255), (255, 0)):
        for row in (ends[:1], ends[1:]):
            yield Sample(QMatmul(float32(2.0**-24), *zeros, 128, 0, 255), (row, ends))
