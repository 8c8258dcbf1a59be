"""Convolution:

    y[n, o, i, j] = b[o] + sum over c, ky, kx of w[o, c, ky, kx] * x[n, c, i*sh + ky*dh - top, j*sw + kx*dw - left]

(cross-correlation, as in torch and ONNX; `groups` splits channels into independent convolutions). In integers, with
real = scale * (q - zero_point) and symmetric weights:

    acc = bias + sum w * (q_x - zp_x)                         exact in int32, proven at build time
    y   = rne(clamp(float32(acc) * m[o] [+ float32(r - zp_r) * s_r], qmin - zp_y, qmax - zp_y)) + zp_y

where m[o] = s_x * s_w[o] / s_y, r is an optional residual and s_r = scale_r / s_y. Padding holds zp_x: it adds nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from penjing.core.arithmetic import accumulator_bound, multiplier, ratio, round_clamped
from penjing.ir.graph import Node
from penjing.ir.types import DType, Extent, Type
from penjing.ops.coupling import Axis, Coupling, Kept, alone, on_input, on_output
from penjing.ops.integer_samples import conv_samples
from penjing.ops.lowering import Epilogue, Lowering, channels_last
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import Attribute, OnnxForm
from penjing.ops.operator import Cost, FloatRule, IntegerOperator, Operator, Param, Sample, expect
from penjing.ops.torch_call import Imported, TorchCall
from penjing.ops.windows import Pads, Pair, Window, onnx_pads


@dataclass(frozen=True)
class Conv2d(Operator):
    """Inputs x (N, C, H, W), weight (O, C / groups, KH, KW), optional bias (O); output (N, O, OH, OW)."""

    name = "conv2d"
    torch = ("aten.conv2d.default", "aten.conv2d.padding")
    onnx = ("Conv",)
    onnx_rank = 4
    weight_input = 1
    bias_input = 2
    float_rule = FloatRule.KEPT

    stride: Pair = (1, 1)
    padding: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w = inputs[0], inputs[1]
        expect(x.rank == 4 and w.rank == 4, f"conv2d needs x and weight of rank 4, not {x.rank} and {w.rank}")
        check_channels(x.shape[1], w.bounds[0], w.bounds[1], self.groups)
        if len(inputs) > 2:
            expect(inputs[2].bounds == w.bounds[:1], f"bias of shape {inputs[2].bounds} for {w.bounds[0]} channels")
        return (Type((x.shape[0], w.shape[0], *self._window(w).output(x.shape[2], x.shape[3]))),)

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        stride, dilation = call.pair("stride"), call.pair("dilation")
        kernel = call.ref("weight").type.bounds[2:]
        padding = torch_padding(call, (kernel[0], kernel[1]), dilation)
        inputs = (call.ref("input").name, call.ref("weight").name, call.optional("bias"))
        return Imported(cls(stride, padding, dilation, call.integer("groups")), inputs if inputs[2] else inputs[:2])

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        (stride, pads, dilation), groups, inputs = onnx_convolution(call, 2)
        return Imported(cls(stride, pads, dilation, groups), inputs)  # type: ignore[arg-type]

    def _window(self, w: Type) -> Window:
        return Window((w.bounds[2], w.bounds[3]), self.stride, self.padding, self.dilation)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w = inputs[0], inputs[1]
        bias = inputs[2] if len(inputs) > 2 else None
        window = Window((w.shape[2], w.shape[3]), self.stride, self.padding, self.dilation)
        y = convolve(np.moveaxis(x, 1, -1), np.moveaxis(w, 1, -1), window, self.groups, 0)
        y = y if bias is None else y + bias
        return (np.ascontiguousarray(np.moveaxis(y, -1, 1)),)

    def weight_operands(self, *inputs: Any) -> np.ndarray | None:
        x, w = np.moveaxis(inputs[0], 1, -1), inputs[1]
        return windows(x, Window((w.shape[2], w.shape[3]), self.stride, self.padding, self.dilation), self.groups)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        return convolution_coupling(inputs, outputs[0], self.groups)

    def shrunk(self, inputs: tuple[Kept | None, ...], outputs: tuple[Kept, ...]) -> "Conv2d":
        return replace(self, groups=groups_left(self.groups, inputs))

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        functional = torch.nn.functional
        top, left, bottom, right = self.padding
        x, *rest = inputs
        if (top, left) != (bottom, right):
            x, top, left = functional.pad(x, (left, right, top, bottom)), 0, 0
        bias = rest[1] if len(rest) > 1 else None
        return functional.conv2d(x, rest[0], bias, self.stride, (top, left), self.dilation, self.groups)

    def to_onnx(self, form: OnnxForm) -> None:
        window: dict[str, Attribute] = {"kernel_shape": form.type(1).bounds[2:], "strides": self.stride}
        window |= {"pads": self.padding, "dilations": self.dilation, "group": self.groups}
        form.result("Conv", *form.inputs(), **window)

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        per_output = inputs[1].elements // inputs[1].bounds[0]
        return Cost(outputs[0].elements * per_output, sum(t.nbytes for t in (*inputs, *outputs)))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        if lowering.is_float(epilogue.output):
            from penjing.ops.f_conv2d import lower_conv2d

            lower_conv2d(lowering, node, (self.stride, self.padding, self.dilation, self.groups), epilogue)
            return
        x = lowering.placed(node.inputs[0], channels_last(4))
        bias = node.inputs[2] if len(node.inputs) > 2 else ""
        residual = None if epilogue.residual is None else lowering.placed(epilogue.residual, channels_last(4))
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        y = emit_convolution(lowering, x, (node.inputs[0], node.inputs[1], bias), geometry, epilogue, residual)
        lowering.define(epilogue.output, y, channels_last(4))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(1)

        def sample(op: "Conv2d", n: int, c: int, h: int, w: int, o: int, k: Pair, bias: bool = True) -> Sample:
            x = rng.normal(size=(n, c, h, w)).astype(np.float32)
            weight = rng.normal(size=(o, c // op.groups, *k)).astype(np.float32)
            b = rng.normal(size=o).astype(np.float32)
            return Sample(op, (x, weight, b) if bias else (x, weight), constant=(1, 2) if bias else (1,))

        yield sample(cls(), 2, 3, 5, 6, 4, (3, 3))
        yield sample(cls(padding=(1, 1, 1, 1)), 1, 1, 4, 4, 16, (3, 3), bias=False)
        yield sample(cls(stride=(2, 2), padding=(0, 0, 1, 1)), 1, 4, 7, 8, 5, (3, 3))
        yield sample(cls(stride=(2, 1), padding=(4, 1, 5, 2), dilation=(1, 2)), 1, 2, 9, 9, 3, (5, 2))
        yield sample(cls(groups=2, padding=(1, 1, 1, 1)), 2, 6, 4, 5, 4, (3, 3))
        yield sample(cls(groups=8, padding=(1, 1, 1, 1), stride=(2, 2)), 1, 8, 6, 5, 8, (3, 3))
        yield sample(cls(groups=3), 1, 3, 4, 4, 6, (1, 1))
        yield sample(cls(), 1, 17, 3, 3, 33, (1, 1))


def onnx_convolution(
    call: OnnxCall, axes: int
) -> tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], int, tuple[str, ...]]:
    """((stride, pads, dilation), groups, names of the inputs) of an ONNX convolution with so many spatial axes."""
    x, w = call.activation(0), call.weight(1)
    kernel = w.type.bounds[2:]
    call.require(len(kernel) == axes, f"a weight of rank {w.type.rank} on an input of rank {x.type.rank}")
    call.require(call.per_axis("kernel_shape", axes) == kernel or call.given("kernel_shape") is None, "kernel_shape")
    stride, dilation = call.per_axis("strides", axes), call.per_axis("dilations", axes)
    pads = onnx_pads(call, x.type.bounds[2:], kernel, stride, dilation)
    inputs = (x.name, w.name, *call.optional_weight(2))
    return (stride, pads, dilation), call.integer("group", 1), inputs


def torch_padding(call: TorchCall, kernel: Pair, dilation: Pair) -> Pads:
    """The `padding` argument of a torch convolution, which may also be 'same' or 'valid'."""
    padding = call.arguments["padding"]
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        top, left = total[0] // 2, total[1] // 2
        return (top, left, total[0] - top, total[1] - left)
    height, width = call.pair("padding")
    return (height, width, height, width)


def check_channels(channels: Extent, outputs: int, per_group: int, groups: int) -> None:
    """The channel rule that all convolutions share."""
    expect(groups >= 1, "groups must be at least 1")
    expect(channels == per_group * groups, f"{channels} channels, but weight and groups ask for {per_group * groups}")
    expect(outputs % groups == 0, f"{outputs} output channels do not divide into {groups} groups")


def convolution_coupling(inputs: tuple[Type | None, ...], y: Type, groups: int) -> Coupling:
    """What all convolutions with a weight (O, C / groups, ...) say of their channels.

    Groups of one channel go one by one, with all outputs they make. Larger ones stay, and each loses the same places:
    they share the weight's axis 1.
    """
    x, w = inputs[:2]
    assert x is not None and w is not None
    channels, made = alone(x.bounds[1]), alone(y.bounds[1])
    per_in, per_out = len(channels) // groups, len(made) // groups
    outward = [on_output(1, made), on_input(1, 0, made)]
    if len(inputs) > 2 and inputs[2] is not None:
        outward.append(on_input(2, 0, made))
    if per_in == 1 and groups > 1:
        by_group = (Axis(end.port, end.axis, end.labels // per_out) for end in outward)
        return Coupling(((on_input(0, 1, channels), *by_group),))
    by_place = tuple(Axis(end.port, end.axis, end.labels % per_out) for end in outward)
    return Coupling(((on_input(0, 1, channels % per_in), on_input(1, 1, alone(per_in))), by_place))


def groups_left(groups: int, inputs: tuple[Kept | None, ...]) -> int:
    """Groups of a convolution after channels are removed: larger groups stay, those of one channel go with it."""
    assert inputs[0] is not None
    return min(groups, len(inputs[0][1]))


def convolve(x: np.ndarray, w: np.ndarray, window: Window, groups: int, fill: int | float) -> np.ndarray:
    """x (N, H, W, C), w (O, KH, KW, C / groups) -> (N, OH, OW, O), tap by tap, in x's dtype."""
    output = window.output(x.shape[1], x.shape[2])
    y = np.zeros((x.shape[0], *output, w.shape[0]), dtype=x.dtype)
    per_in, per_out = x.shape[3] // groups, w.shape[0] // groups
    for ky, kx, view in window.taps(x, output, fill):
        if per_in == 1:
            y += np.repeat(view, per_out, axis=3) * w[:, ky, kx, 0]
            continue
        for g in range(groups):
            out = slice(g * per_out, (g + 1) * per_out)
            y[..., out] += view[..., g * per_in : (g + 1) * per_in] @ w[out, ky, kx].T
    return y


