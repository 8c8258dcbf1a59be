"""What one file of this folder must say: which integer operator it replaces, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from penjing.ir.graph import Operation
from penjing.ir.types import Type
from penjing.ops.operator import IntegerOperator, Sample


@dataclass(frozen=True, eq=False)
class Taken:
    """A vector operator in the place of another, and the constants that it reads instead of those (by position)."""

    op: IntegerOperator
    constants: dict[int, np.ndarray]


class VectorOperator(IntegerOperator):
    """An integer operator whose kernel is written over the SIMD vocabulary."""

    replaces: ClassVar[str]
    also_replaces: ClassVar[tuple[str, ...]] = ()
    preference: ClassVar[int] = 0  # of the operators that can stand in one place, the one with the highest stands there

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        """This operator in the place of `op`, or why it cannot stand there.

        Args:
            op: an operator called `replaces`, or as one of `also_replaces`.
            types: of its inputs.
            constants: its inputs where they are constants of the program, else None.
        """
        raise NotImplementedError

    @classmethod
    def taken(cls, samples: Iterator[Sample]) -> Iterator[Sample]:
        """Samples of the replaced operator as samples of this one, where it can stand."""
        return taken_by(cls.take, samples)


Take = Callable[[Operation, Sequence[Type], Sequence[np.ndarray | None]], Taken | str]


def taken_by(take: Take, samples: Iterable[Sample]) -> Iterator[Sample]:
    """The samples with what `take` puts in the place of their operators, where it can."""
    for sample in samples:
        arrays = [x for x in sample.inputs if x is not None]
        made = take(sample.op, sample.types, [x if i in sample.constant else None for i, x in enumerate(arrays)])
        if isinstance(made, Taken):
            inputs = tuple(made.constants.get(i, x) for i, x in enumerate(arrays))
            yield Sample(made.op, inputs, sample.constant)
