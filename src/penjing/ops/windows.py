"""Sliding windows over channels-last arrays, shared by convolutions and pools."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from penjing.ir.types import Extent, bound, is_length
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.operator import expect

_MOST_EARLY = 2**16

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, left, bottom, right


@dataclass(frozen=True)
class Window:
    """Geometry of a 2-D window: (height, width) pairs, pads as (top, left, bottom, right)."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)

    def check(self) -> None:
        """Raise InvalidGraph on a geometry that makes no sense."""
        expect(min(*self.kernel, *self.stride, *self.dilation) >= 1, "kernel, stride and dilation must be at least 1")
        expect(min(self.padding) >= 0, "padding must not be negative")

    def output(self, height: Extent, width: Extent, *, ceil: bool = False) -> Pair:
        """Output (height, width); with `ceil`, a last window may hang over the end but must start inside it."""
        self.check()
        sizes = []
        for axis, extent in enumerate((bound(height), bound(width))):
            before, after = self.padding[axis], self.padding[axis + 2]
            reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
            room = extent + before + after - reach
            expect(room >= 0, f"a window of {reach} does not fit into {extent} with padding {before}+{after}")
            stride = self.stride[axis]
            size = (room + stride - 1 if ceil else room) // stride + 1
            if ceil and (size - 1) * stride >= extent + before:
                size -= 1
            sizes.append(size)
        return sizes[0], sizes[1]

    def extents(self, height: Extent, width: Extent) -> tuple[int, Extent]:
        """As `output`; a width that is the length of a sequence stays it where there are as many windows as steps."""
        down, across = self.output(height, width)
        kept = is_length(width) and self.stride[1] == 1 and across == bound(width)
        return down, width if kept else across

    def meets(self, extents: Pair, output: Pair) -> bool:
        """Whether every window of `output` sees at least one element of an input of (height, width) `extents`.

        The numbers may come from a hostile program: memory and time do not grow with them.
        """
        return all(self._meets(axis, extents[axis], output[axis]) for axis in (0, 1))

    def _meets(self, axis: int, extent: int, size: int) -> bool:
        kernel, stride, dilation = self.kernel[axis], self.stride[axis], self.dilation[axis]
        last = (size - 1) * stride - self.padding[axis]
        early = range(-self.padding[axis], min(last + 1, 0), stride)  # starts of the windows that begin in the padding
        if last >= extent or len(early) > _MOST_EARLY:
            return False
        # the first tap that is not before the input is the -(start // dilation)-th, and lies at start % dilation
        return all(start % dilation < extent and -(start // dilation) < kernel for start in early)

    def taps(self, x: np.ndarray, output: Pair, fill: int | float) -> Iterator[tuple[int, int, np.ndarray]]:
        """For each (ky, kx), the view of x (N, H, W, C), padded by `fill`, that the tap sees: (N, OH, OW, C)."""
        padded = self.pad(x, output, fill)
        for ky in range(self.kernel[0]):
            for kx in range(self.kernel[1]):
                y0, x0 = ky * self.dilation[0], kx * self.dilation[1]
                rows = slice(y0, y0 + (output[0] - 1) * self.stride[0] + 1, self.stride[0])
                columns = slice(x0, x0 + (output[1] - 1) * self.stride[1] + 1, self.stride[1])
                yield ky, kx, padded[:, rows, columns]

    def pad(self, x: np.ndarray, output: Pair, fill: int | float) -> np.ndarray:
        """x (N, H, W, C) with pads, and as much below and right as the last window of `output` reaches."""
        top, left, _, _ = self.padding
        need = [
            (o - 1) * s + d * (k - 1) + 1
            for o, s, d, k in zip(output, self.stride, self.dilation, self.kernel, strict=True)
        ]
        below = max(0, need[0] - top - x.shape[1])
        right = max(0, need[1] - left - x.shape[2])
        return np.pad(x, ((0, 0), (top, below), (left, right), (0, 0)), constant_values=fill)


def onnx_pads(
    call: OnnxCall,
    extents: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """Pads of an ONNX window before every spatial axis, then behind every one; `auto_pad` is worked out."""
    count, mode = len(kernel), call.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = call.per_axis("pads", 2 * count, 0)
        call.require(min(pads) >= 0, f"negative pads {pads}")
        return pads
    if mode == "VALID":
        return (0,) * (2 * count)
    call.require(mode in ("SAME_UPPER", "SAME_LOWER"), f"auto_pad = {mode!r}")
    call.require(min(stride) >= 1, f"strides {stride}")
    less, more = [], []
    for extent, k, s, d in zip(extents, kernel, stride, dilation, strict=True):
        total = max((-(-extent // s) - 1) * s + d * (k - 1) + 1 - extent, 0)
        less.append(total // 2)
        more.append(total - total // 2)
    return (*less, *more) if mode == "SAME_UPPER" else (*more, *less)
