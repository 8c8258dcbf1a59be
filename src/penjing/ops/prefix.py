"""The first elements of a constant, as many as a sequence has steps:  y = table[..., :length, ...].

This is how positions are added to sequences of any length. The constant holds what the longest sequence needs. In the
program its axis of positions comes first, so that the part is the constant's first bytes, and nothing is computed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Node
from penjing.ir.types import Extent, Type, bound, is_batch
from penjing.ops.coupling import Coupling, alone, on_input, on_output
from penjing.ops.integer_samples import codes
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import IntegerOperator, Operator, Param, QuantRule, Sample, expect


def _cut(table: Any, axis: int, n: int) -> Any:
    return table[(slice(None),) * axis + (slice(n),)]


def _length(x: Type, like: Type, axis: int, like_axis: int) -> Extent:
    expect(0 <= axis < x.rank and 0 <= like_axis < like.rank, f"axes {axis} and {like_axis} of {x.rank}, {like.rank}")
    length = like.shape[like_axis]
    expect(not is_batch(length), f"axis {like_axis} is the batch")
    expect(bound(length) <= x.bounds[axis], f"{bound(length)} elements of an axis of {x.bounds[axis]}")
    return length


@dataclass(frozen=True)
class Prefix(Operator):
    """A constant and x; output: the constant's first elements along `axis`, as many as x has along `like`."""

    name = "prefix"
    quant_rule = QuantRule.SAME

    axis: int
    like: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        table, x = inputs
        length = _length(table, x, self.axis, self.like)
        return (Type((*table.shape[: self.axis], length, *table.shape[self.axis + 1 :])),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        table, x = inputs
        return (np.ascontiguousarray(_cut(table, self.axis, x.shape[self.like])),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        table, x = inputs
        return _cut(table, self.axis, x.shape[self.like])

    def to_onnx(self, form: OnnxForm) -> None:
        end = form.node("Gather", form.node("Shape", form.input(1)), form.integers("like", [self.like]), axis=0)
        start, axis = form.integers("start", [0]), form.integers("axis", [self.axis])
        form.result("Slice", form.input(0), start, end, axis)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        table = inputs[0]
        assert table is not None
        kept = [(axis, alone(n)) for axis, n in enumerate(table.bounds) if axis not in (0, self.axis)]
        return Coupling(tuple((on_input(0, axis, n), on_output(axis, n)) for axis, n in kept))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        table, x = node.inputs
        if table not in lowering.graph.constants:
            raise UnsupportedOp("a part of a computed value, as long as a sequence", where=str(node))
        shape = lowering.graph.types[table].bounds
        others = [axis for axis in range(len(shape)) if axis != self.axis]
        order = tuple(range(len(shape)))
        if math.prod(shape[: self.axis]) != 1:
            order = (self.axis, *others)
        like = lowering.order(x)
        op = QPrefix(order.index(self.axis), like.index(self.like))
        lowering.finish(epilogue, op, (lowering.placed(table, order), lowering.placed(x, like)), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(90)
        table, x = (rng.normal(size=s).astype(np.float32) for s in ((9, 4), (2, 5, 3)))
        yield Sample(cls(0, 1), (table, x), constant=(0,))
        yield Sample(cls(1, 2), (table[None], x), constant=(0,))
        yield Sample(cls(1, 1), (rng.normal(size=(2, 6, 3)).astype(np.float32), x), constant=(0,))


@dataclass(frozen=True)
class QPrefix(IntegerOperator):
    """table u8 and x of any shape; output: the table's first elements along `axis`, as many as x has along `like`.

    No axis before `axis` is longer than 1, so that these are its first bytes.
    """

    name = "q_prefix"
    alias = True

    axis: int
    like: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        table, x = inputs
        length = _length(table, x, self.axis, self.like)
        expect(set(table.shape[: self.axis]) <= {1}, f"elements of axis {self.axis} do not lie side by side")
        return (Type((*table.shape[: self.axis], length, *table.shape[self.axis + 1 :]), table.dtype),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        table, x = inputs
        return (np.ascontiguousarray(_cut(table, self.axis, x.shape[self.like])),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {"bytes": outputs[0].nbytes}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(91)
        for n in (1, 5, 33):
            yield Sample(cls(0, 1), (codes(rng, (64, 4)), codes(rng, (2, n, 3))), constant=(0,))
        yield Sample(cls(1, 2), (codes(rng, (1, 9, 4)), codes(rng, (1, 2, 7))), constant=(0,))
