"""Hard sigmoid:  y = min(max(x / 6 + 1 / 2, 0), 1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.table import Elementwise


@dataclass(frozen=True)
class Hardsigmoid(Elementwise):
    """Input of any shape, output of the same shape."""

    name = "hardsigmoid"
    torch = ("aten.hardsigmoid.default", "aten.hardsigmoid_.default")
    onnx = ("HardSigmoid",)

    def function(self, x: np.ndarray) -> np.ndarray:
        y: np.ndarray = np.clip(x + 3, 0, 6) / 6
        return y

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.nn.functional.hardsigmoid(inputs[0])

    def to_onnx(self, form: OnnxForm) -> None:
        form.result("HardSigmoid", form.input(0), alpha=1 / 6, beta=0.5)
