"""Split:  one axis cut into consecutive parts of the given sizes, one output each. Codes are moved, never computed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from penjing.ir.graph import Node
from penjing.ir.types import Type
from penjing.ops.coupling import Coupling, Kept, alone, on_input, on_output
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import Operator, QuantRule, Sample, expect
from penjing.ops.slice import QSlice
from penjing.ops.torch_call import Imported, TorchCall


@dataclass(frozen=True)
class Split(Operator):
    """Input of any shape; output i has extent `sizes[i]` along `axis`; the sizes sum to the input's extent."""

    name = "split"
    torch = (
        "aten.split.Tensor",
        "aten.split_with_sizes.default",
        "aten.chunk.default",
        "aten.tensor_split.sections",
        "aten.tensor_split.indices",
    )
    onnx = ("Split",)
    quant_rule = QuantRule.SAME

    axis: int
    sizes: tuple[int, ...]

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        x = call.ref("self")
        axis = call.axis("dim", x.type.rank)
        call.require(axis != 0, "dim = 0, the batch axis")
        # every member of the family is told by its output shapes alone
        sizes = tuple(extent for shape in call.outputs if isinstance(extent := shape[axis], int))
        call.require(len(sizes) == len(call.outputs), f"a symbolic extent along dim = {axis}")
        return Imported(cls(axis, sizes), (x.name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        x = call.activation(0)
        axis = call.axis(call.integer("axis", 0), x.type.rank)
        call.require(axis != 0, "axis 0, the batch,")
        extent, count = x.type.bounds[axis], call.outputs
        sizes = call.given("split") if call.opset < 13 else call.integers(1) if call.has(1) else None
        if sizes is None:
            call.require(call.integer("num_outputs", count) == count, "another number of outputs")
            chunk = -(-extent // count)
            sizes = (*(chunk,) * (count - 1), extent - chunk * (count - 1))
        call.require(min(sizes, default=0) >= 1, f"parts of {sizes}")
        return Imported(cls(axis, sizes), (x.name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x = inputs[0]
        expect(1 <= self.axis < x.rank, f"axis {self.axis} of rank {x.rank} cannot be split")
        expect(min(self.sizes, default=0) >= 1, f"parts of {self.sizes}")
        expect(x.shape[self.axis] == sum(self.sizes), f"{self.sizes} do not make up {x.shape[self.axis]}")
        return tuple(Type((*x.shape[: self.axis], size, *x.shape[self.axis + 1 :])) for size in self.sizes)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        parts = np.split(inputs[0], list(accumulate(self.sizes))[:-1], axis=self.axis)
        return tuple(np.ascontiguousarray(part) for part in parts)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.split(inputs[0], list(self.sizes), self.axis)

    def to_onnx(self, form: OnnxForm) -> None:
        form.result("Split", form.input(0), form.integers("sizes", self.sizes), axis=self.axis)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x = inputs[0]
        assert x is not None
        ties = []
        for axis in range(1, x.rank):
            ends, start = [on_input(0, axis, alone(x.bounds[axis]))], 0
            for place, y in enumerate(outputs):
                ends.append(on_output(axis, start + alone(y.bounds[axis]), place))
                start += y.bounds[axis] if axis == self.axis else 0
            ties.append(tuple(ends))
        return Coupling(tuple(ties))

    def shrunk(self, inputs: tuple[Kept | None, ...], outputs: tuple[Kept, ...]) -> "Split":
        return replace(self, sizes=tuple(len(y[self.axis]) for y in outputs))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        order = lowering.order(value)
        x, at = lowering.placed(value, order), order.index(self.axis)
        starts = accumulate(self.sizes[:-1], initial=0)
        for output, start, size in zip(node.outputs, starts, self.sizes, strict=True):
            part = lowering.emit(QSlice(at, start, size, 1), (x,), output, lowering.quant(output))
            lowering.define(output, part, order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.arange(2 * 6 * 5 * 4, dtype=np.float32).reshape(2, 6, 5, 4)
        for op in (cls(1, (3, 3)), cls(2, (1, 4)), cls(3, (4,)), cls(1, (1, 2, 2, 1))):
            yield Sample(op, (x,))
