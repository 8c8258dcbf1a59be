"""Products of two activations with the right operand packed, a block of columns at a time, as weights are."""

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
from penjing.ops.operator import Param, Sample
from penjing.vector.operator import Taken, VectorOperator
from penjing.vector.packing import LANES, QUAD, round_up

COLUMNS = 64  # packed at once, at most
ROWS = 6  # staged at once, at most


@dataclass(frozen=True)
class VMatmul(QMatmul, VectorOperator):
    """As q_matmul: a u8 (..., M, K), b u8 (..., N, K), leading axes equal or 1; output u8 (..., M, N)."""

    name = "v_matmul"
    replaces = "q_matmul"
    splits = True

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        if len(types) > 2:
            return "its right operand is a cache, filled as far as a position says"
        return Taken(cls(*astuple(cast(QMatmul, op))), {})

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        params = super().kernel_params(inputs, outputs)
        del params["counted"]  # it takes no position
        return params

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        columns = min(COLUMNS, round_up(inputs[1].bounds[-2], LANES))
        rows = min(ROWS, inputs[0].bounds[-2])
        return round_up(inputs[0].bounds[-1], QUAD) * (columns + 2 * rows)  # in 16 bits

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QMatmul.samples())
        yield from cls.taken(tile_samples())


def tile_samples() -> Iterator[Sample]:
    """Rows and columns around those of tiles, of blocks and of a run of rows."""
    rng = np.random.default_rng(62)

    def sample(m: int, n: int, k: int, zeros: tuple[int, int, int], leading: tuple[int, ...] = ()) -> Sample:
        op = QMatmul(float32(0.012 / k**0.5), *zeros, 3, 250)
        return Sample(op, (codes(rng, (*leading, m, k)), codes(rng, (*leading, n, k))))

    for m in range(1, 14):
        yield sample(m, 50, 8, (120, 130, 9))
    for n in (15, 16, 17, 31, 33, 47, 49, 64, 65, 81, 128, 130):
        yield sample(7, n, 12, (3, 128, 128), (2,))
    for k in range(1, 9):
        yield sample(7, 19, k, (255, 0, 100))
    yield sample(130, 5, 32, (0, 255, 50), (3,))
    yield sample(257, 17, 4, (128, 127, 128))
    # both ends of every term: sums of a, of w, and of their products
    ends = np.repeat(np.array([[0], [U8_MAX]], np.uint8), MAX_K, axis=1)
    for zeros in ((0, 0), (255, 255), (0, 255), (255, 0)):
        yield Sample(QMatmul(float32(2.0**-24), *zeros, 128, 0, 255), (ends, ends))
