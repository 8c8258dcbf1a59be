"""The rectifiers: relu y = max(x, 0); relu6 and clamp y = min(max(x, low), high).

All are clamps, so a convolution, linear layer or addition before them does them in passing.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import Sample
from penjing.ops.table import Elementwise
from penjing.ops.torch_call import Imported, Ref, TorchCall


class _Clamp(Elementwise):
    def function(self, x: np.ndarray) -> np.ndarray:
        low, high = self.clamp_range()
        y: np.ndarray = np.clip(x, low, high).astype(x.dtype)
        return y

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        low, high = self.clamp_range()
        functional = torch.nn.functional  # its gradients are three times as fast as that of torch.clamp
        if (low, high) == (0.0, math.inf):
            return functional.relu(inputs[0])
        if math.isfinite(low) and math.isfinite(high):
            return functional.hardtanh(inputs[0], low, high)
        return torch.clamp(inputs[0], None if math.isinf(low) else low, None if math.isinf(high) else high)

    def to_onnx(self, form: OnnxForm) -> None:
        ends = zip(("low", "high"), self.clamp_range(), strict=True)
        form.result("Clip", form.input(0), *("" if math.isinf(end) else form.floats(n, end) for n, end in ends))

    def clamp_range(self) -> tuple[float, float]:
        raise NotImplementedError


@dataclass(frozen=True)
class Relu(_Clamp):
    """y = max(x, 0)."""

    name = "relu"
    torch = ("aten.relu.default", "aten.relu_.default")
    onnx = ("Relu",)

    def to_onnx(self, form: OnnxForm) -> None:
        form.result("Relu", form.input(0))

    def clamp_range(self) -> tuple[float, float]:
        return 0.0, math.inf


@dataclass(frozen=True)
class Relu6(_Clamp):
    """y = min(max(x, 0), 6)."""

    name = "relu6"
    torch = ("aten.relu6.default", "aten.relu6_.default")

    def clamp_range(self) -> tuple[float, float]:
        return 0.0, 6.0


@dataclass(frozen=True)
class Clamp(_Clamp):
    """y = min(max(x, low), high): hardtanh and clamp; an infinite bound is none."""

    name = "clamp"
    torch = ("aten.hardtanh.default", "aten.hardtanh_.default", "aten.clamp.default", "aten.clamp_min.default")
    onnx = ("Clip", "Min", "Max")

    low: float = -1.0
    high: float = 1.0

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.linspace(-8, 8, 257, dtype=np.float32).reshape(1, 257)
        for low, high in ((-1.0, 1.0), (-0.5, 2.0), (0.0, math.inf), (-math.inf, 3.0)):
            yield Sample(cls(low, high), (x,))

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        keys = ("min_val", "max_val") if "hardtanh" in call.target else ("min", "max")
        low, high = (None if call.arguments.get(key) is None else call.number(key) for key in keys)
        op = cls(-math.inf if low is None else low, math.inf if high is None else high)
        return Imported(op, (next(a.name for a in call.arguments.values() if isinstance(a, Ref)),))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        x = call.activation(0)
        if call.target == "Clip":
            low, high = call.scalar(1, -math.inf), call.scalar(2, math.inf)
        else:
            call.require(len(call.inputs) == 2, f"{len(call.inputs)} operands")
            bound = call.scalar(1, math.nan)
            low, high = (-math.inf, bound) if call.target == "Min" else (bound, math.inf)
        known: dict[tuple[float, float], _Clamp | None] = {
            (-math.inf, math.inf): None,
            (0.0, math.inf): Relu(),
            (0.0, 6.0): Relu6(),
        }
        return Imported(known.get((low, high), cls(low, high)), (x.name,))

    def clamp_range(self) -> tuple[float, float]:
        return self.low, self.high
