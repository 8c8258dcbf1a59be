"""Multiplication with broadcasting:  y = a * b.

    y = rne(clamp(float32((a - zp_a) * (b - zp_b)) * m, qmin - zp_y, qmax - zp_y)) + zp_y,    m = (s_a * s_b) / s_y

The product of two centred codes is exact in int32 and in float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from penjing.core.arithmetic import multiplier, round_clamped
from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.add import Binary, binary_samples, broadcast, broadcast_params, onnx_operands
from penjing.ops.integer_samples import codes
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.operator import IntegerOperator, Param, Sample, expect
from penjing.ops.torch_call import Imported


@dataclass(frozen=True)
class Mul(Binary):
    """Inputs a and b, broadcast together."""

    name = "mul"
    torch = ("aten.mul.Tensor", "aten.mul_.Tensor")
    onnx = ("Mul", "Div", "Neg")

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        if call.target == "Neg":
            return Imported(cls(), (call.activation(0).name, call.constant("minus_one", np.asarray(-1.0)).name))
        if call.target == "Mul":
            return super().from_onnx(call)
        divisor = call.array(1).astype(np.float64)
        call.require(bool(np.all(divisor != 0)), "a divisor of zero")
        with np.errstate(over="ignore"):
            inverse = call.constant("reciprocal", 1.0 / divisor)
        return Imported(cls(), onnx_operands(replace(call, inputs=(call.activation(0), inverse))))

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (inputs[0] * inputs[1],)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return inputs[0] * inputs[1]

    def integer(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> IntegerOperator:
        a, b, y = (lowering.quant(name) for name in (*node.inputs, epilogue.output))
        m = float(multiplier(a.scale, np.asarray(b.scale), y.scale))
        return QMul(a.zero_point, b.zero_point, m, y.zero_point, *lowering.clamp_codes(epilogue))

    def in_floats(self, epilogue: Epilogue) -> IntegerOperator:
        from penjing.ops.f_mul import FMul
        from penjing.ops.f_sums import finite_ends

        return FMul(*finite_ends(epilogue.low, epilogue.high))


@dataclass(frozen=True)
class QMul(IntegerOperator):
    """a, b u8, broadcast together; `multiplier` is (s_a * s_b) / s_y."""

    name = "q_mul"

    a_zero: int
    b_zero: int
    multiplier: float
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(all(t.dtype is DType.U8 for t in inputs), "q_mul takes u8")
        return (Type(broadcast(inputs[0].shape, inputs[1].shape), DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        a = inputs[0].astype(np.int32) - self.a_zero
        b = inputs[1].astype(np.int32) - self.b_zero
        value = (a * b).astype(np.float32) * np.float32(self.multiplier)
        return (round_clamped(value, self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {
            **broadcast_params(inputs, outputs[0]),
            **{"a_zero": self.a_zero, "b_zero": self.b_zero, "multiplier": self.multiplier, "y_zero": self.y_zero},
            **{"low": float(self.qmin - self.y_zero), "high": float(self.qmax - self.y_zero)},
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from binary_samples(lambda i: cls(*_PARAMETERS[i % 4], *[(0, 255), (5, 250)][i % 2]))
        rng = np.random.default_rng(31)
        for a, b in (((2, 3, 4, 2, 3, 5), (2, 3, 1, 2, 1, 5)), ((2, 1, 4, 1, 3, 5), (1, 3, 4, 2, 3, 1))):
            yield Sample(cls(*_PARAMETERS[1], 0, 255), (codes(rng, a), codes(rng, b)))
        # a multiplier whose products leave the range of int32 at both ends
        every = np.arange(256, dtype=np.uint8)
        yield Sample(cls(128, 128, 2.0**60, 128, 5, 250), (every, np.roll(every, 100)))


# zero points of a and b, multiplier, zero point of y: ties, an ordinary layer, a fine one, saturation at both ends
_PARAMETERS = (
    (128, 128, 0.5, 128),
    (3, 250, float(np.float32(0.011)), 100),
    (0, 0, float(np.float32(1.0 / 255.0)), 0),
    (128, 128, 0.25, 255),
)
