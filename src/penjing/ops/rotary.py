"""Rotary position embedding: pairs of features turn by angles that grow with the step (Su et al., 2021, equation 34).

    y[t, i] = cos[t, i] * x[t, i] + sin[t, i] * x[t, p(i)]

with p(i) = i + D/2 or i - D/2, the feature of the other half, or i ^ 1, its neighbour, if `interleaved`. The sign of a
rotation is part of sin. In integers, with cos and sin as 16-bit codes of one scale, rne(c / s_c),

    acc = cos * (q[i] - zp_x) + sin * (q[p(i)] - zp_x)                          |acc| <= 2 * 32767 * 255 < 2^24: exact
    y   = rne(clamp(float32(acc) * m, qmin - zp_y, qmax - zp_y)) + zp_y,        m = (s_x * s_c) / s_y

one rounding, where the same written as products, a concatenation and a sum has four.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import multiplier, round_clamped
from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops import onnx_attention
from penjing.ops.coupling import Coupling, kept_axes
from penjing.ops.integer_samples import LENGTHS, codes, float32
from penjing.ops.lowering import Epilogue, Lowering, Order
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import IntegerOperator, Operator, Param, Sample, expect
from penjing.ops.position import check_position, first_steps
from penjing.ops.torch_call import Composed

_LARGEST = 32767  # of the codes of cos and sin


def partners(features: int, interleaved: bool) -> np.ndarray:
    """p: the feature that each is paired with."""
    i = np.arange(features)
    return i ^ 1 if interleaved else (i + features // 2) % features


@dataclass(frozen=True)
class Rotary(Operator):
    """Inputs x (N, ..., D), cos and sin (T, D), [position (N, 1)]; output of x's shape. Steps are along `axis`.

    Without a position, x has T steps; with one, its steps are those from there on.
    """

    name = "rotary"
    onnx = ("RotaryEmbedding",)
    parameter_inputs = (1, 2)

    axis: int
    interleaved: bool = False

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Composed:
        return onnx_attention.rotary(call)

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, cos, sin, *position = inputs
        expect(x.rank >= 3 and 1 <= self.axis < x.rank - 1, f"rotary along axis {self.axis} of rank {x.rank}")
        expect(cos.rank == 2 and cos.shape == sin.shape, f"rotary by angles of {cos.bounds} and {sin.bounds}")
        _check_angles(x, cos.bounds, self.axis, position)
        return (Type(x.shape),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, cos, sin, *position = inputs
        cos, sin = (_beside(table, x, self.axis, position) for table in (cos, sin))
        return (x * cos + x[..., partners(x.shape[-1], self.interleaved)] * sin,)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x, cos, sin, *position = inputs
        cos, sin, *where = (tensor.detach().cpu().numpy() for tensor in (cos, sin, *position))  # not to be trained
        cos, sin = (torch.from_numpy(_beside(table, x, self.axis, where)).to(x) for table in (cos, sin))
        return x * cos + x[..., partners(x.shape[-1], self.interleaved)] * sin

    def to_onnx(self, form: OnnxForm) -> None:
        x, shape = form.input(0), form.type(0).bounds
        tables = (form.parameter(k) for k in (1, 2))
        cos, sin = (_beside(np.asarray(table), np.zeros(shape), self.axis, []) for table in tables)
        places = form.integers("partners", [int(p) for p in partners(shape[-1], self.interleaved)])
        turned = form.node("Mul", form.node("Gather", x, places, axis=len(shape) - 1), form.floats("sin", sin))
        form.result("Add", form.node("Mul", x, form.floats("cos", cos)), turned)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x = inputs[0]
        assert x is not None
        return Coupling(kept_axes(x, outputs[0], [axis for axis in range(1, x.rank - 1) if axis != self.axis]))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value, *_ = node.inputs
        order = _features_last(lowering.order(value))
        cos, sin = (lowering.graph.constants[name].array.astype(np.float64) for name in node.inputs[1:3])
        scale = max(float(np.abs([cos, sin]).max()), 1.0) / _LARGEST
        table = np.rint(np.stack([cos, sin], axis=1) / scale).astype(np.int16)
        source, target = lowering.quant(value), lowering.quant(epilogue.output)
        m = float(multiplier(source.scale, np.asarray(scale), target.scale))
        zeros = source.zero_point, target.zero_point
        op = QRotary(order.index(self.axis), self.interleaved, m, *zeros, *lowering.clamp_codes(epilogue))
        inputs = [lowering.placed(value, order), lowering.constant(f"{node.output}.angles", table)]
        inputs += [lowering.integers(name) for name in node.inputs[3:]]
        lowering.finish(epilogue, op, tuple(inputs), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(90)
        for op, shape in (
            (cls(2), (2, 3, 5, 8)),
            (cls(1, True), (2, 5, 3, 4)),
            (cls(1), (2, 7, 6)),
            (cls(3, True), (1, 2, 3, 4, 10)),
        ):
            x = rng.normal(size=shape).astype(np.float32)
            angles = rng.uniform(-3, 3, size=(shape[op.axis], shape[-1]))
            cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
            yield Sample(op, (x, cos, sin), constant=(1, 2))
        longer = rng.normal(size=(2, 6, 10)).astype(np.float32)  # angles need not be those of a rotation
        for steps, at in ((2, 3), (1, 5), (6, 0)):
            x, position = rng.normal(size=(1, steps, 2, 10)).astype(np.float32), np.array([[at]], np.int32)
            yield Sample(cls(1), (x, *longer, position), constant=(1, 2, 3))


def _features_last(order: Order) -> Order:
    last = len(order) - 1
    return (*(axis for axis in order if axis != last), last)


def _beside(table: np.ndarray, x: Any, axis: int, position: Any) -> np.ndarray:
    """Angles (T, D), or those of a position's steps, as they broadcast to x."""
    if not position:
        rows = table[None]
    else:
        at = first_steps(position[0], table.shape[0] - x.shape[axis])
        rows = table[at[:, None] + np.arange(x.shape[axis])]
    shape = [1] * len(x.shape)
    shape[0], shape[axis], shape[-1] = rows.shape
    return np.ascontiguousarray(rows).reshape(shape)


