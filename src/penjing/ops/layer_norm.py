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

from penjing.core.arithmetic import INT32_MAX, U8_MAX, factors, round_clamped
from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.coupling import Coupling, kept_axes
from penjing.ops.integer_samples import LENGTHS, codes
from penjing.ops.inverse_root import check_radicand, inverse_root, radicand, radicand_params
from penjing.ops.lowering import Epilogue, Lowering, Order
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import IntegerOperator, Operator, Param, Sample, expect
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
        w = radicand(self.eps * (n / float(source.scale)) ** 2, _largest(n))
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
        yield Sample(cls(3, eps), (rng.normal(size=(2, 3, 4, 5)).astype(np.float32), None, None))
        # a row without any variance, and one whose variance is no more than eps
        x = np.array([[0.5] * 8, [0, 0.01] * 4, [1, -1] * 4], np.float32)
        yield Sample(cls(1, 1e-4), (x, np.linspace(-1, 1, 8, dtype=np.float32), None), constant=(1,))


def onnx_axis(call: OnnxCall, rank: int) -> int:
    """The first axis that a node normalizes over."""
    axis = call.axis(call.integer("axis", -1), rank)
    call.require(axis != 0, "axis 0, the batch,")
    return axis


def onnx_parameter(call: OnnxCall, place: int, shape: tuple[int, ...]) -> str:
    """Name of a constant input that broadcasts to the normalized axes, '' where it is absent."""
    if not call.has(place):
        return ""
    array = call.array(place)
    fits = array.ndim <= len(shape) and all(n in (1, m) for n, m in zip(array.shape[::-1], shape[::-1], strict=False))
    call.require(fits, f"parameters of shape {array.shape} for {shape}")
    if array.shape == shape:
        return call.weight(place).name
    return call.constant(call.name(place), np.broadcast_to(array, shape)).name


def check_norm(name: str, axes: int, eps: float, x: Type, *parameters: Type) -> None:
    """InvalidGraph unless the last `axes` axes can be normalized."""
    expect(1 <= axes < x.rank, f"{name} over the last {axes} axes of rank {x.rank}")
    shape = x.shape[x.rank - axes :]
    expect(all(isinstance(extent, int) for extent in shape), f"{name} over a symbolic axis has no fixed count")
    check_length(name, math.prod(x.bounds[x.rank - axes :]))
    expect(eps >= 0 and math.isfinite(eps), f"{name} with eps = {eps}")
    fits = all(p.bounds == shape for p in parameters)
    expect(fits, f"{name} over {shape} with parameters of shape {[p.bounds for p in parameters]}")


def check_length(name: str, n: int) -> None:
    """InvalidGraph unless n codes, and n times a code, fit into int32."""
    expect(n >= 1, f"{name} over nothing")
    expect(n * U8_MAX <= INT32_MAX, f"{name} over {n} elements could overflow int32")


def normalized_last(order: Order, axes: int) -> Order:
    """`order` where the last `axes` logical axes stand last in it, else with them moved to the end."""
    first = len(order) - axes
    if min(order[first:]) >= first:
        return order
    return (*(axis for axis in order if axis < first), *range(first, len(order)))


def norm_parameters(lowering: Lowering, node: Node, axes: int, order: Order) -> list[np.ndarray]:
    """gamma and beta, float64 (n), as the normalized axes stand in `order`; ones and zeros where they are absent."""
    first = len(order) - axes
    shape = lowering.graph.types[node.inputs[0]].bounds[first:]
    found = []
    for place, default in ((1, 1.0), (2, 0.0)):
        name = node.inputs[place] if place < len(node.inputs) else ""
        if name and name not in lowering.graph.constants:
            raise UnsupportedOp(f"{node.op.name} with parameters that are computed", where=str(node))
        array = lowering.graph.constants[name].array.astype(np.float64) if name else np.full(shape, default)
        found.append(np.transpose(array, [axis - first for axis in order[first:]]).reshape(-1))
    return found


def _largest(n: int) -> int:
    """The most that n * sum of q^2 - (sum of q)^2 can be: half of the codes 0, half 255."""
    return (n * U8_MAX) ** 2 // 4


