"""Values weighted by a softmax of one row of scores, or few, read as they lie: steps of a decoder against its cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import cast

import numpy as np

from penjing.ir.graph import Operation
from penjing.ir.types import Quant, Type
from penjing.ops.attend import MAX_LENGTH, QAttend, exp_table
from penjing.ops.integer_samples import codes, float32
from penjing.ops.operator import Param, Sample
from penjing.ops.position import is_position
from penjing.vector.matmul_row import row_fault
from penjing.vector.operator import Taken, VectorOperator
from penjing.vector.packing import round_up

WEIGHED = 64  # codes at once, at most


@dataclass(frozen=True)
class VAttendRow(QAttend, VectorOperator):
    """As q_attend: x u8 (..., L, S), v u8 (..., D, S), table s32 (256), [position s32]; u8 (..., L, D)."""

    name = "v_attend_row"
    replaces = "q_attend"
    preference = 1
    splits = True

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        counted = any(map(is_position, types[3:]))
        fault = row_fault(types[0].shape[-2], counted=counted)
        if not fault and len(types) > 3 and not counted:
            fault = "it has a mask"
        return fault or Taken(cls(*astuple(cast(QAttend, op))), {})

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        params = super().kernel_params(inputs, outputs)
        del params["mask_rows"]  # it takes no mask
        return params

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return 2 * round_up(inputs[0].bounds[-1], WEIGHED)  # the weights of a row, in 16 bits

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QAttend.samples())
        yield from cls.taken(row_samples())


def row_samples() -> Iterator[Sample]:
    """Lengths and features around those of vectors; memories filled by one step, by some, and by all."""
    rng = np.random.default_rng(84)

    def sample(length: int, features: int, leading: tuple[int, ...] = (1,), rows: int = 1, at: int = -1) -> Sample:
        op = QAttend(at >= 0, 100, float32(2.1), 120, 4, 251)
        inputs = (codes(rng, (*leading, rows, length)), codes(rng, (*leading, features, length)))
        table = exp_table(Quant((0.03,)), length)
        if at < 0:
            return Sample(op, (*inputs, table), constant=(2,))
        return Sample(op, (*inputs, table, np.array([[at]], np.int32)), constant=(2,))

    for features in (1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 67, 130):
        yield sample(10, features)
    for length in (1, 2, 15, 16, 17, 31, 33, 62, 63, 64, 65, 127, 129, 191, MAX_LENGTH):
        yield sample(length, 6, (2,))
    for rows, at in ((1, 0), (1, 1), (1, 30), (1, 63), (1, 99), (3, 31), (2, 98)):
        yield sample(100, 9, (1, 2), rows, at)
