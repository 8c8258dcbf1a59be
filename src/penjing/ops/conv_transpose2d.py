"""Transposed convolution: every input pixel adds its window of weights to the output.

    y[n, o, i, j] = b[o] + sum over c, ky, kx of w[c, o, ky, kx] * x[n, c, u, v]
    u = (i + top - ky*dh) / sh,  v = (j + left - kx*dw) / sw

over the taps where both divisions are exact and (u, v) lies inside x. The output has
(H - 1) * sh - top - bottom + dh * (KH - 1) + 1 + output_padding rows; `output_padding` adds rows below and columns to
the right only. `groups` splits channels into independent transposed convolutions: the
weight (C, O / groups, KH, KW) then holds, for input channel c of group g, the weights of that group's outputs.

In integers as conv2d: acc = bias + sum w * (q_x - zp_x), then one requantization with m[o] = s_x * s_w / s_y. Weight
scales lie on axis 1 of the weight, which the groups share: output o has scale o mod (O / groups), and its bias counts
in steps of s_x times that scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from penjing.core.arithmetic import multiplier, requantize
from penjing.ir.graph import Node
from penjing.ir.types import DType, Extent, Type, bound
from penjing.ops.conv2d import check_requantize, groups_left, requantize_params, window_params
from penjing.ops.coupling import Axis, Coupling, Kept, alone, on_input, on_output
from penjing.ops.integer_samples import codes, requantization, weights
from penjing.ops.lowering import Epilogue, Lowering, channels_last
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.onnx_transposed import onnx_conv_transpose
from penjing.ops.operator import Cost, IntegerOperator, Operator, Param, Sample, expect
from penjing.ops.torch_call import Imported, TorchCall
from penjing.ops.windows import Pads, Pair


@dataclass(frozen=True)
class Spread:
    """Geometry of a transposed window: (height, width) pairs, pads as (top, left, bottom, right)."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pads = (0, 0, 0, 0)
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def output(self, height: Extent, width: Extent) -> Pair:
        """Output (height, width); InvalidGraph on a geometry that makes no sense."""
        expect(min(*self.kernel, *self.stride, *self.dilation) >= 1, "kernel, stride and dilation must be at least 1")
        expect(min(*self.padding, *self.output_padding) >= 0, "padding must not be negative")
        sizes = []
        for axis, extent in enumerate((bound(height), bound(width))):
            limit = max(self.stride[axis], self.dilation[axis])
            expect(self.output_padding[axis] < limit, f"output_padding {self.output_padding} must be below {limit}")
            size = self.reach(axis, extent) - self.padding[axis] - self.padding[axis + 2] + self.output_padding[axis]
            expect(size >= 1, f"{extent} rows or columns leave no output with padding {self.padding}")
            sizes.append(size)
        return sizes[0], sizes[1]

    def reach(self, axis: int, extent: int) -> int:
        """Extent that the windows of `extent` input pixels cover, before padding cuts it."""
        return (extent - 1) * self.stride[axis] + self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def apply(self, x: np.ndarray, w: np.ndarray, groups: int) -> np.ndarray:
        """x (N, H, W, C), w (O, KH, KW, C / groups) -> (N, OH, OW, O) in x's dtype, tap by tap."""
        top, left = self.padding[:2]
        height, width = self.output(x.shape[1], x.shape[2])
        canvas = (
            max(self.reach(0, x.shape[1]), top + height),
            max(self.reach(1, x.shape[2]), left + width),
        )
        y = np.zeros((x.shape[0], *canvas, w.shape[0]), dtype=x.dtype)
        per_in, per_out = x.shape[3] // groups, w.shape[0] // groups
        for ky in range(self.kernel[0]):
            for kx in range(self.kernel[1]):
                rows = _line(ky * self.dilation[0], x.shape[1], self.stride[0])
                columns = _line(kx * self.dilation[1], x.shape[2], self.stride[1])
                for g in range(groups):
                    out = slice(g * per_out, (g + 1) * per_out)
                    y[:, rows, columns, out] += x[..., g * per_in : (g + 1) * per_in] @ w[out, ky, kx].T
        return y[:, top : top + height, left : left + width]


def _line(start: int, count: int, step: int) -> slice:
    return slice(start, start + (count - 1) * step + 1, step)


