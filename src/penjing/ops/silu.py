"""SiLU (swish):  y = x * sigmoid(x)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.sigmoid import logistic
from penjing.ops.table import Elementwise
from penjing.ops.torch_call import Imported


@dataclass(frozen=True)
class Silu(Elementwise):
    """Input of any shape, output of the same shape."""

    name = "silu"
    torch = ("aten.silu.default", "aten.silu_.default")
    onnx = ("Swish",)

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        call.require(call.number("alpha", 1.0) == 1, f"alpha = {call.number('alpha', 1.0)}")
        return Imported(cls(), (call.activation(0).name,))

    def function(self, x: np.ndarray) -> np.ndarray:
        y: np.ndarray = x * logistic(x)
        return y

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.nn.functional.silu(inputs[0])

    def to_onnx(self, form: OnnxForm) -> None:
        form.result("Mul", form.input(0), form.node("Sigmoid", form.input(0)))
