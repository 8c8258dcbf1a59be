"""Hard sigmoid:  y = min(max(slope * x + offset, 0), 1), by default min(max(x / 6 + 1 / 2, 0), 1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import Sample
from penjing.ops.table import Elementwise
from penjing.ops.torch_call import Imported, TorchCall

_SIXTH = 1 / 6


@dataclass(frozen=True)
class Hardsigmoid(Elementwise):
    """Input of any shape, output of the same shape."""

    name = "hardsigmoid"
    torch = ("aten.hardsigmoid.default", "aten.hardsigmoid_.default")
    onnx = ("HardSigmoid",)

    slope: float = _SIXTH
    offset: float = 0.5

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        return Imported(cls(), (call.ref("self").name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        slope, offset = call.number("alpha", 0.2), call.number("beta", 0.5)
        if np.float32(slope) == np.float32(_SIXTH):
            slope = _SIXTH
        return Imported(cls(slope, offset), (call.activation(0).name,))

    def function(self, x: np.ndarray) -> np.ndarray:
        if (self.slope, self.offset) == (_SIXTH, 0.5):
            y: np.ndarray = np.clip(x + 3, 0, 6) / 6
        else:
            y = np.clip(x * self.slope + self.offset, 0, 1).astype(x.dtype)
        return y

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        if (self.slope, self.offset) == (_SIXTH, 0.5):
            return torch.nn.functional.hardsigmoid(inputs[0])
        return torch.clamp(inputs[0] * self.slope + self.offset, 0, 1)

    def to_onnx(self, form: OnnxForm) -> None:
        form.result("HardSigmoid", form.input(0), alpha=self.slope, beta=self.offset)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for sample in super().samples():
            yield sample
            yield Sample(cls(0.2, 0.4), sample.inputs)
