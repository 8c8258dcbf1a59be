"""GELU:  y = x * P(X <= x) for a standard normal X.

"none":  y = x * (1 + erf(x / sqrt(2))) / 2
"tanh":  y = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2     (Hendrycks and Gimpel, 2016)
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.types import Type
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import Sample, expect
from penjing.ops.table import Elementwise
from penjing.ops.torch_call import Imported, TorchCall

_ONNX_HAS_GELU = 20  # from this opset on
_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Gelu(Elementwise):
    """Input of any shape, output of the same shape; `approximate` is "none" or "tanh"."""

    name = "gelu"
    torch = ("aten.gelu.default", "aten.gelu_.default")
    onnx = ("Gelu",)

    approximate: str = "none"

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        approximate = call.arguments.get("approximate", "none")
        call.require(approximate in ("none", "tanh"), f"approximate = {approximate!r}")
        return Imported(cls(str(approximate)), (call.ref("self").name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        return Imported(cls(call.text("approximate", "none")), (call.activation(0).name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(self.approximate in ("none", "tanh"), f"gelu knows 'none' and 'tanh', not {self.approximate!r}")
        return super().infer(*inputs)

    def function(self, x: np.ndarray) -> np.ndarray:
        real = x.astype(np.float64)
        if self.approximate == "tanh":
            gate = np.tanh(math.sqrt(2 / math.pi) * (real + 0.044715 * real**3))
        else:
            gate = _erf(real / math.sqrt(2))
        y: np.ndarray = (real * (1 + gate) / 2).astype(x.dtype)
        return y

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.nn.functional.gelu(inputs[0], approximate=self.approximate)

    def to_onnx(self, form: OnnxForm) -> None:
        x = form.input(0)
        if form.opset >= _ONNX_HAS_GELU:
            form.result("Gelu", x, approximate=self.approximate)
            return
        if self.approximate == "tanh":
            cube = form.node("Mul", x, form.node("Mul", x, x))
            bend = form.node("Add", x, form.node("Mul", cube, form.floats("cubic", 0.044715)))
            gate = form.node("Tanh", form.node("Mul", bend, form.floats("factor", math.sqrt(2 / math.pi))))
        else:
            gate = form.node("Erf", form.node("Div", x, form.floats("root", math.sqrt(2))))
        twice = form.node("Mul", x, form.node("Add", gate, form.floats("one", 1.0)))
        form.result("Mul", twice, form.floats("half", 0.5))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for sample in super().samples():
            yield sample
            yield Sample(cls("tanh"), sample.inputs)
