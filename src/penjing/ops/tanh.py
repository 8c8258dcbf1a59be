"""Hyperbolic tangent.  Every output lies in -1..1, so its codes are fixed: scale 1/128, zero point 128."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ops.operator import QuantRule
from penjing.ops.table import Elementwise


@dataclass(frozen=True)
class Tanh(Elementwise):
    """Input of any shape, output of the same shape."""

    name = "tanh"
    torch = ("aten.tanh.default", "aten.tanh_.default")
    onnx = ("Tanh",)
    quant_rule = QuantRule.FIXED

    def function(self, x: np.ndarray) -> np.ndarray:
        y: np.ndarray = np.tanh(x)
        return y

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.tanh(inputs[0])

    def fixed_range(self) -> tuple[float, float]:
        return -1.0, 127 / 128
