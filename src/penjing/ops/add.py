"""Addition and subtraction with broadcasting:  y = a + b,  y = a - b.

In integers, in this order of float32 operations, none of which may be contracted:

    y = rne(clamp(float32(a - zp_a) * s_a + float32(b - zp_b) * s_b, qmin - zp_y, qmax - zp_y)) + zp_y

with s_a = scale_a / scale_y and s_b = +-scale_b / scale_y.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import ratio, round_clamped
from penjing.ir.graph import Node
from penjing.ir.types import MAX_RANK, DType, Extent, Shape, Type, bound, bounds, is_length
from penjing.ops.coupling import Coupling, broadcast_axes
from penjing.ops.integer_samples import codes
from penjing.ops.lowering import Epilogue, Lowering, Order, identity
from penjing.ops.onnx_call import BATCH, OnnxCall
from penjing.ops.operator import FloatRule, IntegerOperator, Operator, Param, Sample, expect
from penjing.ops.torch_call import Imported, TorchCall


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of a and b together, by numpy's rule; InvalidGraph when they do not fit."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    shape: list[Extent] = []
    for x, y in pairs:
        expect(x in (1, y) or y == 1, f"shapes {a} and {b} do not broadcast")
        shape.append(y if x == 1 else x)
    return tuple(shape)


def broadcast_params(inputs: tuple[Type, ...], output: Type) -> dict[str, Param]:
    """Extents of the output and strides of both inputs, 0 along broadcast axes, led up to rank 6."""
    lead = MAX_RANK - output.rank
    params: dict[str, Param] = {"extent": (1,) * lead + output.bounds}
    for name, type_ in zip("ab", inputs, strict=True):
        shape: Shape = (1,) * (MAX_RANK - type_.rank) + type_.shape
        strides = [int(np.prod(bounds(shape[axis + 1 :]), dtype=np.int64)) for axis in range(MAX_RANK)]
        params[f"stride_{name}"] = tuple(0 if repeats(n) else s for n, s in zip(shape, strides, strict=True))
    return params


def repeats(extent: Extent) -> bool:
    """Whether an operand is the same all along an axis; a length of 1 is not fixed, and has the stride of others."""
    return bound(extent) == 1 and not is_length(extent)


class Binary(Operator):
    """Base of the element-wise operators with two operands that broadcast."""

    float_rule = FloatRule.FOLLOWS

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        call.require(call.arguments.get("alpha", 1) == 1, f"alpha = {call.arguments.get('alpha')!r}")
        return Imported(cls(), (call.ref("self").name, call.ref("other").name))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        call.require(len(call.inputs) == 2, f"{len(call.inputs)} operands")
        return Imported(cls(), onnx_operands(call))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return (Type(broadcast(inputs[0].shape, inputs[1].shape)),)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        return Coupling(broadcast_axes(inputs, outputs[0]))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        a, b = node.inputs
        rank = len(lowering.shape(node.output))
        order = _common_order(lowering, a, b, rank)
        if lowering.is_float(epilogue.output):
            operands = (lowering.aligned_floats(a, rank, order), lowering.aligned_floats(b, rank, order))
            lowering.finish_floats(epilogue, self.in_floats(epilogue), operands, order)
            return
        inputs = (lowering.aligned(a, rank, order), lowering.aligned(b, rank, order))
        lowering.finish(epilogue, self.integer(lowering, node, epilogue), inputs, order)

    def integer(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> IntegerOperator:
        """The integer operator, from the quantization of both operands and the output."""
        raise NotImplementedError

    def in_floats(self, epilogue: Epilogue) -> IntegerOperator:
        """The operator in float32."""
        raise NotImplementedError

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(10)
        shapes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
            ((2, 3, 4, 5), (2, 3, 4, 5)),
            ((2, 3, 4, 5), (3, 1, 1)),
            ((2, 3, 4, 5), (2, 3, 1, 1)),
            ((2, 1, 4, 1), (2, 3, 1, 5)),
            ((2, 7), (7,)),
        )
        for a, b in shapes:
            yield Sample(cls(), (rng.normal(size=a).astype(np.float32), rng.normal(size=b).astype(np.float32)))
        x = rng.normal(size=(2, 3, 4)).astype(np.float32)
        yield Sample(cls(), (x, np.full((3, 1), 2.0, np.float32)), constant=(1,))


def onnx_operands(call: OnnxCall) -> tuple[str, str]:
    """Names of both operands, whose batches lie on one axis."""
    a, b = call.operand(0), call.operand(1)
    ranks = [ref.type.rank for ref in (a, b) if ref.type.shape[:1] == (BATCH,)]
    call.require(len(set(ranks)) == 1 and max(a.type.rank, b.type.rank) == ranks[0], "operands whose batches part")
    return a.name, b.name


def _common_order(lowering: Lowering, a: str, b: str, rank: int) -> Order:
    """The order of the operand that has most elements, so that the smaller one is moved if any."""
    full = [v for v in (a, b) if len(lowering.shape(v)) == rank and v not in lowering.graph.constants]
    if not full:
        return identity(rank)
    # codes of 16 bits are not moved
    return lowering.order(max(full, key=lambda v: (lowering.is_wide(v), lowering.graph.types[v].elements)))


@dataclass(frozen=True)
class Add(Binary):
    """Inputs a and b, broadcast together."""

    name = "add"
    torch = ("aten.add.Tensor", "aten.add_.Tensor")
    onnx = ("Add", "Sum")

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (inputs[0] + inputs[1],)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return inputs[0] + inputs[1]

    def integer(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> IntegerOperator:
        return _q_add(lowering, node, epilogue, 1)

    def in_floats(self, epilogue: Epilogue) -> IntegerOperator:
        return _f_add(epilogue, 1.0)


@dataclass(frozen=True)
class Sub(Binary):
    """Inputs a and b, broadcast together."""

    name = "sub"
    torch = ("aten.sub.Tensor", "aten.sub_.Tensor")
    onnx = ("Sub",)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (inputs[0] - inputs[1],)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return inputs[0] - inputs[1]

    def integer(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> IntegerOperator:
        return _q_add(lowering, node, epilogue, -1)

    def in_floats(self, epilogue: Epilogue) -> IntegerOperator:
        return _f_add(epilogue, -1.0)


def _f_add(epilogue: Epilogue, sign: float) -> IntegerOperator:
    from penjing.ops.f_add import FAdd
    from penjing.ops.f_sums import finite_ends

    return FAdd(sign, *finite_ends(epilogue.low, epilogue.high))


def _q_add(lowering: Lowering, node: Node, epilogue: Epilogue, sign: int) -> IntegerOperator:
    a, b, y = (lowering.quant(name) for name in (*node.inputs, epilogue.output))
    scales = ratio(a.scale, y.scale), sign * ratio(b.scale, y.scale)
    if lowering.is_wide(epilogue.output):
        from penjing.ops.add_wide import QAddWide

        return QAddWide(scales[0], a.zero_point, scales[1], b.zero_point)
    return QAdd(scales[0], a.zero_point, scales[1], b.zero_point, y.zero_point, *lowering.clamp_codes(epilogue))


@dataclass(frozen=True)
class QAdd(IntegerOperator):
    """a, b u8, broadcast together; scales are in steps of the output, a negative `b_scale` subtracts."""

    name = "q_add"

    a_scale: float
    a_zero: int
    b_scale: float
    b_zero: int
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(all(t.dtype is DType.U8 for t in inputs), "q_add takes u8")
        return (Type(broadcast(inputs[0].shape, inputs[1].shape), DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        a = (inputs[0].astype(np.int32) - self.a_zero).astype(np.float32) * np.float32(self.a_scale)
        b = (inputs[1].astype(np.int32) - self.b_zero).astype(np.float32) * np.float32(self.b_scale)
        return (round_clamped(a + b, self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {
            **broadcast_params(inputs, outputs[0]),
            **{"a_scale": self.a_scale, "a_zero": self.a_zero, "b_scale": self.b_scale, "b_zero": self.b_zero},
            **{"y_zero": self.y_zero, "low": float(self.qmin - self.y_zero), "high": float(self.qmax - self.y_zero)},
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from binary_samples(lambda i: cls(*_ADD_SCALES[i % len(_ADD_SCALES)], *[(0, 255), (128, 250)][i % 2]))
        # scales whose products leave the range of int32 at both ends
        every = np.arange(256, dtype=np.uint8)
        yield Sample(cls(2.0**60, 128, -(2.0**61), 128, 128, 5, 250), (every, np.roll(every, 100)))


_ADD_SCALES = (
    (0.5, 128, 0.5, 128, 128),
    (float(np.float32(0.3)), 3, float(np.float32(-0.7)), 250, 100),
    (float(np.float32(1.0 / 3.0)), 0, float(np.float32(2.0 / 3.0)), 0, 0),
    (4.0, 128, 4.0, 128, 255),
)


def binary_samples(make: object) -> Iterator[Sample]:
    """Samples of a binary integer operator: all pairs of codes, then broadcasts; `make(i)` gives the i-th operator."""
    assert callable(make)
    rng = np.random.default_rng(11)
    every_a, every_b = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    for i in range(4):
        yield Sample(make(i), (every_a.reshape(1, 256, 256), every_b.reshape(1, 256, 256)))
    shapes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
        ((1, 5, 3, 4), (1, 1, 1, 4)),
        ((1, 5, 3, 4), (1, 5, 3, 1)),
        ((1, 1, 4, 1), (1, 3, 1, 33)),
        ((2, 17), (2, 17)),
        ((2, 3, 4, 2, 3, 5), (2, 3, 1, 2, 1, 5)),
        *(((n, 1), (n, 1)) for n in (1, 7, 15, 31, 32, 33, 63, 64, 65, 127, 130)),
        ((2, 3, 70), (1, 1, 70)),
        ((2, 3, 70), (2, 3, 1)),
        ((2, 3, 1), (2, 3, 70)),
        ((1, 1, 1), (2, 5, 13)),
        ((3, 1, 9), (3, 5, 9)),
    )
    for i, (a, b) in enumerate(shapes):
        yield Sample(make(i), (codes(rng, a), codes(rng, b)))
