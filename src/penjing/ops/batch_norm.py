"""Batch normalization at inference, per channel (axis 1):

    y = (x - mean) / sqrt(var + eps) * gamma + beta  =  a * x + b,    a = gamma / sqrt(var + eps),  b = beta - mean * a

Usually a pass folds it into the convolution before it. One that stays becomes a 1x1 depthwise convolution, whose weight
in a channel stands for a = w * s_w and whose bias counts steps of s_x * s_w:

    s_w = max(|a| / 127, |b| / (s_x * 2^30)),    w = rne(a / s_w),    bias = rne(b / (s_x * s_w))

Where the first term rules, which is nearly always, w = +-127 and s_w carries a without error. Where the second does,
|a * x| < 2^-15 |b|, the rounding of w costs less than 2^-23 |b|, and the bias still fits into int32 with room for
127 * 255. A channel with a = b = 0 takes any scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import multiplier
from penjing.core.errors import QuantizationError, UnsupportedOp
from penjing.ir.graph import Node
from penjing.ir.types import Type
from penjing.ops.as_images import IMAGE_RANK, emit_as_image
from penjing.ops.coupling import Coupling, alone, broadcast_axes, on_input
from penjing.ops.depthwise import QDepthwise
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import Operator, Sample, expect
from penjing.ops.torch_call import Imported, TorchCall

BIAS_LIMIT = 2.0**30
WEIGHT_MAX = 127


@dataclass(frozen=True)
class BatchNorm(Operator):
    """Inputs x (N, C, ...) of rank 2 to 4, then gamma, beta, mean, var (C); gamma and beta may be absent."""

    name = "batch_norm"
    torch = ("aten.batch_norm.default", "aten._native_batch_norm_legit_no_training.default")
    onnx = ("BatchNormalization",)
    parameter_inputs = (1, 2, 3, 4)

    eps: float = 1e-5

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        if call.arguments.get("training"):
            raise UnsupportedOp(
                f"{call.target} normalizes by the batch at hand, as in training",
                hint="call model.eval() before the export",
            )
        running = (call.ref("running_mean").name, call.ref("running_var").name)
        inputs = (call.ref("input").name, call.optional("weight"), call.optional("bias"), *running)
        return Imported(cls(call.number("eps")), inputs)

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        call.require(not call.flag("training_mode") and call.outputs == 1, "training_mode, as in training,")
        statistics = tuple(call.weight(i).name for i in range(1, 5))
        return Imported(cls(call.number("epsilon", 1e-5)), (call.activation(0).name, *statistics))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, *statistics = inputs
        expect(2 <= x.rank <= IMAGE_RANK, f"batch_norm takes rank 2 to 4, not {x.rank}")
        fits = all(t.bounds == (x.bounds[1],) for t in statistics)
        expect(fits, f"batch_norm of {x.bounds[1]} channels with {[t.bounds for t in statistics]}")
        return (Type(x.shape),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, *statistics = inputs
        along = (-1, *(1,) * (x.ndim - 2))
        columns: list[Any] = [None if s is None else s.reshape(along) for s in statistics]
        gamma, beta, mean, var = columns
        y = (x - mean) / np.sqrt(var + np.float32(self.eps))
        y = y if gamma is None else y * gamma
        return (y if beta is None else y + beta,)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x, gamma, beta, mean, var = inputs
        return torch.nn.functional.batch_norm(x, mean, var, gamma, beta, training=False, eps=self.eps)

    def to_onnx(self, form: OnnxForm) -> None:
        channels = form.type(0).bounds[1]
        gamma = form.input(1) if form.has(1) else form.floats("gamma", np.ones(channels))
        beta = form.input(2) if form.has(2) else form.floats("beta", np.zeros(channels))
        form.result("BatchNormalization", form.input(0), gamma, beta, form.input(3), form.input(4), epsilon=self.eps)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        channels, *others = broadcast_axes(inputs[:1], outputs[0])
        along = alone(outputs[0].bounds[1])
        statistics = (on_input(place, 0, along) for place, t in enumerate(inputs) if place and t is not None)
        return Coupling(((*channels, *statistics), *others))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value, *statistics = node.inputs
        source, target = lowering.quant(value), lowering.quant(epilogue.output)
        a, b = self._line(lowering, node, statistics)
        step = _weight_scale(a, b, float(source.scale))
        if not np.all(np.isfinite([a, b, step])):
            raise QuantizationError("batch_norm with factors that are no finite float32", where=str(node))
        weight = np.rint(a / step).clip(-WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
        bias = np.rint(b / (float(source.scale) * step)).astype(np.int32)
        constants = (
            lowering.constant(f"{node.output}.weight", weight.reshape(1, 1, -1)),
            lowering.constant(f"{node.output}.bias", bias),
            lowering.constant(f"{node.output}.multiplier", multiplier(source.scale, step, target.scale)),
        )
        zeros = (source.zero_point, target.zero_point)
        op = QDepthwise((1, 1), (0, 0, 0, 0), (1, 1), *zeros, *lowering.clamp_codes(epilogue))
        emit_as_image(lowering, value, op, epilogue, constants)

    def _line(self, lowering: Lowering, node: Node, statistics: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """(a, b) of y = a * x + b, float64 (C)."""
        constants = lowering.graph.constants
        if any(name and name not in constants for name in statistics):
            raise UnsupportedOp("batch_norm with statistics that are computed", where=str(node))
        gamma, beta, mean, var = (constants[n].array.astype(np.float64) if n else None for n in statistics)
        assert mean is not None and var is not None
        if not np.all(var + self.eps > 0):
            raise QuantizationError("batch_norm with a variance of zero or less", where=str(node))
        a = (1.0 if gamma is None else gamma) / np.sqrt(var + self.eps)
        return np.asarray(a), (0.0 if beta is None else beta) - mean * a

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(21)
        for shape, eps in (((2, 3, 4, 5), 1e-5), ((1, 17, 6), 1e-3), ((4, 33), 1e-5)):
            x = rng.normal(size=shape).astype(np.float32)
            gamma, beta, mean = rng.normal(size=(3, shape[1])).astype(np.float32)
            var = rng.uniform(0.1, 2.0, size=shape[1]).astype(np.float32)
            yield Sample(cls(eps), (x, gamma, beta, mean, var), constant=(1, 2, 3, 4))
            yield Sample(cls(eps), (x, None, None, mean, var), constant=(3, 4))
        yield Sample(cls(eps), (x, gamma, None, mean, var), constant=(1, 3, 4))
        # channels that are constant, all but constant, zero, and ordinary
        gamma, beta = np.array([[0, 1e-30, 1e-7, 0, 1], [0.5, -0.7, 0.9, 0, 0.1]], np.float32)
        x, zeros, ones = rng.normal(size=(2, 5)).astype(np.float32), np.zeros(5, np.float32), np.ones(5, np.float32)
        yield Sample(cls(eps), (x, gamma, beta, zeros, ones), constant=(1, 2, 3, 4))


def _weight_scale(a: np.ndarray, b: np.ndarray, input_scale: float) -> np.ndarray:
    """s_w of each channel, float64 (C) of float32 values, all positive (see the module's text)."""
    scale = np.maximum(np.abs(a) / WEIGHT_MAX, np.abs(b) / (input_scale * BIAS_LIMIT))
    scale = np.where(scale > 0, scale, 1.0)
    smallest = float(np.finfo(np.float32).tiny)
    with np.errstate(over="ignore"):  # the caller refuses infinity
        return np.maximum(scale, smallest).astype(np.float32).astype(np.float64)