def _check_angles(x: Type, table: tuple[int, ...], axis: int, position: list[Type]) -> None:
    steps = x.shape[axis]
    expect(isinstance(steps, int), "rotary along a symbolic axis has no fixed steps")
    fits = x.bounds[axis] <= table[0] if position else x.bounds[axis] == table[0]
    expect(fits and x.bounds[-1] == table[-1], f"rotary of {x.bounds} along axis {axis} by angles of {table}")
    expect(table[-1] % 2 == 0, f"rotary of {table[-1]} features, which are no pairs")
    for type_ in position:
        check_position(type_)


@dataclass(frozen=True)
class QRotary(IntegerOperator):
    """x u8 (..., D), angles s16 (T, 2, D) with cos before sin, [position s32 (1, 1)]; output u8 of x's shape."""

    name = "q_rotary"

    axis: int
    interleaved: bool
    multiplier: float
    x_zero: int
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, angles, *position = inputs
        expect((x.dtype, angles.dtype) == (DType.U8, DType.S16), "q_rotary takes u8, and angles of s16")
        expect(angles.rank == 3 and angles.bounds[1] == 2, f"q_rotary by angles of {angles.bounds}")
        expect(1 <= self.axis < x.rank - 1, f"q_rotary along axis {self.axis} of rank {x.rank}")
        _check_angles(x, angles.bounds, self.axis, position)
        return (Type(x.shape, DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, angles, *position = inputs
        cos, sin = (_beside(angles[:, k].astype(np.int32), x, self.axis, position) for k in (0, 1))
        c = x.astype(np.int32) - np.int32(self.x_zero)
        acc = cos * c + sin * c[..., partners(x.shape[-1], self.interleaved)]
        value = acc.astype(np.float32) * np.float32(self.multiplier)
        return (round_clamped(value, self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        x = inputs[0].bounds
        return {
            "outer": int(np.prod(x[: self.axis], dtype=np.int64)),
            "steps": x[self.axis],
            "inner": int(np.prod(x[self.axis + 1 : -1], dtype=np.int64)),
            **{"features": x[-1], "all_steps": inputs[1].bounds[0]},
            **{"interleaved": int(self.interleaved), "counted": int(len(inputs) > 2), "multiplier": self.multiplier},
            **{"x_zero": self.x_zero, "y_zero": self.y_zero},
            **{"low": float(self.qmin - self.y_zero), "high": float(self.qmax - self.y_zero)},
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(91)
        parameters = ((2.0**-15, 128, 128), (float32(1.1 / 32767), 3, 100), (float32(0.7 / 32767), 255, 20))

        def made(i: int, axis: int, shape: tuple[int, ...], rows: int = 0, at: int | None = None) -> Sample:
            angles = rng.integers(-32767, 32768, size=(rows or shape[axis], 2, shape[-1])).astype(np.int16)
            op = cls(axis, i % 2 == 1, *parameters[i % 3], *[(0, 255), (10, 240)][i // 2 % 2])
            position = () if at is None else (np.array([[at]], np.int32),)
            return Sample(op, (codes(rng, shape), angles, *position), constant=(1,))

        for i, n in enumerate(LENGTHS):
            yield made(i, 1, (1 + i % 2, 3, 2 * n))
            yield made(i, 2, (1, 2, 3, 2 * (1 + i % 5)))
            yield made(i, 1, (1, 3, 1 + i % 3, 2 * n))
        for i, at in enumerate((0, 1, 4, 7, 8, 9, 1000, -1)):  # 8 and more are 7, below 0 is 0
            yield made(i, 1 + i % 2, (1, 2, 2, 2, 4), rows=9, at=at)
        # every code by 1/2 and -1/2: exact halves; the largest sums; saturation at both ends
        every = np.stack([np.arange(256), np.arange(256)[::-1]], axis=-1).astype(np.uint8).reshape(1, 1, 256, 2)
        for a, b in ((1, 0), (1, -2), (32767, 32767), (-32767, 32767)):
            angles = np.array([[[a, a], [b, -b]]], np.int16)
            for interleaved in (False, True):
                yield Sample(cls(1, interleaved, 0.5, 128, 128, 0, 255), (every, angles), constant=(1,))
                yield Sample(cls(1, interleaved, 2.0**60, 0, 7, 5, 250), (every, angles), constant=(1,))
