"""A convolution in float32 (see `f_sums`), on channels-last images:

    y[n, i, j, o] = clamp(acc + b[o])
    acc = sum over ky, kx, c of x[n, i*sh + ky*dh - top, j*sw + kx*dw - left, c] * w[ky, kx, c, o]

c runs over the channels of o's group; padding holds 0.
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.as_images import as_image
from penjing.ops.conv2d import Geometry, check_channels, window_params
from penjing.ops.f_add import FAdd
from penjing.ops.f_sums import LARGEST, check_floats, clamp_params, clamped, finite_ends, overflowing, summands
from penjing.ops.linear import float_bias
from penjing.ops.lowering import Epilogue, Lowering, channels_last
from penjing.ops.operator import Cost, IntegerOperator, Param, Sample, expect
from penjing.ops.windows import Pads, Pair, Window


def lower_conv2d(lowering: Lowering, node: Node, geometry: Geometry, epilogue: Epilogue) -> None:
    """Emit a convolution of images in float32, and behind it the addition that an integer one does in passing."""
    order, ends = channels_last(4), finite_ends(epilogue.low, epilogue.high)
    x, weight = lowering.floats(node.inputs[0], order), lowering.graph.constants[node.inputs[1]].array
    if epilogue.residual is None:
        op, inputs = _convolution(lowering, node, x, weight, geometry, ends)
        lowering.finish_floats(epilogue, op, inputs, order)
        return
    residual = lowering.floats(epilogue.residual, order)
    op, inputs = _convolution(lowering, node, x, weight, geometry, (-LARGEST, LARGEST))
    y = lowering.emit(op, inputs, f"{node.output}.float", None)
    lowering.finish_floats(epilogue, FAdd(1.0, *ends), (y, residual), order)


def lower_conv1d(lowering: Lowering, node: Node, geometry: Geometry, epilogue: Epilogue) -> None:
    """The same of sequences (N, C, L), as images of height 1."""
    order, weight = channels_last(3), lowering.graph.constants[node.inputs[1]].array
    line = lowering.floats(node.inputs[0], order)
    image = lowering.reshape(line, as_image(lowering.program.types[line].shape))
    ends = finite_ends(epilogue.low, epilogue.high)
    op, inputs = _convolution(lowering, node, image, weight[:, :, None], geometry, ends)
    y = lowering.emit(op, inputs, f"{epilogue.output}.float", None)
    n, _, length, c = lowering.program.types[y].shape
    lowering.define_floats(epilogue.output, lowering.reshape(y, (n, length, c)), order)


def _convolution(
    lowering: Lowering, node: Node, x: str, weight: np.ndarray, geometry: Geometry, ends: tuple[float, float]
) -> tuple[IntegerOperator, tuple[str, str, str]]:
    """The operator and its inputs, for a weight (O, C / groups, KH, KW)."""
    packed = lowering.constant(node.inputs[1], np.ascontiguousarray(weight.transpose(2, 3, 1, 0)))
    return FConv2d(*geometry, *ends), (x, packed, float_bias(lowering, node, weight.shape[0]))


@dataclass(frozen=True)
class FConv2d(IntegerOperator):
    """x f32 (N, H, W, C), w f32 (KH, KW, C / groups, O), bias f32 (O); output f32 (N, OH, OW, O)."""

    name = "f_conv2d"

    stride: Pair
    padding: Pads
    dilation: Pair
    groups: int
    low: float
    high: float

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w, bias = inputs
        check_floats(*inputs)
        expect(x.rank == 4 and w.rank == 4, "f_conv2d needs x and weight of rank 4")
        check_channels(x.shape[3], w.bounds[3], w.bounds[2], self.groups)
        expect(bias.bounds == w.bounds[3:], f"bias must have {w.bounds[3]} elements")
        return (Type((x.shape[0], *self._window(w.bounds).output(x.shape[1], x.shape[2]), w.shape[3]), DType.F32),)

    def _window(self, w: tuple[int, ...]) -> Window:
        return Window((w[0], w[1]), self.stride, self.padding, self.dilation)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w, bias = inputs
        window, per_out = self._window(w.shape), w.shape[3] // self.groups
        output = window.output(x.shape[1], x.shape[2])
        acc = np.zeros((x.shape[0], *output, w.shape[3]), np.float32)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            for ky, kx, view in window.taps(x, output, 0):
                by_group = view.reshape(*view.shape[:3], self.groups, w.shape[2])
                for c in range(w.shape[2]):
                    seen = by_group[..., c]
                    acc += (seen if self.groups == 1 else np.repeat(seen, per_out, axis=3)) * w[ky, kx, c]
            return (clamped(acc + bias, self.low, self.high),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        _, ih, iw, ic = inputs[0].bounds
        kh, kw, _, oc = inputs[1].bounds
        n, oh, ow, _ = outputs[0].bounds
        return {
            **{"n": n, "ih": ih, "iw": iw, "ic": ic, "oh": oh, "ow": ow, "oc": oc, "kh": kh, "kw": kw},
            **window_params(self.stride, self.padding, self.dilation),
            "groups": self.groups,
            **clamp_params(self.low, self.high),
        }

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        per_output = inputs[1].elements // inputs[1].bounds[3]
        return Cost(outputs[0].elements * per_output, sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(94)
        around = (1, 1, 1, 1)

        def sample(
            x: tuple[int, int, int, int],
            w: tuple[int, int, int, int],
            geometry: tuple[Pair, Pads, Pair, int] = ((1, 1), around, (1, 1), 1),
            ends: Pair | tuple[float, float] = (-LARGEST, LARGEST),
        ) -> Sample:
            arrays = (summands(rng, x), summands(rng, w), summands(rng, (w[3],)))
            return Sample(cls(*geometry, *ends), arrays, constant=(1, 2))

        for channels in (1, 2, 5, 16, 17):
            yield sample((1, 4, 3, channels), (3, 3, channels, 5), ends=(0.0, LARGEST))
        for outputs in (1, 2, 15, 16, 17, 33):
            yield sample((2, 3, 4, 3), (3, 3, 3, outputs), ends=(-0.5, 6.0))
        for width in (1, 2, 7, 8):  # windows that reach over both sides
            yield sample((1, 2, width, 2), (3, 3, 2, 3))
        yield sample((2, 7, 8, 3), (3, 3, 3, 4), ((2, 2), around, (1, 1), 1))
        yield sample((1, 9, 9, 3), (5, 2, 3, 4), ((2, 1), (4, 1, 5, 2), (1, 2), 1))
        yield sample((1, 9, 10, 2), (3, 2, 2, 3), ((1, 1), (2, 0, 2, 3), (2, 3), 1))
        yield sample((1, 4, 5, 6), (3, 3, 3, 4), ((1, 1), around, (1, 1), 2))
        yield sample((2, 4, 5, 8), (2, 3, 2, 68), ((1, 2), around, (2, 1), 4))
        yield sample((1, 3, 3, 3), (1, 1, 1, 6), ((1, 1), (0, 0, 0, 0), (1, 1), 3))
        for channels in (2, 8, 16, 17, 35):  # every channel has its own window
            yield sample((2, 5, 4, channels), (3, 3, 1, channels), ((1, 1), around, (1, 1), channels), (0.0, 6.0))
        yield sample((1, 6, 7, 4), (3, 2, 1, 4), ((2, 3), (2, 1, 0, 2), (2, 1), 4))
        for x in overflowing((1, 2, 2, 8)):
            w = np.linspace(0.5, 2, 4 * 8 * 17).reshape(2, 2, 8, 17).astype(np.float32)
            yield Sample(
                cls((1, 1), around, (1, 1), 1, -3.0, LARGEST), (x, w, np.ones(17, np.float32)), constant=(1, 2)
            )