def by_output(weight: np.ndarray, groups: int) -> np.ndarray:
    """(C, O / groups, KH, KW) -> (O, KH, KW, C / groups)."""
    c, per_out, kh, kw = weight.shape
    split = weight.reshape(groups, c // groups, per_out, kh, kw)
    return np.ascontiguousarray(split.transpose(0, 2, 3, 4, 1)).reshape(groups * per_out, kh, kw, c // groups)


def onnx_transposed(
    call: OnnxCall, axes: int
) -> tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]], int, tuple[str, ...]]:
    """((stride, pads, output_padding, dilation), groups, names of the inputs) of an ONNX transposed convolution."""
    x, w = call.activation(0), call.weight(1)
    kernel = w.type.bounds[2:]
    call.require(len(kernel) == axes, f"a weight of rank {w.type.rank} on an input of rank {x.type.rank}")
    call.require(call.per_axis("kernel_shape", axes) == kernel or call.given("kernel_shape") is None, "kernel_shape")
    stride, dilation = call.per_axis("strides", axes), call.per_axis("dilations", axes)
    behind = call.per_axis("output_padding", axes, 0)
    mode, size = call.text("auto_pad", "NOTSET"), call.given("output_shape")
    pads = call.per_axis("pads", 2 * axes, 0)
    if mode == "VALID":
        pads = (0,) * (2 * axes)
    elif mode in ("SAME_UPPER", "SAME_LOWER") and size is None:
        size = tuple(extent * s for extent, s in zip(x.type.bounds[2:], stride, strict=True))
    else:
        call.require(mode in ("NOTSET", "SAME_UPPER", "SAME_LOWER"), f"auto_pad = {mode!r}")
    if size is not None:
        call.require(len(size) == axes, f"output_shape = {size}")
        uncut = Spread((1, *kernel)[-2:], (1, *stride)[-2:], dilation=(1, *dilation)[-2:])  # type: ignore[arg-type]
        reach = [uncut.reach(axis + 2 - axes, extent) for axis, extent in enumerate(x.type.bounds[2:])]
        total = [r + more - want for r, more, want in zip(reach, behind, size, strict=True)]
        halves = [n // 2 for n in total]
        rest = [n - n // 2 for n in total]
        pads = (*halves, *rest) if mode == "SAME_UPPER" else (*rest, *halves)
        # less than no padding behind is more output
        behind = tuple(more + max(-after, 0) for more, after in zip(behind, pads[axes:], strict=True))
        pads = (*pads[:axes], *(max(after, 0) for after in pads[axes:]))
    call.require(min(pads) >= 0, f"pads {pads}, which are negative,")
    inputs = (x.name, w.name, *call.optional_weight(2))
    return (stride, pads, behind, dilation), call.integer("group", 1), inputs


def check_transposed(inputs: tuple[Type, ...], rank: int, groups: int) -> int:
    """The shape rule that transposed convolutions share; returns the number of output channels."""
    x, w = inputs[:2]
    expect(x.rank == w.rank == rank, f"a transposed convolution needs rank {rank}, not {x.rank} and {w.rank}")
    expect(groups >= 1 and w.bounds[0] % groups == 0, f"{w.bounds[0]} channels do not divide into {groups} groups")
    expect(x.bounds[1] == w.bounds[0], f"{x.bounds[1]} channels, but the weight asks for {w.bounds[0]}")
    outputs = w.bounds[1] * groups
    if len(inputs) > 2:
        expect(inputs[2].bounds == (outputs,), f"bias of shape {inputs[2].bounds} for {outputs} channels")
    return outputs


def transposed_coupling(inputs: tuple[Type | None, ...], y: Type, groups: int) -> Coupling:
    """As `convolution_coupling`, for a weight (C, O / groups, ...)."""
    x, w = inputs[:2]
    assert x is not None and w is not None
    channels, made = alone(x.bounds[1]), alone(y.bounds[1])
    per_in, per_out = len(channels) // groups, len(made) // groups
    outward = [on_output(1, made)]
    if len(inputs) > 2 and inputs[2] is not None:
        outward.append(on_input(2, 0, made))
    if per_in == 1 and groups > 1:
        by_group = (Axis(end.port, end.axis, end.labels // per_out) for end in outward)
        return Coupling(((on_input(0, 1, channels), on_input(1, 0, channels), *by_group),))
    by_place = (Axis(end.port, end.axis, end.labels % per_out) for end in outward)
    inward = (on_input(0, 1, channels % per_in), on_input(1, 0, channels % per_in))
    return Coupling((inward, (on_input(1, 1, alone(per_out)), *by_place)))


@dataclass(frozen=True)
class ConvTranspose2d(Operator):
    """Inputs x (N, C, H, W), weight (C, O / groups, KH, KW), optional bias (O); output (N, O, OH, OW)."""

    name = "conv_transpose2d"
    torch = ("aten.conv_transpose2d.input",)
    onnx = ("ConvTranspose",)
    onnx_rank = 4
    weight_input = 1
    weight_axis = 1
    bias_input = 2

    stride: Pair = (1, 1)
    padding: Pads = (0, 0, 0, 0)
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        height, width = call.pair("padding")
        shape = (call.pair("stride"), (height, width, height, width), call.pair("output_padding"))
        op = cls(*shape, call.pair("dilation"), call.integer("groups"))
        inputs = (call.ref("input").name, call.ref("weight").name, call.optional("bias"))
        return Imported(op, inputs if inputs[2] else inputs[:2])

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        shape, groups, inputs = onnx_transposed(call, 2)
        return Imported(cls(*shape, groups), inputs)  # type: ignore[arg-type]

    def _spread(self, kernel: Pair) -> Spread:
        return Spread(kernel, self.stride, self.padding, self.output_padding, self.dilation)

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        outputs = check_transposed(inputs, 4, self.groups)
        x, w = inputs[:2]
        size = self._spread((w.bounds[2], w.bounds[3])).output(x.shape[2], x.shape[3])
        return (Type((x.shape[0], outputs, *size)),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w = inputs[:2]
        y = self._spread(w.shape[2:]).apply(np.moveaxis(x, 1, -1), by_output(w, self.groups), self.groups)
        y = y + inputs[2] if len(inputs) > 2 and inputs[2] is not None else y
        return (np.ascontiguousarray(np.moveaxis(y, -1, 1)),)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        return transposed_coupling(inputs, outputs[0], self.groups)

    def shrunk(self, inputs: tuple[Kept | None, ...], outputs: tuple[Kept, ...]) -> "ConvTranspose2d":
        return replace(self, groups=groups_left(self.groups, inputs))

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        # pads may differ on both sides here, which torch cannot say: cut them off the uncut output
        x, w = inputs[:2]
        top, left, bottom, right = self.padding
        height, width = self._spread((w.shape[2], w.shape[3])).output(x.shape[2], x.shape[3])
        below = (max(0, self.output_padding[0] - bottom), max(0, self.output_padding[1] - right))
        bias = inputs[2] if len(inputs) > 2 else None
        y = torch.nn.functional.conv_transpose2d(x, w, bias, self.stride, 0, below, self.groups, self.dilation)
        return y[:, :, top : top + height, left : left + width]

    def to_onnx(self, form: OnnxForm) -> None:
        onnx_conv_transpose(
            form, self.stride, (self.padding[:2], self.padding[2:]), self.output_padding, self.dilation, self.groups
        )

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        x, w = inputs[:2]
        per_pixel = w.elements  # each input channel of a pixel meets all its weights
        pixels = x.elements // x.bounds[1]
        return Cost(pixels * per_pixel, sum(t.nbytes for t in (*inputs, *outputs)))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        x = lowering.placed(node.inputs[0], channels_last(4))
        spread = self._spread(lowering.graph.constants[node.inputs[1]].array.shape[2:])
        y = emit_transposed(lowering, x, node, spread, self.groups, epilogue)
        lowering.define(epilogue.output, y, channels_last(4))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(41)

        def sample(op: "ConvTranspose2d", n: int, c: int, size: Pair, o: int, k: Pair, bias: bool = True) -> Sample:
            x = rng.normal(size=(n, c, *size)).astype(np.float32)
            weight = rng.normal(size=(c, o // op.groups, *k)).astype(np.float32)
            b = rng.normal(size=o).astype(np.float32)
            return Sample(op, (x, weight, b) if bias else (x, weight), constant=(1, 2) if bias else (1,))

        yield sample(cls(), 2, 3, (4, 5), 4, (3, 3))
        yield sample(cls((2, 2)), 1, 4, (3, 4), 5, (2, 2), bias=False)
        yield sample(cls((2, 2), (1, 1, 1, 1), (1, 1)), 1, 3, (4, 3), 2, (3, 3))
        yield sample(cls((3, 2), (2, 0, 0, 1), (2, 1), (1, 2)), 2, 2, (3, 4), 3, (4, 2))
        yield sample(cls((2, 1), (1, 0, 1, 0), (0, 0), (1, 1), 2), 1, 6, (3, 3), 4, (3, 2))
        yield sample(cls((2, 2), (0, 0, 0, 0), (0, 0), (1, 1), 3), 1, 3, (3, 2), 3, (4, 4))


def emit_transposed(lowering: Lowering, x: str, node: Node, spread: Spread, groups: int, epilogue: Epilogue) -> str:
    """Emit q_conv_transpose2d for the placed image `x` of `node`'s first input; returns the output.

    The weight constant has shape (C, O / groups, KH, KW), or (C, O / groups, K) for one dimension.
    """
    value, weight = node.inputs[:2]
    constant = lowering.graph.constants[weight]
    assert constant.quant is not None
    w = constant.array if constant.array.ndim == 4 else constant.array[:, :, None, :]
    source, target = lowering.quant(value), lowering.quant(epilogue.output)
    m = np.tile(multiplier(source.scale, constant.quant.scale_array(), target.scale), groups)
    has_bias = len(node.inputs) > 2 and node.inputs[2]
    b = lowering.graph.constants[node.inputs[2]].array if has_bias else np.zeros(len(m), np.int32)
    inputs = (
        x,
        lowering.constant(weight, by_output(w, groups)),
        lowering.constant(f"{weight}.bias", b),
        lowering.constant(f"{weight}.multiplier", m),
    )
    shape = (spread.stride, spread.padding, spread.output_padding, spread.dilation, groups)
    op = QConvTranspose2d(*shape, source.zero_point, target.zero_point, *lowering.clamp_codes(epilogue))
    return lowering.emit(op, inputs, epilogue.output, target)


@dataclass(frozen=True)
class QConvTranspose2d(IntegerOperator):
    """x u8 (N, H, W, C), w s8 (O, KH, KW, C / groups), bias s32 (O), multiplier f32 (O); output (N, OH, OW, O)."""

    name = "q_conv_transpose2d"

    stride: Pair
    padding: Pads
    output_padding: Pair
    dilation: Pair
    groups: int
    x_zero: int
    y_zero: int
    qmin: int
    qmax: int

    def _spread(self, w: tuple[int, ...]) -> Spread:
        return Spread((w[1], w[2]), self.stride, self.padding, self.output_padding, self.dilation)

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w, bias, m = inputs
        expect(x.rank == 4 and w.rank == 4, "q_conv_transpose2d needs x and weight of rank 4")
        expect(self.groups >= 1 and w.bounds[0] % self.groups == 0, f"{w.bounds[0]} outputs, {self.groups} groups")
        expect(x.bounds[3] == w.bounds[3] * self.groups, f"{x.bounds[3]} channels, {w.bounds[3]} per group")
        check_requantize(x, w, bias, m, w.bounds[0])
        size = self._spread(w.bounds).output(x.shape[1], x.shape[2])
        return (Type((x.shape[0], *size, w.shape[0]), DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w, bias, m = inputs
        # float64 holds every int32 exactly, so the products are exact in any order
        sums = self._spread(w.shape).apply(x.astype(np.float64) - self.x_zero, w.astype(np.float64), self.groups)
        return (requantize(sums.astype(np.int32) + bias, m, self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        _, ih, iw, ic = inputs[0].bounds
        oc, kh, kw, _ = inputs[1].bounds
        n, oh, ow, _ = outputs[0].bounds
        return {
            **{"n": n, "ih": ih, "iw": iw, "ic": ic, "oh": oh, "ow": ow, "oc": oc, "kh": kh, "kw": kw},
            **window_params(self.stride, self.padding, self.dilation),
            "groups": self.groups,
            **requantize_params(self.x_zero, self.y_zero, self.qmin, self.qmax),
        }

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        pixels = inputs[0].elements // inputs[0].bounds[3]
        return Cost(pixels * inputs[1].elements, sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(42)
        plain = ((2, 2), (0, 0, 0, 0), (0, 0), (1, 1), 1)

        def sample(
            shape: tuple[Pair, Pads, Pair, Pair, int],
            x: tuple[int, int, int, int],
            o: int,
            k: Pair,
            tail: tuple[int, int, int, int] = (128, 3, 0, 255),
        ) -> Sample:
            w = weights(rng, (o, *k, x[3] // shape[4]))
            bias, m = requantization(rng, o, 128.0 * 64.0 * float(np.sqrt(w[0].size)))
            return Sample(cls(*shape, *tail), (codes(rng, x), w, bias, m), constant=(1, 2, 3))

        for channels in (1, 3, 4, 8, 15, 16, 17, 33):
            yield sample(plain, (1, 3, 4, channels), 5, (2, 2))
        for outputs in (1, 2, 3, 4, 8, 16, 17):
            yield sample(plain, (1, 4, 2, 4), outputs, (3, 3), (0, 255, 0, 255))
        yield sample(((2, 2), (1, 1, 1, 1), (1, 1), (1, 1), 1), (2, 4, 5, 3), 4, (3, 3), (255, 0, 10, 200))
        yield sample(((3, 2), (2, 0, 0, 1), (2, 1), (1, 2), 1), (1, 5, 4, 6), 7, (4, 2))
        yield sample(((1, 1), (2, 2, 2, 2), (0, 0), (1, 1), 1), (1, 6, 6, 8), 8, (5, 5))
        yield sample(((2, 3), (0, 1, 1, 0), (0, 2), (2, 1), 2), (1, 4, 4, 6), 8, (3, 3), (7, 9, 9, 255))
        yield sample(((2, 2), (1, 1, 1, 1), (0, 0), (1, 1), 9), (1, 4, 4, 9), 9, (4, 4))
