"""Permute:  y[i_p(0), i_p(1), ...] = x[i_0, i_1, ...], with output axis k holding input axis perm[k]."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.coupling import Coupling, alone, on_input, on_output
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import FloatRule, Operator, QuantRule, Sample
from penjing.ops.torch_call import Imported, Ref, TorchCall
from penjing.ops.transpose import permuted


@dataclass(frozen=True)
class Permute(Operator):
    """Input of rank n, output with its axes in the order `perm`."""

    name = "permute"
    torch = ("aten.permute.default", "aten.transpose.int", "aten.t.default")
    onnx = ("Transpose",)
    quant_rule = QuantRule.SAME
    float_rule = FloatRule.MOVES

    perm: tuple[int, ...]

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        source = next(a for a in call.arguments.values() if isinstance(a, Ref))
        rank = source.type.rank
        perm = list(range(rank))
        if call.target == "aten.permute.default":
            perm = [axis % rank for axis in call.integers("dims")]
        elif call.target == "aten.transpose.int":
            i, j = call.axis("dim0", rank), call.axis("dim1", rank)
            perm[i], perm[j] = j, i
        else:
            perm.reverse()
        return Imported(cls(tuple(perm)), (source.name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        x = call.activation(0)
        rank = x.type.rank
        perm = call.given("perm") or tuple(reversed(range(rank)))
        call.require(sorted(perm) == list(range(rank)), f"perm = {perm} for rank {rank}")
        return Imported(None if perm == tuple(range(rank)) else cls(perm), (x.name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return permuted(inputs[0], self.perm, DType.F32)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (np.ascontiguousarray(np.transpose(inputs[0], self.perm)),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return inputs[0].permute(self.perm)

    def to_onnx(self, form: OnnxForm) -> None:
        form.result("Transpose", form.input(0), perm=self.perm)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        y = outputs[0]
        moved = [(axis, k, alone(y.bounds[k])) for k, axis in enumerate(self.perm) if k and axis]
        return Coupling(tuple((on_input(0, axis, n), on_output(k, n)) for axis, k, n in moved))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        # nothing moves: the physical order is the same, only the logical axes have other names
        value = node.inputs[0]
        order = lowering.order(value)
        inverse = {axis: k for k, axis in enumerate(self.perm)}
        moved = tuple(inverse[axis] for axis in order)
        if lowering.is_float(epilogue.output):
            lowering.define_floats(epilogue.output, lowering.floats(value, order), moved)
        else:
            lowering.define(epilogue.output, lowering.placed(value, order), moved)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
        for perm in ((0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (0, 1, 2, 3)):
            yield Sample(cls(perm), (x,))
        yield Sample(cls((0, 2, 1)), (x[:, :, 0],))
