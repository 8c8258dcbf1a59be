"""Leaky ReLU:  y = x where x >= 0, else slope * x; the slope is one attribute."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import Sample
from penjing.ops.table import Elementwise
from penjing.ops.torch_call import Imported, TorchCall


def bent(x: np.ndarray, slope: float | np.ndarray) -> np.ndarray:
    """x where x >= 0, else slope * x; `slope` broadcasts."""
    y: np.ndarray = np.where(x >= 0, x, x * slope).astype(x.dtype)
    return y


@dataclass(frozen=True)
class LeakyRelu(Elementwise):
    """Input of any shape, output of the same shape."""

    name = "leaky_relu"
    torch = ("aten.leaky_relu.default", "aten.leaky_relu_.default")
    onnx = ("LeakyRelu",)

    negative_slope: float = 0.01

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        return Imported(cls(call.number("negative_slope")), (call.ref("self").name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        return Imported(cls(call.number("alpha", 0.01)), (call.activation(0).name,))

    def function(self, x: np.ndarray) -> np.ndarray:
        return bent(x, self.negative_slope)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.nn.functional.leaky_relu(inputs[0], self.negative_slope)

    def to_onnx(self, form: OnnxForm) -> None:
        form.result("LeakyRelu", form.input(0), alpha=self.negative_slope)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from super().samples()
        for slope in (0.0, 0.25, -1.0):
            yield Sample(cls(slope), (np.linspace(-8, 8, 257, dtype=np.float32).reshape(1, 257),))
