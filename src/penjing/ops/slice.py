"""Parts of one axis: slice  y = x[..., start:stop:step, ...]  and select  y = x[..., index, ...], which drops the axis.

Codes are moved, never computed. The batch axis stays whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Node, Operation
from penjing.ir.types import Dim, DType, Extent, Type, bound, is_batch, is_length
from penjing.ops.coupling import FREE, Coupling, Kept, alone, count_below, kept_axes, on_input, on_output
from penjing.ops.embedding import Embedding
from penjing.ops.integer_samples import LENGTHS, codes
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.onnx_call import OnnxCall, Ref
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import IntegerOperator, Operator, Param, QuantRule, Sample, expect
from penjing.ops.reshape import Reshape
from penjing.ops.torch_call import Composed, Imported, TorchCall

TO_THE_END = 2**63 - 1  # what torch writes for an absent end


def _at(axis: int, index: int | slice) -> tuple[int | slice, ...]:
    return (slice(None),) * axis + (index,)


def _is_batch(x: Type, axis: int) -> bool:
    """Axis 0 is the batch, unless the batch is known to stand elsewhere, as behind steps: (T, N, C)."""
    return axis == 0 and not any(map(is_batch, x.shape[1:]))


def _has_element(extent: Extent, index: int) -> bool:
    """Whether an axis has an element at `index`; of any length, only the first and the last are sure."""
    return index in (0, -1) if is_length(extent) else isinstance(extent, int) and 0 <= index < extent


def _fixed_extent(x: Type, axis: int) -> int:
    expect(0 <= axis < x.rank and not _is_batch(x, axis), f"axis {axis} of rank {x.rank} cannot be cut")
    extent = x.shape[axis]
    expect(isinstance(extent, int), f"axis {axis} has a symbolic extent and cannot be cut")
    return x.bounds[axis]


def _torch_range(call: TorchCall, extent: int) -> tuple[int, int, int]:
    """(start, stop, step) as torch gives them: negative ones count from the end, an absent end is far away."""
    if call.target == "aten.narrow.default":
        start = call.integer("start")
        start += extent if start < 0 else 0
        return start, start + call.integer("length"), 1
    start = 0 if call.arguments["start"] is None else call.integer("start")
    stop = TO_THE_END if call.arguments["end"] is None else call.integer("end")
    return start, stop, call.integer("step")


@dataclass(frozen=True)
class Slice(Operator):
    """Input of any shape; output with elements start, start + step, ... below stop of `axis`, 0 <= start < stop."""

    name = "slice"
    torch = ("aten.slice.Tensor", "aten.narrow.default")
    onnx = ("Slice",)
    quant_rule = QuantRule.SAME

    axis: int
    start: int
    stop: int
    step: int = 1

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        x = call.ref("self")
        axis = call.axis("dim", x.type.rank)
        extent = x.type.shape[axis]
        start, stop, step = _torch_range(call, x.type.bounds[axis])
        if isinstance(extent, int):
            start, stop, step = slice(start, stop, step).indices(extent)
        if (start, step) == (0, 1) and stop in (extent, TO_THE_END):
            return Imported(None, (x.name,))
        call.require(not _is_batch(x.type, axis), "a part of axis 0, the batch")
        call.require(isinstance(extent, int), f"a part of axis {axis}, whose extent {extent} is symbolic")
        call.require(start < stop, f"the empty part {start}:{stop} of axis {axis}")
        return Imported(cls(axis, start, stop, step), (x.name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        x, starts, stops = call.activation(0), call.integers(1), call.extents(2)
        axes = call.integers(3) if call.has(3) else tuple(range(len(starts)))
        steps = call.integers(4) if call.has(4) else (1,) * len(starts)
        call.require(len(starts) == len(stops) == len(axes) == len(steps), "lists of different lengths")
        ops: list[Operation] = []
        for given, start, stop, step in zip(axes, starts, stops, steps, strict=True):
            axis = call.axis(given, x.type.rank)
            extent = x.type.shape[axis]
            most = 2**31 - 1 if isinstance(extent, Dim) else extent
            if (start, step) == (0, 1) and (stop == extent or (isinstance(stop, int) and stop >= most)):
                continue
            call.require(not _is_batch(x.type, axis), "a part of axis 0, the batch,")
            call.require(step >= 1, f"the step {step}")
            call.require(isinstance(extent, int), f"a part of axis {axis}, whose extent {extent} is symbolic,")
            call.require(isinstance(stop, int), f"an end of {stop}")
            first, last, _ = slice(start, bound(stop), step).indices(bound(extent))
            call.require(first < last, f"the empty part {start}:{stop} of axis {axis}")
            if (first, last, step) != (0, extent, 1):
                ops.append(cls(axis, first, last, step))
        return Imported(ops[0] if ops else None, (x.name,), tuple(ops[1:]))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        extent = _fixed_extent(inputs[0], self.axis)
        expect(0 <= self.start < self.stop <= extent and self.step >= 1, f"{self} of an axis of {extent}")
        shape = inputs[0].shape
        return (Type((*shape[: self.axis], self._count(), *shape[self.axis + 1 :])),)

    def _count(self) -> int:
        return len(range(self.start, self.stop, self.step))

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (np.ascontiguousarray(inputs[0][_at(self.axis, slice(self.start, self.stop, self.step))]),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return inputs[0][_at(self.axis, slice(self.start, self.stop, self.step))]

    def to_onnx(self, form: OnnxForm) -> None:
        ends = (("start", self.start), ("stop", self.stop), ("axis", self.axis), ("step", self.step))
        form.result("Slice", form.input(0), *(form.integers(what, [value]) for what, value in ends))

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x, y = inputs[0], outputs[0]
        assert x is not None
        others = kept_axes(x, y, [axis for axis in range(1, x.rank) if axis != self.axis])
        if self.step != 1:  # with gaps in it, the axis would no longer be cut in even steps
            return Coupling(others)
        labels = alone(x.bounds[self.axis]) - self.start
        labels[: self.start] = labels[self.stop :] = FREE
        return Coupling((*others, (on_input(0, self.axis, labels), on_output(self.axis, alone(self._count())))))

    def shrunk(self, inputs: tuple[Kept | None, ...], outputs: tuple[Kept, ...]) -> "Slice":
        if self.step != 1:
            return self
        assert inputs[0] is not None
        kept = inputs[0][self.axis]
        return replace(self, start=count_below(kept, self.start), stop=count_below(kept, self.stop))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        order = lowering.order(value)
        op = QSlice(order.index(self.axis), self.start, self._count(), self.step)
        lowering.finish(epilogue, op, (lowering.placed(value, order),), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.arange(2 * 6 * 5 * 4, dtype=np.float32).reshape(2, 6, 5, 4)
        for op in (cls(1, 0, 3), cls(2, 1, 5, 2), cls(3, 3, 4), cls(1, 1, 6, 4)):
            yield Sample(op, (x,))
        yield Sample(cls(1, 2, 20, 3), (x.reshape(2, 120),))


@dataclass(frozen=True)
class Select(Operator):
    """Input of any shape; output with the elements at `index` >= 0 of `axis`, one axis fewer.

    Of a sequence of any length, `index` may be 0 for the first step or -1 for the last.
    """

    name = "select"
    torch = ("aten.select.int", "aten.unbind.int")
    onnx = ("Gather",)
    quant_rule = QuantRule.SAME

    axis: int
    index: int

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported | Composed:
        x = call.ref("self")
        axis = call.axis("dim", x.type.rank)
        call.require(not _is_batch(x.type, axis), "one element of axis 0, the batch")
        extent = x.type.shape[axis]
        if is_length(extent):
            call.require(call.target != "aten.unbind.int", f"every element of axis {axis}, along the sequence")
            index = call.integer("index")
            call.require(index in (0, -1), f"element {index} of axis {axis}, which sequences of any length may lack")
            return Imported(cls(axis, index), (x.name,))
        call.require(isinstance(extent, int), f"one element of axis {axis}, whose extent {extent} is symbolic")
        if call.target == "aten.unbind.int":
            return Composed(lambda nodes, read: {i: nodes.add(cls(axis, i), x.name)[0] for i in read})
        return Imported(cls(axis, call.integer("index") % x.type.bounds[axis]), (x.name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        if isinstance(call.inputs[1], Ref):
            return Embedding.from_onnx(call)
        x, places = call.activation(0), call.integers(1)
        axis = call.axis(call.integer("axis", 0), x.type.rank)
        call.require(not _is_batch(x.type, axis), "elements of axis 0, the batch,")
        extent = x.type.shape[axis]
        if is_length(extent):
            fits = call.array(1).ndim == 0 and places in ((0,), (-1,))
            call.require(fits, f"elements {places} of axis {axis}, which sequences of any length may lack,")
            return Imported(cls(axis, places[0]), (x.name,))
        if isinstance(extent, Dim):
            raise UnsupportedOp(f"Gather: elements of axis {axis}, the batch")
        call.require(all(-extent <= i < extent for i in places), f"places {places} on an axis of {extent}")
        places = tuple(i % extent for i in places)
        if call.array(1).ndim == 0 and extent == 1:
            return Imported(Reshape((*x.type.shape[:axis], *x.type.shape[axis + 1 :])), (x.name,))
        if call.array(1).ndim == 0:
            return Imported(cls(axis, places[0]), (x.name,))
        in_a_row = bool(places) and places == tuple(range(places[0], places[0] + len(places)))
        call.require(call.array(1).ndim == 1 and in_a_row, "places that do not lie in a row")
        whole = places == tuple(range(extent))
        return Imported(None if whole else Slice(axis, places[0], places[-1] + 1), (x.name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        shape = inputs[0].shape
        expect(0 <= self.axis < inputs[0].rank and not _is_batch(inputs[0], self.axis), f"axis {self.axis} of {shape}")
        extent = shape[self.axis]
        expect(_has_element(extent, self.index), f"element {self.index} of an axis of {extent}")
        return (Type((*shape[: self.axis], *shape[self.axis + 1 :])),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (np.ascontiguousarray(inputs[0][_at(self.axis, self.index)]),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return inputs[0].select(self.axis, self.index)

    def to_onnx(self, form: OnnxForm) -> None:
        form.result("Gather", form.input(0), form.integers("index", self.index), axis=self.axis)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x = inputs[0]
        assert x is not None
        kept = [axis for axis in range(1, x.rank) if axis != self.axis]
        pairs = ((axis, axis - (axis > self.axis), alone(x.bounds[axis])) for axis in kept)
        return Coupling(tuple((on_input(0, before, n), on_output(after, n)) for before, after, n in pairs))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        order = lowering.order(value)
        at = order.index(self.axis)
        quant = lowering.quant(epilogue.output)
        op = QSlice(at, self.index, 1, 1)
        part = lowering.emit(op, (lowering.placed(value, order),), f"{epilogue.output}.part", quant)
        shape = lowering.program.types[part].shape
        rest = lowering.reshape(part, (*shape[:at], *shape[at + 1 :]))
        kept = tuple(axis - (axis > self.axis) for axis in order if axis != self.axis)
        lowering.define(epilogue.output, rest, kept)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.arange(2 * 6 * 5 * 4, dtype=np.float32).reshape(2, 6, 5, 4)
        for op in (cls(1, 0), cls(2, 4), cls(3, 1)):
            yield Sample(op, (x,))
        yield Sample(cls(1, 59), (x.reshape(2, 120),))


@dataclass(frozen=True)
class QSlice(IntegerOperator):
    """x u8 of any rank; output with elements start, start + step, ... (`count` of them) of `axis`.

    A start of -1 is the last element, and the only one.
    """

    name = "q_slice"

    axis: int
    start: int
    count: int
    step: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x = inputs[0]
        expect(x.dtype is DType.U8, "q_slice moves u8")
        expect(0 <= self.axis < x.rank and not is_batch(x.shape[self.axis]), f"axis {self.axis} cannot be cut")
        expect(self.start >= -1 and self.count >= 1 and self.step >= 1, f"{self} makes no sense")
        expect(self.start >= 0 or self.count == 1, f"{self} makes no sense")
        last = self.start + (self.count - 1) * self.step
        sure = _has_element(x.shape[self.axis], last) or (last == -1 and x.bounds[self.axis] > 0)
        expect(sure, f"element {last} of an axis of {x.shape[self.axis]}")
        return (Type((*x.shape[: self.axis], self.count, *x.shape[self.axis + 1 :]), DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        start = self._start(inputs[0].shape[self.axis])
        last = start + (self.count - 1) * self.step
        return (np.ascontiguousarray(inputs[0][_at(self.axis, slice(start, last + 1, self.step))]),)

    def _start(self, extent: int) -> int:
        return self.start % extent if self.start < 0 else self.start

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        shape = inputs[0].bounds
        return {
            "outer": int(np.prod(shape[: self.axis], dtype=np.int64)),
            "extent": shape[self.axis],
            "inner": int(np.prod(shape[self.axis + 1 :], dtype=np.int64)),
            **{"start": self._start(shape[self.axis]), "count": self.count, "step": self.step},
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(44)
        for op, shape in (
            (cls(1, 0, 256, 1), (2, 257)),
            (cls(1, 1, 128, 2), (1, 256)),
            (cls(3, 16, 17, 1), (1, 3, 3, 64)),
            (cls(2, 0, 4, 2), (2, 3, 7, 5)),
            (cls(1, 1, 2, 3), (2, 6, 4, 33)),
            (cls(4, 2, 1, 1), (1, 2, 3, 2, 3, 2)),
            (cls(1, 0, 1, 9), (1, 1)),
        ):
            yield Sample(op, (codes(rng, shape),))
        yield Sample(cls(1, -1, 1, 1), (codes(rng, (2, 5, 7)),))
        for inner in (*LENGTHS, 300):
            yield Sample(cls(1, 1, 2, 2), (codes(rng, (2, 5, inner)),))
