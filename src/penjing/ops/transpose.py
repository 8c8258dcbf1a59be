"""Permutation of axes in integers:  y[i_p(0), i_p(1), ...] = x[i_0, i_1, ...]; codes are moved, not computed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.types import MAX_RANK, DType, Type
from penjing.ops.integer_samples import codes
from penjing.ops.operator import IntegerOperator, Param, Sample, expect


def permuted(x: Type, perm: tuple[int, ...], dtype: DType) -> tuple[Type, ...]:
    """The shape rule: the axes of `x` in the order `perm`."""
    expect(sorted(perm) == list(range(x.rank)), f"{perm} does not permute {x.rank} axes")
    return (Type(tuple(x.shape[axis] for axis in perm), dtype),)


@dataclass(frozen=True)
class QTranspose(IntegerOperator):
    """x u8 of rank up to 6; output with its axes in the order `perm`."""

    name = "q_transpose"

    perm: tuple[int, ...]

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(inputs[0].dtype is DType.U8, "q_transpose moves u8")
        return permuted(inputs[0], self.perm, DType.U8)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (np.ascontiguousarray(np.transpose(inputs[0], self.perm)),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        shape = inputs[0].bounds
        strides = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
        lead = MAX_RANK - len(shape)
        return {
            "extent": (1,) * lead + outputs[0].bounds,
            "stride": (0,) * lead + tuple(strides[axis] for axis in self.perm),
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(9)
        for shape, perm in (
            ((2, 3, 4, 5), (0, 2, 3, 1)),
            ((1, 17, 16), (0, 2, 1)),
            ((2, 3, 2, 3, 4, 2), (5, 1, 4, 0, 2, 3)),
            ((2, 3, 2, 3, 2, 2), (5, 3, 1, 4, 2, 0)),
        ):
            yield Sample(cls(perm), (codes(rng, shape),))
        yield Sample(cls((1, 0)), (codes(rng, (16, 33)),))
        # three planes to pixels of three, and back
        for length in (1, 5, 15, 16, 17, 31, 43, 63, 64, 65, 86, 130):
            yield Sample(cls((0, 2, 1)), (codes(rng, (1 + length % 2, 3, length)),))
        yield Sample(cls((0, 2, 3, 1)), (codes(rng, (2, 3, 9, 11)),))
        yield Sample(cls((0, 3, 1, 2)), (codes(rng, (2, 9, 11, 3)),))
        # whole rows, planes in another order, three axes of which none can be walked with another
        yield Sample(cls((0, 2, 1, 3)), (codes(rng, (2, 5, 3, 70)),))
        yield Sample(cls((1, 0, 2, 3)), (codes(rng, (3, 2, 4, 5)),))
        yield Sample(cls((2, 1, 0)), (codes(rng, (3, 5, 7)),))
        yield Sample(cls((0, 1, 2)), (codes(rng, (2, 5, 7)),))
