"""Sigmoid:  y = 1 / (1 + exp(-x)).  Every output lies in 0..1, so its codes are fixed: scale 1/256, zero point 0."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ops.operator import QuantRule
from penjing.ops.table import Elementwise


def logistic(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) in the dtype of x; the exponential never overflows."""
    decay = np.exp(-np.abs(x))
    y: np.ndarray = np.where(x >= 0, np.ones_like(x), decay) / (1 + decay)
    return y


@dataclass(frozen=True)
class Sigmoid(Elementwise):
    """Input of any shape, output of the same shape."""

    name = "sigmoid"
    torch = ("aten.sigmoid.default", "aten.sigmoid_.default")
    onnx = ("Sigmoid",)
    quant_rule = QuantRule.FIXED

    def function(self, x: np.ndarray) -> np.ndarray:
        return logistic(x)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.sigmoid(inputs[0])

    def fixed_range(self) -> tuple[float, float]:
        return 0.0, 255 / 256