@dataclass(frozen=True)
class QLayerNorm(IntegerOperator):
    """x u8, a and b f32 (n), n the elements of x's last `axes` axes; output u8 of x's shape."""

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
        check_radicand(self.shift, self.eps, _largest(n))
        return (Type(inputs[0].shape, DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, a, b = inputs
        n = a.size
        q = x.reshape(-1, n).astype(np.int32)
        total = q.sum(axis=1, keepdims=True, dtype=np.int32)
        squares = np.square(q).sum(axis=1, keepdims=True, dtype=np.int64)
        v = n * squares - total.astype(np.int64) ** 2
        t = (n * q - total).astype(np.float32) * inverse_root(v, self.shift, self.eps)
        return (round_clamped(t * a + b, self.y_zero, self.qmin, self.qmax).reshape(x.shape),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        n = inputs[1].elements
        sizes: dict[str, Param] = {"rows": inputs[0].elements // n, "length": n}
        return {
            **sizes,
            **radicand_params(self.shift, self.eps),
            **{"y_zero": self.y_zero, "low": float(self.qmin - self.y_zero), "high": float(self.qmax - self.y_zero)},
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(51)
        yield from norm_samples(lambda axes, shift, eps, clamp: cls(axes, shift, eps, *clamp))
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
        yield Sample(cls(1, 30, 0, 7, 0, 255), (equal, *_parameters(rng, 5)), constant=(1, 2))
        # more squares than 32 bits hold; differences that float32 rounds; an eps for which the squares are shifted down
        long = np.where(np.arange(70001) % 3 == 0, 255, codes(rng, (1, 70001))).astype(np.uint8)
        for eps in (1e4, 2.0**66):
            w = radicand(eps, _largest(70001))
            row = _parameters(rng, 70001, w.factor * max(1.0, eps / 2.0**46) ** 0.5)
            yield Sample(cls(1, w.shift, w.eps, 128, 0, 255), (long, *row), constant=(1, 2))


def _ties(x: np.ndarray) -> Sample:
    """Factors with which most of d * r * a, multiplied in this order and rounded in between, are exact halves."""
    n = x.size
    d = n * x.astype(np.int64) - x.sum(dtype=np.int64)
    t = d.astype(np.float32) * inverse_root(np.square(d).sum(keepdims=True) // n, 20, 0)
    halves = np.arange(n) % 256 + 0.5
    a = np.divide(halves, t.reshape(-1), out=np.zeros(n), where=t.reshape(-1) != 0).astype(np.float32)
    return Sample(QLayerNorm(1, 20, 0, 0, 0, 255), (x, a, np.zeros(n, np.float32)), constant=(1, 2))


def norm_length(name: str, axes: int, x: Type, *parameters: Type) -> int:
    """n of an integer norm; InvalidGraph unless its inputs fit together."""
    expect(x.dtype is DType.U8 and all(p.dtype is DType.F32 for p in parameters), f"{name} takes u8 and f32")
    expect(1 <= axes <= x.rank, f"{name} over the last {axes} axes of rank {x.rank}")
    n = math.prod(x.bounds[x.rank - axes :])
    expect(all(isinstance(extent, int) for extent in x.shape[x.rank - axes :]), f"{name} over a symbolic axis")
    check_length(name, n)
    expect(all(p.bounds == (n,) for p in parameters), f"{name} of {n} with {[p.bounds for p in parameters]}")
    return n


def norm_samples(make: object) -> Iterator[Sample]:
    """Samples of an integer norm: lengths, every kind of eps; `make(axes, shift, eps, (y_zero, qmin, qmax))`."""
    assert callable(make)
    rng = np.random.default_rng(52)
    clamps = ((128, 0, 255), (0, 0, 255), (100, 20, 240))
    for i, n in enumerate(LENGTHS):
        x = codes(rng, (2 + i % 2, n))
        x[0] = 90 + x[0] % (2 + i)  # little variance
        w = radicand((0.0, 1.0, 300.0 * n**2, 0.37)[i % 4], _largest(n))
        yield Sample(make(1, w.shift, w.eps, clamps[i % 3]), (x, *_parameters(rng, n, w.factor)), constant=(1, 2))
    # an eps beside which all squares are little, and one beside which they are nothing
    for eps in (1e17, 1e24, 1e40):
        w = radicand(eps, _largest(19))
        row = _parameters(rng, 19, w.factor * np.sqrt(eps) / 2000)
        yield Sample(make(1, w.shift, w.eps, clamps[2]), (codes(rng, (3, 19)), *row), constant=(1, 2))
    w = radicand(40.0, _largest(60))
    row = _parameters(rng, 60, w.factor)
    yield Sample(make(2, w.shift, w.eps, clamps[1]), (codes(rng, (2, 3, 4, 15)), *row), constant=(1, 2))
    # factors whose products leave the range of int32 at both ends
    steep = np.where(np.arange(60) % 2, 2.0**60, -(2.0**61)).astype(np.float32)
    yield Sample(make(1, w.shift, w.eps, clamps[2]), (codes(rng, (2, 60)), steep, row[1]), constant=(1, 2))


def _parameters(rng: np.random.Generator, n: int, factor: float = 2.0**15) -> tuple[np.ndarray, np.ndarray]:
    """a and b, f32 (n), for steps over the whole range of codes: one factor is 0, some are negative."""
    a = rng.normal(size=n) * 60 * factor
    a[n // 2] = 0.0 if n > 1 else a[0]
    return a.astype(np.float32), (rng.normal(size=n) * 40).astype(np.float32)