def windows(x: np.ndarray, window: Window, groups: int) -> np.ndarray:
    """x (N, H, W, C) -> (groups, N * OH * OW, C / groups * KH * KW), channel by channel as a weight has them."""
    output = window.output(x.shape[1], x.shape[2])
    taps = np.stack([view for _, _, view in window.taps(x, output, 0)], axis=-1)  # (N, OH, OW, C, taps)
    return np.moveaxis(taps.reshape(x.shape[0] * output[0] * output[1], groups, -1), 1, 0)


def exact_dtype(w: np.ndarray) -> type[np.float32] | type[np.float64]:
    """The float type in which sums of w[o] * (u8 - zero point) are exact in any order, for the sake of fast products.

    No partial sum is larger than 255 * sum |w[o]|. float32 holds every integer up to 2^24, float64 every int32.
    """
    largest = accumulator_bound(w, np.zeros(1))
    return np.float32 if largest <= 2**24 else np.float64


Geometry = tuple[Pair, Pads, Pair, int]


def emit_convolution(
    lowering: Lowering,
    x: str,
    names: tuple[str, str, str],
    geometry: Geometry,
    epilogue: Epilogue,
    residual: str | None,
) -> str:
    """Emit q_conv2d or q_depthwise for placed `x` and the network's (input, weight, bias) names; returns the output.

    The weight constant has shape (O, C / groups, KH, KW), or (O, C / groups, K) for one dimension.
    """
    from penjing.ops.depthwise import QDepthwise

    value, weight, bias = names
    stride, padding, dilation, groups = geometry
    constant = lowering.graph.constants[weight]
    w = constant.array if constant.array.ndim == 4 else constant.array[:, :, None, :]
    assert constant.quant is not None
    target = lowering.quant(epilogue.output)
    m = multiplier(lowering.quant(value).scale, constant.quant.scale_array(), target.scale)
    b = lowering.graph.constants[bias].array if bias else np.zeros(w.shape[0], np.int32)
    qmin, qmax = lowering.clamp_codes(epilogue)
    common = (lowering.quant(value).zero_point, target.zero_point, qmin, qmax)
    inputs = (lowering.constant(f"{weight}.bias", b), lowering.constant(f"{weight}.multiplier", m))
    if groups == w.shape[0] == groups * w.shape[1] and residual is None:
        taps = lowering.constant(weight, np.ascontiguousarray(w[:, 0].transpose(1, 2, 0)))
        op: IntegerOperator = QDepthwise(stride, padding, dilation, *common)
        return lowering.emit(op, (x, taps, *inputs), epilogue.output, target)
    packed = lowering.constant(weight, np.ascontiguousarray(w.transpose(0, 2, 3, 1)))
    if residual is None:
        op = QConv2d(stride, padding, dilation, groups, *common)
        return lowering.emit(op, (x, packed, *inputs), epilogue.output, target)
    assert epilogue.residual is not None
    source = lowering.quant(epilogue.residual)
    op = QConv2d(stride, padding, dilation, groups, *common, ratio(source.scale, target.scale), source.zero_point)
    return lowering.emit(op, (x, packed, *inputs, residual), epilogue.output, target)


