"""Pooling over windows: the largest element, or the mean.

max:   y = max over the window of x;  padding never wins. In integers the codes are compared as they are.
mean:  y = (sum over the window of x) / count, where count is the window's size, or only its part inside the input.

    y = rne(clamp(float32(sum of (q_x - zp_x)) * m / float32(count), -zp_y, 255 - zp_y)) + zp_y,   m = s_x / s_y
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import ratio, round_clamped
from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.conv2d import window_params
from penjing.ops.coupling import Coupling, kept_axes
from penjing.ops.integer_samples import codes, float32, triples
from penjing.ops.lowering import Epilogue, Lowering, channels_last
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.onnx_pools import onnx_avg_pool, onnx_max_pool
from penjing.ops.operator import Cost, FloatRule, IntegerOperator, Operator, Param, QuantRule, Sample, expect
from penjing.ops.torch_call import Imported, TorchCall
from penjing.ops.windows import Pads, Pair, Window, onnx_pads


@dataclass(frozen=True)
class MaxPool2d(Operator):
    """Input (N, C, H, W), output (N, C, OH, OW)."""

    name = "max_pool2d"
    torch = ("aten.max_pool2d.default",)
    onnx = ("MaxPool",)
    onnx_rank = 4
    quant_rule = QuantRule.SAME
    float_rule = FloatRule.MOVES

    kernel: Pair
    stride: Pair
    padding: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    ceil: bool = False

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        kernel, stride, padding = _torch_window(call)
        return Imported(
            cls(kernel, stride, padding, call.pair("dilation"), call.flag("ceil_mode")), (call.ref("self").name,)
        )

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        kernel, stride, pads, dilation = onnx_pool(call, 2)
        op = cls(kernel, stride, pads, dilation, call.flag("ceil_mode"))  # type: ignore[arg-type]
        return Imported(op, (call.activation(0).name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return _pooled(inputs[0], self._window(), self.ceil)

    def _window(self) -> Window:
        return Window(self.kernel, self.stride, self.padding, self.dilation)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x = inputs[0]
        assert x is not None
        return Coupling(kept_axes(x, outputs[0], [1]))

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        y = _max(np.moveaxis(inputs[0], 1, -1), self._window(), self.ceil, -np.inf)
        return (np.ascontiguousarray(np.moveaxis(y, -1, 1)),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x, padding = _symmetric(torch, inputs[0], self.padding, -float("inf"))
        functional = torch.nn.functional
        return functional.max_pool2d(x, self.kernel, self.stride, padding, self.dilation, self.ceil)

    def to_onnx(self, form: OnnxForm) -> None:
        onnx_max_pool(form, self._window(), ceil=self.ceil)

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(0, inputs[0].nbytes + outputs[0].nbytes)

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        window, order = (self.kernel, self.stride, self.padding, self.dilation, self.ceil), channels_last(4)
        if lowering.is_float(epilogue.output):
            from penjing.ops.f_max_pool2d import FMaxPool2d

            x = lowering.floats(node.inputs[0], order)
            lowering.finish_floats(epilogue, FMaxPool2d(*window), (x,), order)
            return
        lowering.finish(epilogue, QMaxPool2d(*window), (lowering.placed(node.inputs[0], order),), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(12)
        x = rng.normal(size=(2, 3, 7, 8)).astype(np.float32)
        yield Sample(cls((2, 2), (2, 2)), (x,))
        yield Sample(cls((3, 3), (2, 2), (1, 1, 1, 1)), (x,))
        yield Sample(cls((3, 2), (2, 1), (1, 0, 1, 0), (2, 2)), (x,))
        yield Sample(cls((3, 3), (2, 2), ceil=True), (x,))


@dataclass(frozen=True)
class AvgPool2d(Operator):
    """Input (N, C, H, W), output (N, C, OH, OW)."""

    name = "avg_pool2d"
    torch = ("aten.avg_pool2d.default",)
    onnx = ("AveragePool",)
    onnx_rank = 4

    kernel: Pair
    stride: Pair
    padding: Pads = (0, 0, 0, 0)
    ceil: bool = False
    count_padding: bool = True

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        call.require(call.arguments.get("divisor_override") is None, "divisor_override")
        kernel, stride, padding = _torch_window(call)
        op = cls(kernel, stride, padding, call.flag("ceil_mode"), call.flag("count_include_pad"))
        return Imported(op, (call.ref("self").name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        kernel, stride, pads, dilation = onnx_pool(call, 2)
        call.require(set(dilation) == {1}, f"dilations {dilation}")
        ceil, count_padding = call.flag("ceil_mode"), call.flag("count_include_pad")
        op = cls(kernel, stride, pads, ceil, count_padding)  # type: ignore[arg-type]
        return Imported(op, (call.activation(0).name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return _pooled(inputs[0], self._window(), self.ceil)

    def _window(self) -> Window:
        return Window(self.kernel, self.stride, self.padding)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x = inputs[0]
        assert x is not None
        return Coupling(kept_axes(x, outputs[0], [1]))

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x = np.moveaxis(inputs[0], 1, -1)
        output = self._window().output(x.shape[1], x.shape[2], ceil=self.ceil)
        total, count = _sum(x, self._window(), output), _counts(x, self._window(), self.ceil, self.count_padding)
        return (np.ascontiguousarray(np.moveaxis(total / count, -1, 1).astype(np.float32)),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        functional = torch.nn.functional
        x, padding = inputs[0], (self.padding[0], self.padding[1])
        if self.padding[:2] != self.padding[2:] and self.count_padding:
            x, padding = _symmetric(torch, x, self.padding, 0.0)
        return functional.avg_pool2d(x, self.kernel, self.stride, padding, self.ceil, self.count_padding)

    def to_onnx(self, form: OnnxForm) -> None:
        onnx_avg_pool(form, self._window(), ceil=self.ceil, count_padding=self.count_padding)

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        x = lowering.placed(node.inputs[0], channels_last(4))
        source, target = lowering.quant(node.inputs[0]), lowering.quant(epilogue.output)
        shape = (self.kernel, self.stride, self.padding, self.ceil, self.count_padding)
        codes_ = (source.zero_point, ratio(source.scale, target.scale), target.zero_point)
        op = QAvgPool2d(*shape, *codes_, *lowering.clamp_codes(epilogue))
        lowering.finish(epilogue, op, (x,), channels_last(4))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(13)
        x = rng.normal(size=(2, 3, 7, 8)).astype(np.float32)
        yield Sample(cls((2, 2), (2, 2)), (x,))
        for count_padding in (True, False):
            yield Sample(cls((3, 3), (2, 2), (1, 1, 1, 1), count_padding=count_padding), (x,))
            yield Sample(cls((3, 2), (2, 3), (1, 0, 1, 0), ceil=True, count_padding=count_padding), (x,))


def onnx_pool(call: OnnxCall, axes: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(kernel, stride, pads, dilation) of an ONNX pool with so many spatial axes."""
    call.require(call.outputs == 1, "places of the largest elements that are read")
    kernel = call.per_axis("kernel_shape", axes, 0)
    stride, dilation = call.per_axis("strides", axes), call.per_axis("dilations", axes)
    return kernel, stride, onnx_pads(call, call.activation(0).type.bounds[2:], kernel, stride, dilation), dilation


