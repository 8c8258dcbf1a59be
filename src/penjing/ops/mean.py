"""Mean over axes other than the first:  y = (sum of x over the axes) / count.

    y = rne(clamp(float32(sum of (q_x - zp_x)) * r / float32(count), qmin - zp_y, qmax - zp_y)) + zp_y,   r = s_x / s_y

The integer form reduces neighbouring physical axes: the mean over height and width needs no transpose, since images
stand channels-last.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import INT32_MAX, U8_MAX, ratio, round_clamped
from penjing.ir.graph import Node
from penjing.ir.types import DType, Extent, Shape, Type, bound, is_batch
from penjing.ops.coupling import Coupling, alone, on_input, on_output
from penjing.ops.integer_samples import LENGTHS, codes, float32, triples
from penjing.ops.lowering import Epilogue, Lowering, Order
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import FloatRule, IntegerOperator, Operator, Param, Sample, expect
from penjing.ops.torch_call import Imported, TorchCall


@dataclass(frozen=True)
class Mean(Operator):
    """Input of rank n; output without `axes` (ascending, not the batch axis 0), or with extent 1 there if `keepdim`."""

    name = "mean"
    torch = ("aten.mean.dim",)
    onnx = ("ReduceMean", "GlobalAveragePool")

    float_rule = FloatRule.FOLLOWS

    axes: tuple[int, ...]
    keepdim: bool = False

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        x = call.ref("self")
        dims, dtype = call.integers("dim"), call.arguments.get("dtype")
        call.require(all(-x.type.rank <= dim < x.type.rank for dim in dims), f"dim = {dims}")
        axes = tuple(sorted(dim % x.type.rank for dim in dims))
        call.require(bool(axes) and axes[0] != 0, f"dim = {dims}, which averages over the batch,")
        call.require(str(dtype) in ("None", "torch.float32"), f"dtype = {dtype}")
        return Imported(cls(axes, call.flag("keepdim")), (x.name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        x = call.activation(0)
        rank = x.type.rank
        if call.target == "GlobalAveragePool":
            call.require(rank >= 3, f"an input of rank {rank}")
            return Imported(cls(tuple(range(2, rank)), keepdim=True), (x.name,))
        given = call.axes(1, since=18)
        if not given and call.flag("noop_with_empty_axes"):
            return Imported(None, (x.name,))
        axes = tuple(sorted({call.axis(axis, rank) for axis in given or range(rank)}))
        call.require(axes[0] != 0, f"axes {axes}, of which 0 is the batch,")
        return Imported(cls(axes, call.flag("keepdims", default=True)), (x.name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x = inputs[0]
        ordered = self.axes == tuple(sorted(set(self.axes)))
        expect(bool(self.axes) and ordered, f"mean needs ascending axes, not {self.axes}")
        expect(self.axes[0] >= 1 and self.axes[-1] < x.rank, f"mean over {self.axes} of rank {x.rank}")
        return (Type(_reduced(x.shape, self.axes, self.keepdim)),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (inputs[0].mean(axis=self.axes, keepdims=self.keepdim, dtype=np.float32),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return inputs[0].mean(self.axes, keepdim=self.keepdim)

    def to_onnx(self, form: OnnxForm) -> None:
        if self.keepdim and form.type(0).rank > 2 and self.axes == tuple(range(2, form.type(0).rank)):
            form.result("GlobalAveragePool", form.input(0))
            return
        more, attributes = form.axes(self.axes)
        form.result("ReduceMean", form.input(0), *more, **attributes, keepdims=int(self.keepdim))

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x = inputs[0]
        assert x is not None
        kept = [axis for axis in range(1, x.rank) if axis not in self.axes]
        ties = []
        for axis in kept:
            after = axis if self.keepdim else axis - sum(gone < axis for gone in self.axes)
            labels = alone(x.bounds[axis])
            ties.append((on_input(0, axis, labels), on_output(after, labels)))
        return Coupling(tuple(ties))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        order = _neighbouring(lowering.order(value), self.axes)
        which = (min(order.index(axis) for axis in self.axes), len(self.axes), self.keepdim)
        kept = [axis for axis in order if self.keepdim or axis not in self.axes]
        renumbered = tuple(sorted(kept).index(axis) for axis in kept)
        if lowering.is_float(epilogue.output):
            from penjing.ops.f_mean import FMean
            from penjing.ops.f_sums import finite_ends

            mean = FMean(*which, *finite_ends(epilogue.low, epilogue.high))
            lowering.finish_floats(epilogue, mean, (lowering.floats(value, order),), renumbered)
            return
        source, target = lowering.quant(value), lowering.quant(epilogue.output)
        op = QMean(
            *which,
            source.zero_point,
            ratio(source.scale, target.scale),
            target.zero_point,
            *lowering.clamp_codes(epilogue),
        )
        lowering.finish(epilogue, op, (lowering.placed(value, order),), renumbered)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.random.default_rng(22).normal(size=(2, 3, 4, 5)).astype(np.float32)
        for axes, keepdim in (((2, 3), True), ((2, 3), False), ((1,), False), ((1, 3), True), ((1, 2, 3), False)):
            yield Sample(cls(axes, keepdim), (x,))
        yield Sample(cls((1,)), (x[:, :, 0, 0],))


def _reduced(shape: Shape, axes: tuple[int, ...], keepdim: bool) -> Shape:
    """`shape` after a reduction; InvalidGraph where it averages over the batch or could overflow int32."""
    extents = [shape[axis] for axis in axes]
    expect(not any(map(is_batch, extents)), "a mean over the batch")
    count = math.prod(map(bound, extents))
    expect(count >= 1, "a mean over nothing")
    expect(count * U8_MAX <= INT32_MAX, f"a mean over {count} codes could overflow int32")
    out: list[Extent] = []
    for axis, extent in enumerate(shape):
        if axis not in axes:
            out.append(extent)
        elif keepdim:
            out.append(1)
    return tuple(out)


def _neighbouring(order: Order, axes: tuple[int, ...]) -> Order:
    """`order` where `axes` stand side by side in it, else the order with them moved to the end."""
    at = sorted(order.index(axis) for axis in axes)
    if at[-1] - at[0] == len(at) - 1:
        return order
    return (*(axis for axis in order if axis not in axes), *axes)


@dataclass(frozen=True)
class QMean(IntegerOperator):
    """x u8; output without the `count` axes from `start` on, or with extent 1 there if `keepdim`."""

    name = "q_mean"

    start: int
    count: int
    keepdim: bool
    x_zero: int
    ratio: float
    y_zero: int
    qmin: int
    qmax: int

    def _axes(self) -> tuple[int, ...]:
        return tuple(range(self.start, self.start + self.count))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x = inputs[0]
        expect(x.dtype is DType.U8, "q_mean takes u8")
        expect(
            self.start >= 0 and 1 <= self.count <= x.rank - self.start,
            f"q_mean over {self.count} axes from {self.start} on of {x.rank}",
        )
        return (Type(_reduced(x.shape, self._axes(), self.keepdim), DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x = inputs[0].astype(np.int32) - self.x_zero
        total = x.sum(axis=self._axes(), keepdims=self.keepdim, dtype=np.int32).astype(np.float32)
        elements = math.prod(x.shape[self.start : self.start + self.count])
        value = total * np.float32(self.ratio) / np.float32(elements)
        return (round_clamped(value, self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        shape, end = inputs[0].bounds, self.start + self.count
        return {
            "outer": math.prod(shape[: self.start]),
            "reduce": math.prod(shape[self.start : end]),
            "inner": math.prod(shape[end:]),
            "x_zero": self.x_zero,
            "ratio": self.ratio,
            "y_zero": self.y_zero,
            "low": float(self.qmin - self.y_zero),
            "high": float(self.qmax - self.y_zero),
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(23)
        # two elements at ratio 1 land on exact halves
        yield Sample(cls(1, 1, False, 128, 1.0, 128, 0, 255), (codes(rng, (1, 2, 512)),))
        yield Sample(cls(2, 1, False, 0, 1.0, 0, 0, 255), (codes(rng, (1, 512, 2)),))
        yield Sample(cls(1, 1, True, 128, 8.0, 128, 0, 255), (codes(rng, (1, 3, 256)),))
        # ratio times sum, then the division: the other order differs for some of the sums
        yield Sample(cls(1, 1, False, 128, float32(0.3), 128, 0, 255), (triples()[None],))
        # sums whose 14th part is a half, which their product with float32(1 / 14) is not
        yield Sample(cls(1, 1, False, 0, 1.0, 0, 0, 255), (codes(rng, (1, 14, 1024)),))
        fine = (3, float(np.float32(1.7)), 7, 9, 200)
        for n in LENGTHS:
            yield Sample(cls(1, 1, False, *fine), (codes(rng, (2, 5, n)),))
            yield Sample(cls(1, 2, True, *fine), (codes(rng, (1, 3, n, 4)),))
        yield Sample(cls(2, 2, False, 255, 0.25, 255, 0, 255), (codes(rng, (2, 3, 7, 9)),))
        # more elements than sums of 16 bits hold
        for reduce in (256, 257, 600):
            yield Sample(cls(1, 1, False, 3, 0.5, 7, 0, 255), (np.full((1, reduce, 66), 255, np.uint8),))
        yield Sample(cls(1, 1, False, *fine), (codes(rng, (2, 600, 70)),))
        # a ratio whose products leave the range of int32 at both ends
        yield Sample(cls(1, 1, False, 128, 2.0**60, 128, 5, 250), (codes(rng, (2, 2, 300)),))
