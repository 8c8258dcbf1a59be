"""Pooling to a given size: along an axis, window i of n covers floor(i * in / n) .. ceil((i + 1) * in / n) - 1.

    max:   y = the largest element of the window
    mean:  y = rne(clamp(float32(sum of (q_x - zp_x)) * r / float32(count), qmin - zp_y, qmax - zp_y)) + zp_y

with r = s_x / s_y and `count` the elements of that window. Where all windows have one size and one distance, which is
so whenever n divides the input, these are ordinary pools and become such.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from penjing.core.arithmetic import INT32_MAX, U8_MAX, ratio, round_clamped
from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.as_images import emit_as_image
from penjing.ops.coupling import Coupling, kept_axes
from penjing.ops.integer_samples import codes, float32, triples
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.mean import Mean
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import IntegerOperator, Operator, Param, QuantRule, Sample, expect
from penjing.ops.pool2d import QAvgPool2d, QMaxPool2d
from penjing.ops.torch_call import Imported, TorchCall
from penjing.ops.windows import Pads, Pair

_NO_PADS: Pads = (0, 0, 0, 0)


@dataclass(frozen=True)
class _AdaptivePool(Operator):
    """Input (N, C, L) or (N, C, H, W); `output` gives the new L or (H, W)."""

    output: tuple[int, ...]

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        x = call.ref("self")
        axes = 1 if "1d" in call.target else 2
        call.require(x.type.rank == axes + 2, f"an input of rank {x.type.rank}, that is without a batch,")
        size = call.integers("output_size")
        return Imported(cls(size if len(size) == axes else size * axes), (x.name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x = inputs[0]
        expect(len(self.output) in (1, 2) and min(self.output) >= 1, f"a pool to {self.output}")
        expect(x.rank == len(self.output) + 2, f"a pool to {self.output} of rank {x.rank}")
        expect(all(isinstance(e, int) and e >= 1 for e in x.shape[2:]), f"a pool of {x.shape[2:]} has no fixed windows")
        return (Type((*x.shape[:2], *self.output)),)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x = inputs[0]
        assert x is not None
        return Coupling(kept_axes(x, outputs[0], [1]))

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        image = np.moveaxis(inputs[0], 1, -1)
        image = image if image.ndim == 4 else image[:, None]
        y = np.empty((image.shape[0], *_pair(self.output), image.shape[3]), np.float32)
        for cell, window in _windows(image, _pair(self.output)):
            y[cell] = self._reduced(window)
        return (np.ascontiguousarray(np.moveaxis(y, -1, 1).reshape(*inputs[0].shape[:2], *self.output)),)

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        sizes = _pair(Type(lowering.shape(value)).bounds[2:])
        uniform = [_uniform(size, n) for size, n in zip(sizes, _pair(self.output), strict=True)]
        vertical, horizontal = uniform
        if vertical is None or horizontal is None:
            op = self._ragged(lowering, node, epilogue)
        else:
            kernel, stride = zip(vertical, horizontal, strict=True)
            op = self._regular(lowering, node, epilogue, kernel, stride)
        emit_as_image(lowering, value, op, epilogue)

    def _to_onnx(self, form: OnnxForm, pool: str, reduction: str) -> None:
        """As a pool, or where windows differ in size, axis by axis each window by itself."""
        sizes = form.type(0).bounds[2:]
        regular = [_uniform(size, n) for size, n in zip(sizes, self.output, strict=True)]
        windows = [window for window in regular if window is not None]
        if len(windows) == len(regular):
            kernel, strides = zip(*windows, strict=True)
            form.result(pool, form.input(0), kernel_shape=kernel, strides=strides)
            return
        x = form.input(0)
        for axis, (size, n) in enumerate(zip(sizes, self.output, strict=True), start=2):
            more, attributes = form.axes((axis,))
            parts = [form.slice(x, axis, start, end) for start, end in _spans(size, n)]
            parts = [form.node(reduction, part, *more, **attributes, keepdims=1) for part in parts]
            x = form.node("Concat", *parts, axis=axis)
        form.result("Identity", x)

    def _reduced(self, window: np.ndarray) -> np.ndarray:
        """(N, H, W, C) -> (N, C)."""
        raise NotImplementedError

    def _regular(
        self, lowering: Lowering, node: Node, epilogue: Epilogue, kernel: Pair, stride: Pair
    ) -> IntegerOperator:
        """The operator for windows of one size and one distance."""
        raise NotImplementedError

    def _ragged(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> IntegerOperator:
        """The operator for all others."""
        raise NotImplementedError

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(24)
        x = rng.normal(size=(2, 3, 7, 8)).astype(np.float32)
        for output in ((1, 1), (7, 4), (3, 5), (2, 3), (9, 8)):
            yield Sample(cls(output), (x,))
        for length in (1, 2, 4, 6, 10):
            yield Sample(cls((length,)), (x[:, :, 0],))


@dataclass(frozen=True)
class AdaptiveMaxPool(_AdaptivePool):
    """Input (N, C, L) or (N, C, H, W); `output` gives the new L or (H, W). Of torch's two results, the first."""

    name = "adaptive_max_pool"
    torch = ("aten.adaptive_max_pool1d.default", "aten.adaptive_max_pool2d.default")
    onnx = ("GlobalMaxPool",)
    quant_rule = QuantRule.SAME

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        x = call.activation(0)
        return Imported(cls((1,) * (x.type.rank - 2)), (x.name,))

    def _reduced(self, window: np.ndarray) -> np.ndarray:
        y: np.ndarray = window.max(axis=(1, 2))
        return y

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        functional = torch.nn.functional
        pool = functional.adaptive_max_pool1d if len(self.output) == 1 else functional.adaptive_max_pool2d
        return pool(inputs[0], self.output if len(self.output) > 1 else self.output[0])

    def to_onnx(self, form: OnnxForm) -> None:
        self._to_onnx(form, "MaxPool", "ReduceMax")

    def _regular(
        self, lowering: Lowering, node: Node, epilogue: Epilogue, kernel: Pair, stride: Pair
    ) -> IntegerOperator:
        return QMaxPool2d(kernel, stride, _NO_PADS, (1, 1), False)

    def _ragged(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> IntegerOperator:
        return QAdaptiveMaxPool2d(_pair(self.output))


@dataclass(frozen=True)
class AdaptiveAvgPool(_AdaptivePool):
    """Input (N, C, L) or (N, C, H, W); `output` gives the new L or (H, W). A pool to size 1 imports as a mean."""

    name = "adaptive_avg_pool"
    torch = (
        "aten.adaptive_avg_pool1d.default",
        "aten.adaptive_avg_pool2d.default",
        "aten._adaptive_avg_pool2d.default",
    )

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        imported = super().from_torch(call)
        assert isinstance(imported.op, AdaptiveAvgPool)
        output = imported.op.output
        if set(output) != {1}:
            return imported
        return Imported(Mean(tuple(range(2, 2 + len(output))), keepdim=True), imported.inputs)

    def _reduced(self, window: np.ndarray) -> np.ndarray:
        y: np.ndarray = window.mean(axis=(1, 2), dtype=np.float32)
        return y

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        functional = torch.nn.functional
        pool = functional.adaptive_avg_pool1d if len(self.output) == 1 else functional.adaptive_avg_pool2d
        return pool(inputs[0], self.output if len(self.output) > 1 else self.output[0])

    def to_onnx(self, form: OnnxForm) -> None:
        self._to_onnx(form, "AveragePool", "ReduceMean")

    def _regular(
        self, lowering: Lowering, node: Node, epilogue: Epilogue, kernel: Pair, stride: Pair
    ) -> IntegerOperator:
        return QAvgPool2d(kernel, stride, _NO_PADS, False, True, *_requantization(lowering, node, epilogue))

    def _ragged(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> IntegerOperator:
        return QAdaptiveAvgPool2d(_pair(self.output), *_requantization(lowering, node, epilogue))


def _requantization(lowering: Lowering, node: Node, epilogue: Epilogue) -> tuple[int, float, int, int, int]:
    source, target = lowering.quant(node.inputs[0]), lowering.quant(epilogue.output)
    scale = ratio(source.scale, target.scale)
    return (source.zero_point, scale, target.zero_point, *lowering.clamp_codes(epilogue))


def _pair(sizes: tuple[int, ...]) -> Pair:
    """(H, W) of an image, (1, L) of a sequence."""
    return (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def _spans(size: int, n: int) -> list[tuple[int, int]]:
    """[start, end) of each of the n windows over `size` elements."""
    return [(i * size // n, -(-(i + 1) * size // n)) for i in range(n)]


def _uniform(size: int, n: int) -> Pair | None:
    """(kernel, stride) when the n windows over `size` have one size and one distance, else None."""
    spans = _spans(size, n)
    kernels = {end - start for start, end in spans}
    strides = {b[0] - a[0] for a, b in pairwise(spans)} or {size}
    if len(kernels) > 1 or len(strides) > 1 or 0 in strides:
        return None
    return kernels.pop(), strides.pop()


def _windows(x: np.ndarray, output: Pair) -> Iterator[tuple[Any, np.ndarray]]:
    """For each output cell, its index into y (N, OH, OW, C) and its window of x (N, H, W, C)."""
    for oy, (y0, y1) in enumerate(_spans(x.shape[1], output[0])):
        for ox, (x0, x1) in enumerate(_spans(x.shape[2], output[1])):
            yield (slice(None), oy, ox), x[:, y0:y1, x0:x1]


def _resized(x: Type, output: Pair) -> tuple[Type, ...]:
    expect(x.rank == 4 and x.dtype is DType.U8, "a 2-D pool needs u8 of rank 4")
    expect(min(output) >= 1, f"a pool to {output}")
    expect(all(isinstance(e, int) and e >= 1 for e in x.shape[1:3]), f"a pool of {x.shape[1:3]} has no fixed windows")
    return (Type((x.shape[0], *output, x.shape[3]), DType.U8),)


def _sizes(x: Type, y: Type) -> dict[str, Param]:
    n, ih, iw, c = x.bounds
    return {"n": n, "ih": ih, "iw": iw, "c": c, "oh": y.bounds[1], "ow": y.bounds[2]}


@dataclass(frozen=True)
class QAdaptiveMaxPool2d(IntegerOperator):
    """x u8 (N, H, W, C); output u8 (N, *output, C)."""

    name = "q_adaptive_max_pool2d"

    output: Pair

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return _resized(inputs[0], self.output)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x = inputs[0]
        y = np.empty((x.shape[0], *self.output, x.shape[3]), np.uint8)
        for cell, window in _windows(x, self.output):
            y[cell] = window.max(axis=(1, 2))
        return (y,)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return _sizes(inputs[0], outputs[0])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(25)
        for c in (1, 3, 8, 16, 17, 33):
            yield Sample(cls((3, 5)), (codes(rng, (1, 7, 8, c)),))
        for output in ((1, 1), (2, 3), (9, 8)):
            yield Sample(cls(output), (codes(rng, (2, 7, 5, 4)),))
        yield Sample(cls((7, 7)), (codes(rng, (1, 16, 16, 2)),))


@dataclass(frozen=True)
class QAdaptiveAvgPool2d(IntegerOperator):
    """x u8 (N, H, W, C); output u8 (N, *output, C)."""

    name = "q_adaptive_avg_pool2d"

    output: Pair
    x_zero: int
    ratio: float
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        image = inputs[0].bounds[1] * inputs[0].bounds[2]
        expect(image * U8_MAX <= INT32_MAX, f"a mean over {image} codes could overflow int32")
        return _resized(inputs[0], self.output)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x = inputs[0].astype(np.int32) - self.x_zero
        y = np.empty((x.shape[0], *self.output, x.shape[3]), np.uint8)
        for cell, window in _windows(x, self.output):
            total = window.sum(axis=(1, 2), dtype=np.int32).astype(np.float32)
            count = np.float32(window.shape[1] * window.shape[2])
            y[cell] = round_clamped(total * np.float32(self.ratio) / count, self.y_zero, self.qmin, self.qmax)
        return (y,)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {
            **_sizes(inputs[0], outputs[0]),
            **{"x_zero": self.x_zero, "ratio": self.ratio, "y_zero": self.y_zero},
            **{"low": float(self.qmin - self.y_zero), "high": float(self.qmax - self.y_zero)},
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(26)
        # windows of 2 and 4 elements at ratio 1 land on exact halves
        for c in (1, 3, 8, 16, 17, 33):
            yield Sample(cls((2, 4), 128, 1.0, 128, 0, 255), (codes(rng, (1, 3, 7, c)),))
        # sums whose 14th part is a half, which their product with float32(1 / 14) is not
        yield Sample(cls((2, 1), 0, 1.0, 0, 0, 255), (codes(rng, (1, 3, 7, 1024)),))
        for output in ((1, 1), (2, 3), (9, 8)):
            yield Sample(cls(output, 3, float(np.float32(1.7)), 7, 9, 200), (codes(rng, (2, 7, 5, 4)),))
        yield Sample(cls((7, 7), 100, 8.0, 128, 0, 255), (codes(rng, (1, 16, 16, 2)),))
        # ratio times sum, then the division: the other order differs for some of the sums
        yield Sample(cls((1, 1), 128, float32(0.3), 128, 0, 255), (triples()[None, :, None],))
