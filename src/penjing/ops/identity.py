"""Identity:  y = x.  What is left of operators that mean nothing at inference: dropout, clone, detach.

The front end drops such calls; the operator itself exists so that a graph may hold one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.coupling import Coupling, broadcast_axes
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.operator import Cost, Operator, QuantRule, Sample
from penjing.ops.torch_call import Imported, Ref, TorchCall

_ONNX_FLOATS = (1, 10, 11, 16)  # float32, float16, float64, bfloat16: between them a cast changes nothing here
_ONNX_INTEGERS = (6, 7)  # int32, int64


@dataclass(frozen=True)
class Identity(Operator):
    """Input of any shape, the same as output."""

    name = "identity"
    torch = (
        "aten.alias.default",
        "aten.alpha_dropout.default",
        "aten.alpha_dropout_.default",
        "aten.clone.default",
        "aten.contiguous.default",
        "aten.detach.default",
        "aten.detach_.default",
        "aten.dropout.default",
        "aten.dropout_.default",
        "aten.feature_alpha_dropout.default",
        "aten.feature_dropout.default",
        "aten.feature_dropout_.default",
        "aten.lift_fresh_copy.default",
    )
    onnx = ("Identity", "Dropout", "Cast")
    quant_rule = QuantRule.SAME

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        if call.arguments.get("train"):
            raise UnsupportedOp(
                f"{call.target} still drops values, as in training", hint="call model.eval() before the export"
            )
        source = next(a for a in call.arguments.values() if isinstance(a, Ref))
        return Imported(None, (source.name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        if call.target == "Dropout":
            call.require(call.outputs == 1, "a mask that is read")
            call.require(not (call.has(2) and call.array(2).any()), "training_mode, as in training,")
        if call.target == "Cast":
            is_ids = call.activation(0).type.dtype is DType.S32
            kinds, said = (_ONNX_INTEGERS, "integer") if is_ids else (_ONNX_FLOATS, "float")
            call.require(call.integer("to", 0) in kinds, f"to = {call.integer('to', 0)}, which is no {said},")
        return Imported(None, (call.activation(0).name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return (Type(inputs[0].shape),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (inputs[0],)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return inputs[0]

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        return Coupling(broadcast_axes(inputs, outputs[0]))

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(0, 0)

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        order = lowering.order(value)
        lowering.define(epilogue.output, lowering.placed(value, order), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), (np.arange(24, dtype=np.float32).reshape(2, 3, 4),))
