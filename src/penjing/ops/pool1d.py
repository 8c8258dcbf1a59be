"""Pooling over windows of sequences (N, C, L): as pool2d, on images of height 1."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import ratio
from penjing.ir.graph import Node
from penjing.ir.types import Type
from penjing.ops.as_images import emit_as_image
from penjing.ops.coupling import Coupling, kept_axes
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.onnx_pools import onnx_avg_pool, onnx_max_pool
from penjing.ops.operator import Operator, QuantRule, Sample, expect
from penjing.ops.pool2d import AvgPool2d, MaxPool2d, QAvgPool2d, QMaxPool2d, onnx_pool
from penjing.ops.torch_call import Imported, TorchCall
from penjing.ops.windows import Window

Ends = tuple[int, int]  # padding before and after


class _Pool1d(Operator):
    """Input (N, C, L), output (N, C, OL)."""

    def _image(self) -> MaxPool2d | AvgPool2d:
        """The same pool on images of height 1."""
        raise NotImplementedError

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x = inputs[0]
        expect(x.rank == 3, f"a 1-D pool needs rank 3, not {x.rank}")
        (y,) = self._image().infer(Type((*x.shape[:2], 1, x.shape[2])))
        return (Type((*y.shape[:2], y.shape[3])),)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x = inputs[0]
        assert x is not None
        return Coupling(kept_axes(x, outputs[0], [1]))

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        (y,) = self._image().float_reference(inputs[0][:, :, None])
        return (y[:, :, 0],)


@dataclass(frozen=True)
class MaxPool1d(_Pool1d):
    """Input (N, C, L), output (N, C, OL); padding as (before, after)."""

    name = "max_pool1d"
    torch = ("aten.max_pool1d.default",)
    onnx = ("MaxPool",)
    onnx_rank = 3
    quant_rule = QuantRule.SAME

    kernel: int
    stride: int
    padding: Ends = (0, 0)
    dilation: int = 1
    ceil: bool = False

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        kernel, stride, padding = _torch_window(call)
        op = cls(kernel, stride, padding, call.integers("dilation")[0], call.flag("ceil_mode"))
        return Imported(op, (call.ref("self").name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        (kernel,), (stride,), (before, after), (dilation,) = onnx_pool(call, 1)
        op = cls(kernel, stride, (before, after), dilation, call.flag("ceil_mode"))
        return Imported(op, (call.activation(0).name,))

    def _image(self) -> MaxPool2d:
        padding = (0, self.padding[0], 0, self.padding[1])
        return MaxPool2d((1, self.kernel), (1, self.stride), padding, (1, self.dilation), self.ceil)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        functional = torch.nn.functional
        x, padding = inputs[0], self.padding[0]
        if self.padding[0] != self.padding[1]:
            x, padding = functional.pad(x, self.padding, value=-float("inf")), 0
        return functional.max_pool1d(x, self.kernel, self.stride, padding, self.dilation, self.ceil)

    def to_onnx(self, form: OnnxForm) -> None:
        image = self._image()
        window = Window(image.kernel, image.stride, image.padding, image.dilation)
        onnx_max_pool(form, window, ceil=self.ceil)

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        image = self._image()
        op = QMaxPool2d(image.kernel, image.stride, image.padding, image.dilation, image.ceil)
        emit_as_image(lowering, node.inputs[0], op, epilogue)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.random.default_rng(27).normal(size=(2, 3, 10)).astype(np.float32)
        yield Sample(cls(2, 2), (x,))
        yield Sample(cls(3, 2, (1, 1)), (x,))
        yield Sample(cls(2, 1, (1, 0), 2), (x,))
        yield Sample(cls(3, 2, ceil=True), (x,))


@dataclass(frozen=True)
class AvgPool1d(_Pool1d):
    """Input (N, C, L), output (N, C, OL); padding as (before, after), counted as elements if `count_padding`."""

    name = "avg_pool1d"
    torch = ("aten.avg_pool1d.default",)
    onnx = ("AveragePool",)
    onnx_rank = 3

    kernel: int
    stride: int
    padding: Ends = (0, 0)
    ceil: bool = False
    count_padding: bool = True

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        op = cls(*_torch_window(call), call.flag("ceil_mode"), call.flag("count_include_pad"))
        return Imported(op, (call.ref("self").name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        (kernel,), (stride,), (before, after), (dilation,) = onnx_pool(call, 1)
        call.require(dilation == 1, f"dilations {dilation}")
        op = cls(kernel, stride, (before, after), call.flag("ceil_mode"), call.flag("count_include_pad"))
        return Imported(op, (call.activation(0).name,))

    def _image(self) -> AvgPool2d:
        padding = (0, self.padding[0], 0, self.padding[1])
        return AvgPool2d((1, self.kernel), (1, self.stride), padding, self.ceil, self.count_padding)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        # on the image, whose torch form knows what uneven pads do to the count
        return self._image().torch_form(torch, inputs[0][:, :, None])[:, :, 0]

    def to_onnx(self, form: OnnxForm) -> None:
        image = self._image()
        window = Window(image.kernel, image.stride, image.padding)
        onnx_avg_pool(form, window, ceil=self.ceil, count_padding=self.count_padding)

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        image = self._image()
        source, target = lowering.quant(node.inputs[0]), lowering.quant(epilogue.output)
        shape = (image.kernel, image.stride, image.padding, image.ceil, image.count_padding)
        scale = ratio(source.scale, target.scale)
        op = QAvgPool2d(*shape, source.zero_point, scale, target.zero_point, *lowering.clamp_codes(epilogue))
        emit_as_image(lowering, node.inputs[0], op, epilogue)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.random.default_rng(28).normal(size=(2, 3, 10)).astype(np.float32)
        yield Sample(cls(2, 2), (x,))
        for count_padding in (True, False):
            yield Sample(cls(3, 2, (1, 1), count_padding=count_padding), (x,))
            yield Sample(cls(4, 3, (2, 2), ceil=True, count_padding=count_padding), (x,))


def _torch_window(call: TorchCall) -> tuple[int, int, Ends]:
    kernel = call.integers("kernel_size")[0]
    stride = call.integers("stride")[0] if call.arguments.get("stride") else kernel
    padding = call.integers("padding")[0]
    return kernel, stride, (padding, padding)
