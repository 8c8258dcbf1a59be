"""Values weighted by a softmax of scores, packed a block of features at a time as weights are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import cast

import numpy as np

from penjing.ir.graph import Operation
from penjing.ir.types import Quant, Type
from penjing.ops.attend import QAttend, exp_table
from penjing.ops.integer_samples import codes, float32
from penjing.ops.operator import Param, Sample
from penjing.ops.position import is_position
from penjing.vector.operator import Taken, VectorOperator
from penjing.vector.packing import LANES, QUAD, round_up

FEATURES = 64  # packed at once, at most
ROWS = 6  # weighed at once, at most


@dataclass(frozen=True)
class VAttend(QAttend, VectorOperator):
    """As q_attend: x u8 (..., L, S), v u8 (..., D, S), table s32 (256), [mask u8 of x's last axes]; u8 (..., L, D)."""

    name = "v_attend"
    replaces = "q_attend"
    splits = True

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        if any(map(is_position, types[3:])):
            return "its values are a cache, filled as far as a position says"
        return Taken(cls(*astuple(cast(QAttend, op))), {})

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        params = super().kernel_params(inputs, outputs)
        del params["counted"]  # it takes no position
        return params

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        features = min(FEATURES, round_up(inputs[1].bounds[-2], LANES))
        rows = min(ROWS, inputs[0].bounds[-2])
        return round_up(inputs[0].bounds[-1], QUAD) * (features + 2 * rows)  # weights in 16 bits

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QAttend.samples())
        yield from cls.taken(tile_samples())


def tile_samples() -> Iterator[Sample]:
    """Rows, lengths and features around those of tiles and vectors; masks of fewer rows than a head has."""
    rng = np.random.default_rng(83)

    def sample(
        rows: int, length: int, features: int, leading: tuple[int, ...] = (1,), mask: int = 0, causal: bool = False
    ) -> Sample:
        op = QAttend(causal, 100, float32(2.1), 120, 4, 251)
        table = exp_table(Quant((0.03,)), length)
        inputs = (codes(rng, (*leading, rows, length)), codes(rng, (*leading, features, length)), table)
        if not mask:
            return Sample(op, inputs, constant=(2,))
        kept = rng.random(size=inputs[0].shape[-mask:]) < 0.6
        return Sample(op, (*inputs, kept.astype(np.uint8)), constant=(2, 3))

    for rows in range(1, 14):
        yield sample(rows, 21, 20)
        yield sample(rows, 9, 3, causal=True)
    for features in (15, 16, 17, 31, 33, 47, 49, 63, 64, 65, 80, 129):
        yield sample(7, 10, features)
    for length in (5, 6, 62, 66, 67, 68, 127, 128, 129, 191):
        yield sample(8, length, 32, (2,))
        yield sample(8, length, 7, (2, 3), mask=1 + length % 4)
        yield sample(70, length, 5, causal=True, mask=length % 3)
