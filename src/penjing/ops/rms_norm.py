"""RMS normalization over the last axes, n elements (Zhang and Sennrich, 2019, equation 4):

    y = x / sqrt(mean of x^2 + eps) * gamma

The scale of x cancels, but for eps. In integers, with c = q - zp_x and a sum over the n codes,

    v = sum of c^2                                                                                   exact
    r = inverse_root(floor(v * 2^shift) + eps'),     eps' = rne(eps * n / s_x^2 * 2^shift)           one IEEE division
    y = rne(clamp(float32(c) * r * a, qmin - zp_y, qmax - zp_y)) + zp_y,   a = gamma * sqrt(n * 2^shift) / s_y

two products from left to right, each rounded to float32. Where all codes are zp_x, y = 0.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import S16_MIN, U8_MAX, factors, round_clamped
from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.coupling import Coupling, kept_axes
from penjing.ops.integer_samples import codes
from penjing.ops.inverse_root import check_radicand, inverse_root, radicand, radicand_params
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.norms import (
    check_norm,
    code_span,
    norm_length,
    norm_parameters,
    norm_samples,
    normalized_last,
    onnx_axis,
    onnx_parameter,
    sample_parameters,
    wide_samples,
)
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import IntegerOperator, Operator, Param, Sample, expect
from penjing.ops.torch_call import Imported, TorchCall

_UNIT_EPS = 1e-24  # keeps 0 / 0 out of the unit of a vector
TORCH_EPS = float(np.finfo(np.float32).eps)  # where none is given


@dataclass(frozen=True)
class RmsNorm(Operator):
    """Inputs x, and gamma of the shape of its last `axes` axes or absent; output of x's shape."""

    name = "rms_norm"
    torch = ("aten.rms_norm.default",)
    onnx = ("RMSNormalization", "LpNormalization")
    parameter_inputs = (1,)

    axes: int = 1
    eps: float = TORCH_EPS

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        x, axes = call.ref("input"), len(call.integers("normalized_shape"))
        call.require(axes < x.type.rank, "all axes, the batch among them,")
        eps = TORCH_EPS if call.arguments.get("eps") is None else call.number("eps")
        return Imported(cls(axes, eps), (x.name, call.optional("weight")))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        x = call.activation(0)
        axis = onnx_axis(call, x.type.rank)
        if call.target == "LpNormalization":
            # x / |x| is the RMS norm over sqrt(n)
            call.require(call.integer("p", 2) == 2, f"p = {call.integer('p', 2)}")
            call.require(axis == x.type.rank - 1, f"axis {axis}, which is not the last,")
            n = x.type.bounds[axis]
            return Imported(cls(1, _UNIT_EPS), (x.name, call.constant("unit", np.full(n, n**-0.5)).name))
        gamma = onnx_parameter(call, 1, x.type.bounds[axis:])
        return Imported(cls(x.type.rank - axis, call.number("epsilon", 1e-5)), (x.name, gamma))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        check_norm(self.name, self.axes, self.eps, *inputs)
        return (Type(inputs[0].shape),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, gamma = (*inputs, None)[:2]
        axes = tuple(range(x.ndim - self.axes, x.ndim))
        y = x / np.sqrt(np.square(x.astype(np.float64)).mean(axis=axes, keepdims=True) + self.eps)
        return ((y if gamma is None else y * gamma).astype(np.float32),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x, gamma = (*inputs, None)[:2]
        return torch.nn.functional.rms_norm(x, x.shape[x.dim() - self.axes :], gamma, self.eps)

    def to_onnx(self, form: OnnxForm) -> None:
        x, rank = form.input(0), form.type(0).rank
        more, attributes = form.axes(tuple(range(rank - self.axes, rank)))
        square = form.node("ReduceMean", form.node("Mul", x, x), *more, **attributes, keepdims=1)
        root = form.node("Sqrt", form.node("Add", square, form.floats("eps", self.eps)))
        if not form.has(1):
            form.result("Div", x, root)
            return
        form.result("Mul", form.node("Div", x, root), form.input(1))

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x = inputs[0]
        assert x is not None
        return Coupling(kept_axes(x, outputs[0], range(1, x.rank - self.axes)))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        order = normalized_last(lowering.order(value), self.axes)
        source, target = lowering.quant(value), lowering.quant(epilogue.output)
        n = math.prod(lowering.graph.types[value].bounds[len(order) - self.axes :])
        span = code_span(lowering.program.types[lowering.placed(value, order)])
        w = radicand(self.eps * n / float(source.scale) ** 2, _largest(n, span))
        gamma, _ = norm_parameters(lowering, node, self.axes, order)
        a = lowering.constant(f"{node.output}.factor", factors(gamma * math.sqrt(n) * w.factor / float(target.scale)))
        zeros = source.zero_point, target.zero_point
        op = QRmsNorm(self.axes, w.shift, w.eps, *zeros, *lowering.clamp_codes(epilogue))
        lowering.finish(epilogue, op, (lowering.placed(value, order), a), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(70)
        for shape, axes, eps in (((2, 3, 17), 1, 1e-5), ((2, 5, 3, 4), 2, 1e-3), ((3, 33), 1, TORCH_EPS)):
            x = rng.normal(0.5, 2.0, size=shape).astype(np.float32)
            gamma = rng.normal(size=shape[len(shape) - axes :]).astype(np.float32)
            yield Sample(cls(axes, eps), (x, gamma), constant=(1,))
        yield Sample(cls(axes, eps), (x, None))
        x, gamma = (rng.normal(size=s).astype(np.float32) for s in ((2, 3, 4, 5), (3, 4, 5)))
        yield Sample(cls(3, eps), (x, gamma), constant=(1,))
        # a row of zeros, and one whose squares are no more than eps
        x = np.array([[0.0] * 8, [0, 0.01] * 4, [1, -1] * 4], np.float32)
        yield Sample(cls(1, 1e-4), (x, np.linspace(-1, 1, 8, dtype=np.float32)), constant=(1,))


def _largest(n: int, span: int = U8_MAX) -> int:
    return n * min(span, -S16_MIN) ** 2  # codes of 16 bits lie on both sides of their zero point


@dataclass(frozen=True)
class QRmsNorm(IntegerOperator):
    """x u8, or s16 with zero point 0, a f32 (n), n the elements of x's last `axes` axes; output u8 of x's shape."""

    name = "q_rms_norm"
    in_place = True

    axes: int
    shift: int
    eps: int
    x_zero: int
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(len(inputs) == 2, f"q_rms_norm of {len(inputs)} inputs")
        n, span = norm_length(self.name, self.axes, *inputs), code_span(inputs[0])
        expect(span == U8_MAX or self.x_zero == 0, f"a zero point of {self.x_zero} in 16 bits")
        check_radicand(self.shift, self.eps, _largest(n, span))
        return (Type(inputs[0].shape, DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, a = inputs
        c = x.reshape(-1, a.size).astype(np.int32) - np.int32(self.x_zero)
        v = np.square(c.astype(np.int64)).sum(axis=1, keepdims=True)
        y = c.astype(np.float32) * inverse_root(v, self.shift, self.eps) * a
        return (round_clamped(y, self.y_zero, self.qmin, self.qmax).reshape(x.shape),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        n = inputs[1].elements
        sizes: dict[str, Param] = {"rows": inputs[0].elements // n, "length": n}
        return {
            **sizes,
            **radicand_params(self.shift, self.eps),
            **{"wide": int(inputs[0].dtype is DType.S16), "x_zero": self.x_zero, "y_zero": self.y_zero},
            **{"low": float(self.qmin - self.y_zero), "high": float(self.qmax - self.y_zero)},
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        def made(axes: int, shift: int, eps: int, clamp: tuple[int, int, int]) -> "QRmsNorm":
            return cls(axes, shift, eps, (0, 128, 255, 90)[axes + clamp[0] & 3], *clamp)

        rng = np.random.default_rng(71)
        for sample in norm_samples(made, _largest):
            yield Sample(sample.op, sample.inputs[:2], constant=(1,))
        for sample in wide_samples(lambda axes, shift, eps, clamp: cls(axes, shift, eps, 0, *clamp), _largest):
            yield Sample(sample.op, sample.inputs[:2], constant=(1,))
        # c = +-2 at v = 4 n, n a power of four: the root is a power of two, and halves are exact
        even = np.tile(np.array([98, 102], np.uint8), (1, 32))
        yield Sample(cls(1, 0, 0, 100, 128, 0, 255), (even, np.arange(64, dtype=np.float32) * 4), constant=(1,))
        # rows that are zero but for one code, without an eps
        lone = np.full((256, 5), 7, np.uint8)
        lone[:, 3] = np.arange(256)
        yield Sample(cls(1, 30, 0, 7, 50, 0, 255), (lone, sample_parameters(rng, 5)[0]), constant=(1,))
        # more squares than 32 bits hold, and an eps for which they are shifted down
        long = np.maximum(codes(rng, (1, 300001)), 250).astype(np.uint8)
        for eps in (1e4, 2.0**62):
            w = radicand(eps, _largest(300001))
            a = sample_parameters(rng, 300001, w.factor * (_largest(300001) + eps) ** 0.5 / 255)[0]
            yield Sample(cls(1, w.shift, w.eps, 0, 128, 0, 255), (long, a), constant=(1,))
        yield _ties(codes(rng, (1, 300)))


def _ties(x: np.ndarray) -> Sample:
    """Factors with which c * r * a, multiplied in this order and rounded in between, are exact halves for most."""
    n = x.size
    c = x.astype(np.int64) - 100
    t = (c.astype(np.float32) * inverse_root(np.square(c).sum(keepdims=True), 30, 0)).reshape(-1)
    a = np.divide(np.arange(n) % 256 + 0.5, t, out=np.zeros(n), where=t != 0).astype(np.float32)
    return Sample(QRmsNorm(1, 30, 0, 100, 0, 0, 255), (x, a), constant=(1,))
