"""Hard swish:  y = x * min(max(x / 6 + 1 / 2, 0), 1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ops.table import Elementwise


@dataclass(frozen=True)
class Hardswish(Elementwise):
    """Input of any shape, output of the same shape."""

    name = "hardswish"
    torch = ("aten.hardswish.default", "aten.hardswish_.default")
    onnx = ("HardSwish",)

    def function(self, x: np.ndarray) -> np.ndarray:
        y: np.ndarray = x * np.clip(x + 3, 0, 6) / 6
        return y

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.nn.functional.hardswish(inputs[0])
