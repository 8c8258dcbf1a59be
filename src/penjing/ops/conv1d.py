"""Convolution along one axis:

    y[n, o, i] = b[o] + sum over c, k of w[o, c, k] * x[n, c, i*stride + k*dilation - before]

It is a 2-D convolution over an image of height 1 (see conv2d), and becomes that integer operator.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from penjing.ir.graph import Node
from penjing.ir.types import Type
from penjing.ops.as_images import as_image
from penjing.ops.conv2d import (
    check_channels,
    convolution_coupling,
    convolve,
    emit_convolution,
    groups_left,
    onnx_convolution,
    torch_padding,
    windows,
)
from penjing.ops.coupling import Coupling, Kept
from penjing.ops.lowering import Epilogue, Lowering, channels_last
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import Attribute, OnnxForm
from penjing.ops.operator import Cost, FloatRule, Operator, Sample, expect
from penjing.ops.torch_call import Imported, TorchCall
from penjing.ops.windows import Pair, Window


@dataclass(frozen=True)
class Conv1d(Operator):
    """Inputs x (N, C, L), weight (O, C / groups, K), optional bias (O); output (N, O, OL)."""

    name = "conv1d"
    torch = ("aten.conv1d.default", "aten.conv1d.padding")
    onnx = ("Conv",)
    onnx_rank = 3
    weight_input = 1
    bias_input = 2
    float_rule = FloatRule.KEPT

    stride: int = 1
    padding: Pair = (0, 0)
    dilation: int = 1
    groups: int = 1

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        stride, dilation = call.pair("stride")[1], call.pair("dilation")[1]
        _, before, _, after = torch_padding(call, (1, call.ref("weight").type.bounds[2]), (1, dilation))
        inputs = (call.ref("input").name, call.ref("weight").name, call.optional("bias"))
        op = cls(stride, (before, after), dilation, call.integer("groups"))
        return Imported(op, inputs if inputs[2] else inputs[:2])

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        ((stride,), (before, after), (dilation,)), groups, inputs = onnx_convolution(call, 1)
        return Imported(cls(stride, (before, after), dilation, groups), inputs)

    def _window(self, kernel: int) -> Window:
        before, after = self.padding
        return Window((1, kernel), (1, self.stride), (0, before, 0, after), (1, self.dilation))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w = inputs[0], inputs[1]
        expect(x.rank == 3 and w.rank == 3, f"conv1d needs x and weight of rank 3, not {x.rank} and {w.rank}")
        check_channels(x.shape[1], w.bounds[0], w.bounds[1], self.groups)
        if len(inputs) > 2:
            expect(inputs[2].bounds == w.bounds[:1], f"bias of shape {inputs[2].bounds} for {w.bounds[0]} channels")
        _, length = self._window(w.bounds[2]).extents(1, x.shape[2])
        return (Type((x.shape[0], w.shape[0], length)),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w = (np.moveaxis(array, 1, -1)[:, None] for array in inputs[:2])  # (N, 1, L, C), (O, 1, K, C / groups)
        y = convolve(x, w, self._window(w.shape[2]), self.groups, 0)[:, 0]
        y = y + inputs[2] if len(inputs) > 2 and inputs[2] is not None else y
        return (np.ascontiguousarray(np.moveaxis(y, -1, 1)),)

    def weight_operands(self, *inputs: Any) -> np.ndarray | None:
        x = np.moveaxis(inputs[0], 1, -1)[:, None]
        return windows(x, self._window(inputs[1].shape[2]), self.groups)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        return convolution_coupling(inputs, outputs[0], self.groups)

    def shrunk(self, inputs: tuple[Kept | None, ...], outputs: tuple[Kept, ...]) -> "Conv1d":
        return replace(self, groups=groups_left(self.groups, inputs))

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x, *rest = inputs
        x = torch.nn.functional.pad(x, self.padding) if any(self.padding) else x
        bias = rest[1] if len(rest) > 1 else None
        return torch.nn.functional.conv1d(x, rest[0], bias, self.stride, 0, self.dilation, self.groups)

    def to_onnx(self, form: OnnxForm) -> None:
        window: dict[str, Attribute] = {"kernel_shape": form.type(1).bounds[2:], "strides": (self.stride,)}
        window |= {"pads": self.padding, "dilations": (self.dilation,), "group": self.groups}
        form.result("Conv", *form.inputs(), **window)

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        per_output = inputs[1].elements // inputs[1].bounds[0]
        return Cost(outputs[0].elements * per_output, sum(t.nbytes for t in (*inputs, *outputs)))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value, weight = node.inputs[:2]
        bias = node.inputs[2] if len(node.inputs) > 2 else ""
        window = self._window(lowering.graph.types[weight].bounds[2])
        geometry = (window.stride, window.padding, window.dilation, self.groups)
        if lowering.is_float(epilogue.output):
            from penjing.ops.f_conv2d import lower_conv1d

            lower_conv1d(lowering, node, geometry, epilogue)
            return
        image = line_as_image(lowering, value)
        y = emit_convolution(lowering, image, (value, weight, bias), geometry, epilogue, None)
        define_line(lowering, epilogue.output, y)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(40)

        def sample(op: "Conv1d", n: int, c: int, length: int, o: int, k: int, bias: bool = True) -> Sample:
            x = rng.normal(size=(n, c, length)).astype(np.float32)
            weight = rng.normal(size=(o, c // op.groups, k)).astype(np.float32)
            b = rng.normal(size=o).astype(np.float32)
            return Sample(op, (x, weight, b) if bias else (x, weight), constant=(1, 2) if bias else (1,))

        yield sample(cls(), 2, 3, 9, 4, 3)
        yield sample(cls(stride=2, padding=(2, 1), dilation=2), 1, 4, 17, 5, 4, bias=False)
        yield sample(cls(padding=(1, 1), groups=6), 1, 6, 8, 6, 3)
        yield sample(cls(padding=(0, 3), groups=2), 2, 4, 7, 6, 1)


def line_as_image(lowering: Lowering, value: str) -> str:
    """The program value that holds `value` (N, C, L) as an image (N, 1, L, C)."""
    line = lowering.placed(value, channels_last(3))
    return lowering.reshape(line, as_image(lowering.program.types[line].shape))


def define_line(lowering: Lowering, value: str, image: str) -> None:
    """Record that the image (N, 1, L, C) holds network value `value` (N, C, L)."""
    n, _, length, c = lowering.program.types[image].shape
    lowering.define(value, lowering.reshape(image, (n, length, c)), channels_last(3))
