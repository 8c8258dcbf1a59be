"""Layer normalization over the last axes, n elements (Ba, Kiros and Hinton, 2016, section 3.1):

    y = (x - mean) / sqrt(var + eps) * gamma + beta,    var = mean of (x - mean)^2

The zero point and the scale of x cancel, but for eps. In integers, with sums over the n codes q,

    d = n * q - sum of q            v = n * sum of q^2 - (sum of q)^2 = sum of d^2 / n          both exact
    r = inverse_root(floor(v * 2^shift) + eps'),     eps' = rne(eps * (n / s_x)^2 * 2^shift)      one IEEE division
    y = rne(clamp(float32(d) * r * a + b, qmin - zp_y, qmax - zp_y)) + zp_y
    a = gamma * 2^(shift / 2) / s_y,   b = beta / s_y

two products from left to right and a sum, each rounded to float32. Where all codes are equal, d = 0 and y = beta.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import U8_MAX, factors, round_clamped
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
from penjing.ops.operator import IntegerOperator, Operator, Param, Sample
from penjing.ops.torch_call import Imported, TorchCall


@dataclass(frozen=True)
class LayerNorm(Operator):
    """Inputs x, gamma and beta of the shape of its last `axes` axes, either absent or not; output of x's shape."""

    name = "layer_norm"
    torch = ("aten.layer_norm.default",)
    onnx = ("LayerNormalization",)
    parameter_inputs = (1, 2)

    axes: int = 1
    eps: float = 1e-5

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        x, axes = call.ref("input"), len(call.integers("normalized_shape"))
        call.require(axes < x.type.rank, "all axes, the batch among them,")
        inputs = (x.name, call.optional("weight"), call.optional("bias"))
        return Imported(cls(axes, call.number("eps")), inputs)

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        call.require(call.outputs == 1, "its mean or deviation as an output")
        x = call.activation(0)
        axis = onnx_axis(call, x.type.rank)
        parameters = (onnx_parameter(call, place, x.type.bounds[axis:]) for place in (1, 2))
        return Imported(cls(x.type.rank - axis, call.number("epsilon", 1e-5)), (x.name, *parameters))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        check_norm(self.name, self.axes, self.eps, *inputs)
        return (Type(inputs[0].shape),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, gamma, beta = (*inputs, None, None)[:3]
        axes = tuple(range(x.ndim - self.axes, x.ndim))
        d = x - x.mean(axis=axes, keepdims=True, dtype=np.float64)
        y = d / np.sqrt(np.square(d).mean(axis=axes, keepdims=True) + self.eps)
        y = y if gamma is None else y * gamma
        return ((y if beta is None else y + beta).astype(np.float32),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x, gamma, beta = (*inputs, None, None)[:3]
        return torch.nn.functional.layer_norm(x, x.shape[x.dim() - self.axes :], gamma, beta, self.eps)

    def to_onnx(self, form: OnnxForm) -> None:
        shape = form.type(0).bounds[form.type(0).rank - self.axes :]
        gamma = form.input(1) if form.has(1) else form.floats("gamma", np.ones(shape))
        beta = (form.input(2),) if form.has(2) else ()
        form.result("LayerNormalization", form.input(0), gamma, *beta, axis=-self.axes, epsilon=self.eps)

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
        w = radicand(self.eps * (n / float(source.scale)) ** 2, _largest(n, span))
        gamma, beta = norm_parameters(lowering, node, self.axes, order)
        a = factors(gamma * w.factor / float(target.scale))
        b = factors(beta / float(target.scale))
        inputs = (
            lowering.placed(value, order),
            lowering.constant(f"{node.output}.factor", a),
            lowering.constant(f"{node.output}.offset", b),
        )
        op = QLayerNorm(self.axes, w.shift, w.eps, target.zero_point, *lowering.clamp_codes(epilogue))
        lowering.finish(epilogue, op, inputs, order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(50)
        for shape, axes, eps in (((2, 3, 17), 1, 1e-5), ((2, 5, 3, 4), 2, 1e-3), ((3, 33), 1, 0.1)):
            x = rng.normal(1.0, 2.0, size=shape).astype(np.float32)
            gamma, beta = rng.normal(size=(2, *shape[len(shape) - axes :])).astype(np.float32)
            yield Sample(cls(axes, eps), (x, gamma, beta), constant=(1, 2))
            yield Sample(cls(axes, eps), (x, gamma, None), constant=(1,))
        yield Sample(cls(axes, eps), (x, None, None))
        x, gamma, beta = (rng.normal(size=s).astype(np.float32) for s in ((2, 3, 4, 5), (3, 4, 5), (3, 4, 5)))
        yield Sample(cls(3, eps), (x, gamma, beta), constant=(1, 2))
        # a row without any variance, and one whose variance is no more than eps
        x = np.array([[0.5] * 8, [0, 0.01] * 4, [1, -1] * 4], np.float32)
        yield Sample(cls(1, 1e-4), (x, np.linspace(-1, 1, 8, dtype=np.float32), None), constant=(1,))


def _largest(n: int, span: int = U8_MAX) -> int:
    """The most that n * sum of q^2 - (sum of q)^2 can be: half of the codes at one end of `span`, half at the other."""
    return (n * span) ** 2 // 4


@dataclass(frozen=True)
class QLayerNorm(IntegerOperator):
    """x u8 or s16, a and b f32 (n), n the elements of x's last `axes` axes; output u8 of x's shape."""

    name = "q_layer_norm"
    in_place = True

    axes: int
    shift: int
    eps: int
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        n = norm_length(self.name, self.axes, *inputs)
        check_radicand(self.shift, self.eps, _largest(n, code_span(inputs[0])))
        return (Type(inputs[0].shape, DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, a, b = inputs
        n = a.size
        q = x.reshape(-1, n).astype(np.int32)
        total = q.sum(axis=1, keepdims=True, dtype=np.int32)
        squares = np.square(q.astype(np.int64)).sum(axis=1, keepdims=True)
        v = n * squares - total.astype(np.int64) ** 2
        t = (n * q - total).astype(np.float32) * inverse_root(v, self.shift, self.eps)
        return (round_clamped(t * a + b, self.y_zero, self.qmin, self.qmax).reshape(x.shape),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        n = inputs[1].elements
        sizes: dict[str, Param] = {"rows": inputs[0].elements // n, "length": n}
        return {
            **sizes,
            **radicand_params(self.shift, self.eps),
            "wide": int(inputs[0].dtype is DType.S16),
            **{"y_zero": self.y_zero, "low": float(self.qmin - self.y_zero), "high": float(self.qmax - self.y_zero)},
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(51)
        yield from norm_samples(lambda axes, shift, eps, clamp: cls(axes, shift, eps, *clamp), _largest)
        yield from wide_samples(lambda axes, shift, eps, clamp: cls(axes, shift, eps, *clamp), _largest)
        # d = +-n at v = n^2: the root is a power of two, and halves are exact
        even = np.tile(np.array([100, 102], np.uint8), (1, 32))
        half = np.full(64, 0.5, np.float32)
        yield Sample(cls(1, 0, 0, 128, 0, 255), (even, half, np.arange(64, dtype=np.float32)), constant=(1, 2))
        # a radicand so small that its root has no bits to lose
        fine = rng.uniform(-120, 120, size=64).astype(np.float32)
        yield Sample(cls(1, 0, 2, 128, 0, 255), (even, fine, np.zeros(64, np.float32)), constant=(1, 2))
        yield _ties(codes(rng, (1, 300)))
        # rows of equal codes, without an eps: what is left is beta
        equal = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 5, axis=1)
        yield Sample(cls(1, 30, 0, 7, 0, 255), (equal, *sample_parameters(rng, 5)), constant=(1, 2))
        # more squares than 32 bits hold; differences that float32 rounds; an eps for which the squares are shifted down
        long = np.where(np.arange(70001) % 3 == 0, 255, codes(rng, (1, 70001))).astype(np.uint8)
        for eps in (1e4, 2.0**66):
            w = radicand(eps, _largest(70001))
            row = sample_parameters(rng, 70001, w.factor * max(1.0, eps / 2.0**46) ** 0.5)
            yield Sample(cls(1, w.shift, w.eps, 128, 0, 255), (long, *row), constant=(1, 2))


def _ties(x: np.ndarray) -> Sample:
    """Factors with which most of d * r * a, multiplied in this order and rounded in between, are exact halves."""
    n = x.size
    d = n * x.astype(np.int64) - x.sum(dtype=np.int64)
    t = d.astype(np.float32) * inverse_root(np.square(d).sum(keepdims=True) // n, 20, 0)
    halves = np.arange(n) % 256 + 0.5
    a = np.divide(halves, t.reshape(-1), out=np.zeros(n), where=t.reshape(-1) != 0).astype(np.float32)
    return Sample(QLayerNorm(1, 20, 0, 0, 0, 255), (x, a, np.zeros(n, np.float32)), constant=(1, 2))