def _torch_window(call: TorchCall) -> tuple[Pair, Pair, Pads]:
    kernel = call.pair("kernel_size")
    stride = call.pair("stride") if call.arguments.get("stride") else kernel
    height, width = call.pair("padding")
    return kernel, stride, (height, width, height, width)


def _symmetric(torch: Any, x: Any, padding: Pads, fill: float) -> tuple[Any, Pair]:
    top, left, bottom, right = padding
    if (top, left) == (bottom, right):
        return x, (top, left)
    return torch.nn.functional.pad(x, (left, right, top, bottom), value=fill), (0, 0)


def _pooled(x: Type, window: Window, ceil: bool) -> tuple[Type, ...]:
    expect(x.rank == 4, f"a 2-D pool needs rank 4, not {x.rank}")
    reach = [(k - 1) * d // 2 + 1 for k, d in zip(window.kernel, window.dilation, strict=True)]
    expect(
        max(window.padding[0::2]) <= reach[0] and max(window.padding[1::2]) <= reach[1], "padding over half a window"
    )
    height, width = window.output(x.shape[2], x.shape[3], ceil=ceil)
    expect(window.meets((x.bounds[2], x.bounds[3]), (height, width)), "a window lies wholly in the padding")
    return (Type((x.shape[0], x.shape[1], height, width)),)


def _pooled_last(x: Type, window: Window, ceil: bool) -> tuple[Type, ...]:
    expect(x.rank == 4 and x.dtype is DType.U8, "a 2-D pool needs u8 of rank 4")
    height, width = window.output(x.shape[1], x.shape[2], ceil=ceil)
    expect(window.meets((x.bounds[1], x.bounds[2]), (height, width)), "a window lies wholly in the padding")
    return (Type((x.shape[0], height, width, x.shape[3]), DType.U8),)


def _max(x: np.ndarray, window: Window, ceil: bool, lowest: int | float) -> np.ndarray:
    output = window.output(x.shape[1], x.shape[2], ceil=ceil)
    y = np.full((x.shape[0], *output, x.shape[3]), lowest, dtype=x.dtype)
    for _, _, view in window.taps(x, output, lowest):
        np.maximum(y, view, out=y)
    return y


def _sum(x: np.ndarray, window: Window, output: Pair) -> np.ndarray:
    y = np.zeros((x.shape[0], *output, x.shape[3]), dtype=x.dtype)
    for _, _, view in window.taps(x, output, 0):
        y += view
    return y


def _counts(x: np.ndarray, window: Window, ceil: bool, count_padding: bool) -> np.ndarray:
    """(1, OH, OW, 1): elements under each window; `count_padding` counts declared pads, not the overhang of `ceil`."""
    output = window.output(x.shape[1], x.shape[2], ceil=ceil)
    top, left, bottom, right = window.padding
    ones = np.ones((1, x.shape[1], x.shape[2], 1), np.float32)
    if count_padding:
        ones = np.pad(ones, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=1)
        window = Window(window.kernel, window.stride)
    return _sum(ones, window, output)


@dataclass(frozen=True)
class QMaxPool2d(IntegerOperator):
    """x u8 (N, H, W, C); output (N, OH, OW, C)."""

    name = "q_max_pool2d"

    kernel: Pair
    stride: Pair
    padding: Pads
    dilation: Pair
    ceil: bool

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return _pooled_last(inputs[0], self._window(), self.ceil)

    def _window(self) -> Window:
        return Window(self.kernel, self.stride, self.padding, self.dilation)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_max(inputs[0], self._window(), self.ceil, 0),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {
            **_pool_shape(inputs[0], outputs[0], self.kernel),
            **window_params(self.stride, self.padding, self.dilation),
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(14)
        for c in (1, 3, 8, 16, 17, 33):
            yield Sample(cls((2, 2), (2, 2), (0, 0, 0, 0), (1, 1), False), (codes(rng, (1, 6, 7, c)),))
        yield Sample(cls((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), True), (codes(rng, (2, 7, 8, 5)),))
        yield Sample(cls((3, 2), (2, 1), (1, 0, 1, 0), (2, 2), False), (codes(rng, (1, 9, 8, 4)),))
        # channels around vector widths, and rows of pixels that are pooled several at a time
        for c in (2, 4, 7, 31, 32, 63, 64, 65, 130):
            yield Sample(cls((2, 2), (2, 2), (0, 0, 0, 0), (1, 1), False), (codes(rng, (1, 2, 5, c)),))
        for size in (2, 8, 23):
            yield Sample(cls((2, 2), (2, 2), (0, 0, 0, 0), (1, 1), False), (codes(rng, (2, 4, size, 16)),))
        for kernel, stride, padding, dilation in (
            ((2, 2), (2, 2), (1, 1, 1, 1), (1, 1)),
            ((2, 2), (2, 1), (0, 0, 0, 0), (1, 1)),
            ((2, 2), (1, 2), (0, 0, 0, 0), (2, 2)),
            ((2, 2), (3, 3), (0, 0, 0, 0), (1, 1)),
            ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
            ((1, 4), (1, 2), (0, 2, 0, 1), (1, 1)),
        ):
            for c in (16, 70):
                yield Sample(cls(kernel, stride, padding, dilation, False), (codes(rng, (1, 9, 14, c)),))


@dataclass(frozen=True)
class QAvgPool2d(IntegerOperator):
    """x u8 (N, H, W, C); output (N, OH, OW, C)."""

    name = "q_avg_pool2d"

    kernel: Pair
    stride: Pair
    padding: Pads
    ceil: bool
    count_padding: bool
    x_zero: int
    ratio: float
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return _pooled_last(inputs[0], self._window(), self.ceil)

    def _window(self) -> Window:
        return Window(self.kernel, self.stride, self.padding)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x = inputs[0].astype(np.int32) - self.x_zero
        output = self._window().output(x.shape[1], x.shape[2], ceil=self.ceil)
        total = _sum(x, self._window(), output).astype(np.float32)
        value = total * np.float32(self.ratio) / _counts(x, self._window(), self.ceil, self.count_padding)
        return (round_clamped(value, self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {
            **_pool_shape(inputs[0], outputs[0], self.kernel),
            **window_params(self.stride, self.padding, (1, 1)),
            "pad_bottom": self.padding[2],
            "pad_right": self.padding[3],
            "count_padding": int(self.count_padding),
            "x_zero": self.x_zero,
            "ratio": self.ratio,
            "y_zero": self.y_zero,
            "low": float(self.qmin - self.y_zero),
            "high": float(self.qmax - self.y_zero),
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(15)
        for c in (1, 3, 8, 16, 17, 33):
            op = cls((2, 2), (2, 2), (0, 0, 0, 0), False, True, 128, 1.0, 128, 0, 255)
            yield Sample(op, (codes(rng, (1, 6, 7, c)),))
        wide = cls((2, 2), (1, 2), (0, 0, 0, 0), False, True, 128, 8.0, 128, 0, 255)
        yield Sample(wide, (codes(rng, (1, 16, 16, 2)),))
        # 14 elements: multiplying by a rounded 1 / 14 instead of dividing would show
        division = cls((2, 7), (1, 1), (0, 0, 0, 0), False, True, 128, 1.0, 128, 0, 255)
        yield Sample(division, (codes(rng, (1, 9, 40, 4)),))
        # ratio times sum, then the division: the other order differs for some of the sums
        order = cls((3, 1), (1, 1), (0, 0, 0, 0), False, True, 128, float32(0.3), 128, 0, 255)
        yield Sample(order, (triples()[None, :, None],))
        # channels around vector widths, and more elements than sums of 16 bits hold
        for c in (7, 31, 63, 64, 65, 130):
            op = cls((2, 2), (2, 2), (0, 0, 0, 0), False, True, 128, 1.0, 128, 0, 255)
            yield Sample(op, (codes(rng, (1, 2, 5, c)),))
        large = cls((19, 41), (19, 41), (0, 0, 0, 0), False, True, 3, 0.5, 7, 0, 255)
        yield Sample(large, (np.full((1, 19, 41, 35), 255, np.uint8),))
        yield Sample(large, (codes(rng, (1, 19, 82, 35)),))
        # a ratio whose products leave the range of int32 at both ends
        steep = cls((1, 2), (1, 2), (0, 0, 0, 0), False, True, 128, 2.0**60, 128, 5, 250)
        yield Sample(steep, (codes(rng, (1, 2, 256, 3)),))
        for ceil in (False, True):
            for count_padding in (False, True):
                op = cls((3, 3), (2, 2), (1, 1, 1, 1), ceil, count_padding, 3, float(np.float32(1.7)), 7, 9, 200)
                yield Sample(op, (codes(rng, (2, 7, 8, 5)),))


def _pool_shape(x: Type, y: Type, kernel: Pair) -> dict[str, Param]:
    n, ih, iw, c = x.bounds
    _, oh, ow, _ = y.bounds
    return {"n": n, "ih": ih, "iw": iw, "c": c, "oh": oh, "ow": ow, "kh": kernel[0], "kw": kernel[1]}