@dataclass(frozen=True)
class QConv2d(IntegerOperator):
    """x u8 (N, H, W, C), w s8 (O, KH, KW, C / groups), bias s32 (O), multiplier f32 (O), [residual u8 like y]."""

    name = "q_conv2d"

    stride: Pair
    padding: Pads
    dilation: Pair
    groups: int
    x_zero: int
    y_zero: int
    qmin: int
    qmax: int
    residual_scale: float = 0.0
    residual_zero: int = 0

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w, bias, m = inputs[:4]
        expect(x.rank == 4 and w.rank == 4, "q_conv2d needs x and weight of rank 4")
        check_channels(x.shape[3], w.bounds[0], w.bounds[3], self.groups)
        check_requantize(x, w, bias, m, w.bounds[0])
        y = Type((x.shape[0], *self._window(w.bounds).extents(x.shape[1], x.shape[2]), w.shape[0]), DType.U8)
        if len(inputs) > 4:
            expect((inputs[4].shape, inputs[4].dtype) == (y.shape, DType.U8), "the residual must look like the output")
        return (y,)

    def _window(self, w: tuple[int, ...]) -> Window:
        return Window((w[1], w[2]), self.stride, self.padding, self.dilation)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w, bias, m = inputs[:4]
        dtype = exact_dtype(w)
        centred = x.astype(dtype) - dtype(self.x_zero)
        acc = convolve(centred, w.astype(dtype), self._window(w.shape), self.groups, 0).astype(np.int32) + bias
        value = acc.astype(np.float32) * m
        if len(inputs) > 4:
            residual = (inputs[4].astype(np.int32) - self.residual_zero).astype(np.float32)
            value = value + residual * np.float32(self.residual_scale)
        return (round_clamped(value, self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        _, ih, iw, ic = inputs[0].bounds
        oc, kh, kw, _ = inputs[1].bounds
        n, oh, ow, _ = outputs[0].bounds
        return {
            **{"n": n, "ih": ih, "iw": iw, "ic": ic, "oh": oh, "ow": ow, "oc": oc, "kh": kh, "kw": kw},
            **window_params(self.stride, self.padding, self.dilation),
            "groups": self.groups,
            **requantize_params(self.x_zero, self.y_zero, self.qmin, self.qmax),
            "has_residual": int(len(inputs) > 4),
            "residual_zero": self.residual_zero,
            "residual_scale": self.residual_scale,
        }

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return 2 * 2 * (inputs[1].elements // inputs[1].bounds[0])  # the windows of two pixels, in 16 bits

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        per_output = inputs[1].elements // inputs[1].bounds[0]
        return Cost(outputs[0].elements * per_output, sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from conv_samples(cls)


def check_requantize(x: Type, w: Type, bias: Type, m: Type, channels: int) -> None:
    """The dtype rule of every operator that accumulates u8 * s8 and requantizes per channel."""
    expect((x.dtype, w.dtype, bias.dtype, m.dtype) == (DType.U8, DType.S8, DType.S32, DType.F32), "dtypes do not fit")
    expect(bias.bounds == m.bounds == (channels,), f"bias and multiplier must have {channels} elements")


def window_params(stride: Pair, padding: Pads, dilation: Pair) -> dict[str, Param]:
    """Window fields of a kernel's struct. Bottom and right pads follow from the output size."""
    return {
        **{"stride_h": stride[0], "stride_w": stride[1], "pad_top": padding[0], "pad_left": padding[1]},
        **{"dilation_h": dilation[0], "dilation_w": dilation[1]},
    }


def requantize_params(x_zero: int, y_zero: int, qmin: int, qmax: int) -> dict[str, Param]:
    """Quantization fields of a kernel's struct; the clamp is in steps around the zero point, in float."""
    return {"x_zero": x_zero, "y_zero": y_zero, "low": float(qmin - y_zero), "high": float(qmax - y_zero)}
