"""Concatenation along one axis, which is not the batch.

In integers, inputs in other codes than the output's go through a table first; then codes are only moved.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.graph import Node
from penjing.ir.types import Dim, DType, Type
from penjing.ops.coupling import Coupling, alone, on_input, on_output
from penjing.ops.integer_samples import LENGTHS, codes
from penjing.ops.lowering import Epilogue, Lowering, Order, channels_last
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import IntegerOperator, Operator, Param, Part, Pieces, Sample, expect
from penjing.ops.reshape import Reshape
from penjing.ops.torch_call import Composed, Imported, Nodes, Ref, TorchCall

MAX_PARTS = 32  # as many as `struct pj_q_concat` has room for


def _joined(inputs: tuple[Type, ...], axis: int, dtype: DType) -> tuple[Type, ...]:
    first = inputs[0].shape
    rest = [(*t.shape[:axis], *t.shape[axis + 1 :]) for t in inputs]
    expect(all(shape == rest[0] for shape in rest), f"shapes {[t.shape for t in inputs]} differ beside axis {axis}")
    expect(all(isinstance(t.shape[axis], int) for t in inputs), f"axis {axis} has a symbolic extent")
    return (Type((*first[:axis], sum(t.bounds[axis] for t in inputs), *first[axis + 1 :]), dtype),)


def _batch_is_behind(x: Type) -> bool:
    """Whether the batch is known to stand elsewhere than on axis 0, as behind steps: (T, N, C)."""
    return any(isinstance(extent, Dim) for extent in x.shape[1:])


@dataclass(frozen=True)
class Concat(Operator):
    """Inputs whose shapes differ along `axis` alone; output with their extents summed there."""

    name = "concat"
    torch = ("aten.cat.default", "aten.concat.default", "aten.concatenate.default", "aten.stack.default")
    onnx = ("Concat",)

    axis: int

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported | Composed:
        tensors = call.arguments["tensors"]
        refs = [t for t in tensors if isinstance(t, Ref)] if isinstance(tensors, list | tuple) else []
        call.require(isinstance(tensors, list | tuple) and 0 < len(refs) == len(tensors), f"tensors = {tensors!r}")
        stacked = call.target == "aten.stack.default"
        axis = call.axis("dim", refs[0].type.rank + stacked)
        call.require(axis != 0, "dim = 0, the batch axis")
        if not stacked:
            return Imported(cls(axis), tuple(ref.name for ref in refs))

        def build(nodes: Nodes, _: object) -> dict[int, str]:
            shape = refs[0].type.shape
            one = Reshape((*shape[:axis], 1, *shape[axis:]))
            return {0: nodes.add(cls(axis), *(nodes.add(one, ref.name)[0] for ref in refs))[0]}

        return Composed(build)

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        refs = [call.operand(i) for i in range(len(call.inputs))]
        axis = call.axis(call.integer("axis", 0), refs[0].type.rank)
        call.require(axis != 0 or all(_batch_is_behind(ref.type) for ref in refs), "axis 0, the batch,")
        return Imported(cls(axis), tuple(ref.name for ref in refs))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        first = all(_batch_is_behind(t) for t in inputs)
        expect(all(1 - first <= self.axis < t.rank for t in inputs), f"inputs cannot be joined along axis {self.axis}")
        return _joined(inputs, self.axis, DType.F32)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (np.concatenate(inputs, axis=self.axis),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.cat(inputs, self.axis)

    def to_onnx(self, form: OnnxForm) -> None:
        form.result("Concat", *form.inputs(), axis=self.axis)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        y = outputs[0]
        ties = []
        for axis in range(1, y.rank):
            ends, start = [on_output(axis, alone(y.bounds[axis]))], 0
            for place, x in enumerate(inputs):
                assert x is not None
                ends.append(on_input(place, axis, start + alone(x.bounds[axis])))
                start += x.bounds[axis] if axis == self.axis else 0
            ties.append(tuple(ends))
        return Coupling(tuple(ties))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        order = _least_moved(lowering, node.inputs)
        target = lowering.quant(epilogue.output)
        parts = [lowering.rescaled(lowering.placed(value, order), target) for value in node.inputs]
        op = QConcat(order.index(self.axis))
        while len(parts) > MAX_PARTS:
            stage = [tuple(parts[i : i + MAX_PARTS]) for i in range(0, len(parts), MAX_PARTS)]
            parts = [lowering.emit(op, some, f"{epilogue.output}.part", target) for some in stage]
        lowering.finish(epilogue, op, tuple(parts), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(45)
        for axis, extents in ((1, (3, 5)), (2, (1, 4, 2)), (3, (2,)), (1, (1,) * 40)):
            shapes = [[2, 3, 4, 5] for _ in extents]
            for shape, extent in zip(shapes, extents, strict=True):
                shape[axis] = extent
            yield Sample(cls(axis), tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes))
        yield Sample(cls(1), tuple(rng.normal(size=(2, n)).astype(np.float32) for n in (7, 1)))


def _least_moved(lowering: Lowering, values: tuple[str, ...]) -> Order:
    """The order in which most elements stand already; channels last where it makes no difference."""
    elements: Counter[Order] = Counter()
    for value in values:
        if value not in lowering.graph.constants:
            elements[lowering.order(value)] += lowering.graph.types[value].elements
    last = channels_last(len(lowering.shape(values[0])))
    return max(elements, key=lambda order: (elements[order], order == last), default=last)


@dataclass(frozen=True)
class QConcat(IntegerOperator):
    """Up to 32 inputs u8 whose shapes differ along `axis` alone; output with their extents summed there."""

    name = "q_concat"

    axis: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(1 <= len(inputs) <= MAX_PARTS, f"q_concat joins 1 to {MAX_PARTS} inputs, not {len(inputs)}")
        expect(all(t.dtype is DType.U8 for t in inputs), "q_concat moves u8")
        expect(all(0 <= self.axis < t.rank for t in inputs), f"inputs cannot be joined along axis {self.axis}")
        return _joined(inputs, self.axis, DType.U8)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (np.concatenate(inputs, axis=self.axis),)

    def parts(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> tuple[Part, ...]:
        rows = [int(np.prod(t.bounds[self.axis :], dtype=np.int64)) for t in inputs]
        return tuple(Part(sum(rows[:k]), Pieces(row, sum(rows))) for k, row in enumerate(rows))

    def writes_pieces(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...], nbytes: int) -> bool:
        return nbytes == self.parts(inputs, outputs)[0].pieces.step

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return self.placed_params(inputs, outputs, None, range(len(inputs)))

    def placed_params(
        self, inputs: tuple[Type, ...], outputs: tuple[Type, ...], pieces: Pieces | None, moved: Sequence[int]
    ) -> dict[str, Param]:
        parts = self.parts(inputs, outputs)
        some = [parts[k] for k in moved]
        none = (0,) * (MAX_PARTS - len(some))
        return {
            "count": len(some),
            "outer": int(np.prod(outputs[0].bounds[: self.axis], dtype=np.int64)),
            "step": (pieces or parts[0].pieces).step,
            "part": (*(part.pieces.nbytes for part in some), *none),
            "at": (*(part.offset for part in some), *none),
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(46)
        for axis, extents in ((1, (3, 5)), (2, (1, 4, 2)), (3, (16, 17, 256)), (1, (1,) * MAX_PARTS), (3, (2,))):
            shapes = [[2, 3, 4, 5] for _ in extents]
            for shape, extent in zip(shapes, extents, strict=True):
                shape[axis] = extent
            yield Sample(cls(axis), tuple(codes(rng, tuple(shape)) for shape in shapes))
        yield Sample(cls(1), tuple(codes(rng, (1, n)) for n in (256, 1, 33)))
        yield Sample(cls(1), tuple(codes(rng, (3, n)) for n in (*LENGTHS, 300)))
