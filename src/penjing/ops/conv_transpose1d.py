"""Transposed convolution along one axis: conv_transpose2d over an image of height 1, and lowered as that."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from penjing.ir.graph import Node
from penjing.ir.types import Type
from penjing.ops.conv1d import define_line, line_as_image
from penjing.ops.conv2d import groups_left
from penjing.ops.conv_transpose2d import (
    Spread,
    by_output,
    check_transposed,
    emit_transposed,
    onnx_transposed,
    transposed_coupling,
)
from penjing.ops.coupling import Coupling, Kept
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.onnx_transposed import onnx_conv_transpose
from penjing.ops.operator import Cost, Operator, Sample
from penjing.ops.torch_call import Imported, TorchCall
from penjing.ops.windows import Pair


@dataclass(frozen=True)
class ConvTranspose1d(Operator):
    """Inputs x (N, C, L), weight (C, O / groups, K), optional bias (O); output (N, O, OL)."""

    name = "conv_transpose1d"
    torch = ("aten.conv_transpose1d.default",)
    onnx = ("ConvTranspose",)
    onnx_rank = 3
    weight_input = 1
    weight_axis = 1
    bias_input = 2

    stride: int = 1
    padding: Pair = (0, 0)
    output_padding: int = 0
    dilation: int = 1
    groups: int = 1

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        stride, output_padding = call.pair("stride")[0], call.pair("output_padding")[0]
        op = cls(stride, call.pair("padding"), output_padding, call.pair("dilation")[0], call.integer("groups"))
        inputs = (call.ref("input").name, call.ref("weight").name, call.optional("bias"))
        return Imported(op, inputs if inputs[2] else inputs[:2])

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        ((stride,), (before, after), (behind,), (dilation,)), groups, inputs = onnx_transposed(call, 1)
        return Imported(cls(stride, (before, after), behind, dilation, groups), inputs)

    def _spread(self, kernel: int) -> Spread:
        before, after = self.padding
        return Spread(
            (1, kernel), (1, self.stride), (0, before, 0, after), (0, self.output_padding), (1, self.dilation)
        )

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        outputs = check_transposed(inputs, 3, self.groups)
        _, length = self._spread(inputs[1].bounds[2]).output(1, inputs[0].shape[2])
        return (Type((inputs[0].shape[0], outputs, length)),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w = np.moveaxis(inputs[0], 1, -1)[:, None], by_output(inputs[1][:, :, None], self.groups)
        y = self._spread(w.shape[2]).apply(x, w, self.groups)[:, 0]
        y = y + inputs[2] if len(inputs) > 2 and inputs[2] is not None else y
        return (np.ascontiguousarray(np.moveaxis(y, -1, 1)),)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        return transposed_coupling(inputs, outputs[0], self.groups)

    def shrunk(self, inputs: tuple[Kept | None, ...], outputs: tuple[Kept, ...]) -> "ConvTranspose1d":
        return replace(self, groups=groups_left(self.groups, inputs))

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        # pads may differ on both sides here, which torch cannot say: cut them off the uncut output
        x, w = inputs[:2]
        before, after = self.padding
        _, length = self._spread(w.shape[2]).output(1, x.shape[2])
        bias = inputs[2] if len(inputs) > 2 else None
        behind = max(0, self.output_padding - after)
        y = torch.nn.functional.conv_transpose1d(x, w, bias, self.stride, 0, behind, self.groups, self.dilation)
        return y[:, :, before : before + length]

    def to_onnx(self, form: OnnxForm) -> None:
        before, after = self.padding
        padding = (self.output_padding,)
        onnx_conv_transpose(form, (self.stride,), ((before,), (after,)), padding, (self.dilation,), self.groups)

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        x, w = inputs[:2]
        pixels = x.elements // x.bounds[1]
        return Cost(pixels * w.elements, sum(t.nbytes for t in (*inputs, *outputs)))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        spread = self._spread(lowering.graph.types[node.inputs[1]].bounds[2])
        x = line_as_image(lowering, node.inputs[0])
        define_line(lowering, epilogue.output, emit_transposed(lowering, x, node, spread, self.groups, epilogue))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(43)
        cases = (
            (cls(), (2, 3, 5), 4, 3),
            (cls(stride=2, padding=(1, 1), output_padding=1), (1, 4, 6), 3, 3),
            (cls(stride=3, padding=(0, 2), output_padding=2, dilation=2, groups=2), (1, 4, 5), 6, 4),
        )
        for op, shape, outputs, kernel in cases:
            w = (shape[1], outputs // op.groups, kernel)
            x, weight, bias = (rng.normal(size=s).astype(np.float32) for s in (shape, w, (outputs,)))
            yield Sample(op, (x, weight, bias), constant=(1, 2))
        yield Sample(op, (x, weight), constant=(1,))
