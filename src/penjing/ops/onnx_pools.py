"""Pools over windows in ONNX.

Which windows there are is said by pads alone, never by `ceil_mode`: engines have disagreed on its last window and on
what it divides by. A window that hangs over the end gets pads there. For a mean, elements of the input count, and pads
that are to count become zeros of the input before.
"""

import numpy as np

from penjing.ops.onnx_nodes import Attribute, OnnxForm
from penjing.ops.windows import Pads, Window


def onnx_max_pool(form: OnnxForm, window: Window, *, ceil: bool) -> None:
    """Write the node as MaxPool; of a line (N, C, L), `window` is that of an image of height 1."""
    pads = _with_overhang(form, window, ceil=ceil)
    axes = _axes(form)
    x = form.input(0)
    if any(pad >= window.kernel[i % 2] for i, pad in enumerate(pads)):  # ONNX Runtime refuses them, dilated or not
        x = _padded(form, x, pads, axes, form.floats("lowest", -np.inf))
        pads = (0, 0, 0, 0)
    form.result("MaxPool", x, **_shape(window, pads, axes), dilations=_of(window.dilation, axes))


def onnx_avg_pool(form: OnnxForm, window: Window, *, ceil: bool, count_padding: bool) -> None:
    """Write the node as AveragePool, arguments as above."""
    pads = _with_overhang(form, window, ceil=ceil)
    axes = _axes(form)
    x = form.input(0)
    if count_padding and pads != window.padding:
        x = _padded(form, x, window.padding, axes)
        pads = (0, 0, pads[2] - window.padding[2], pads[3] - window.padding[3])
        count_padding = False
    form.result("AveragePool", x, **_shape(window, pads, axes), count_include_pad=int(count_padding))


def _padded(form: OnnxForm, x: str, pads: Pads, axes: tuple[int, ...], *value: str) -> str:
    ends = form.integers("pads", (0, 0, *_of(pads[:2], axes), 0, 0, *_of(pads[2:], axes)))
    return form.node("Pad", x, ends, *value, mode="constant")


def _axes(form: OnnxForm) -> tuple[int, ...]:
    """Those of (height, width) that the input has."""
    return (0, 1) if form.type(0).rank == 4 else (1,)


def _of(pair: tuple[int, int], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(pair[axis] for axis in axes)


def _shape(window: Window, pads: Pads, axes: tuple[int, ...]) -> dict[str, Attribute]:
    return {
        "kernel_shape": _of(window.kernel, axes),
        "strides": _of(window.stride, axes),
        "pads": _of(pads[:2], axes) + _of(pads[2:], axes),
    }


def _with_overhang(form: OnnxForm, window: Window, *, ceil: bool) -> Pads:
    """The pads, with as much more at the end as the last window reaches beyond them."""
    if not ceil:
        return window.padding
    *_, height, width = (1, *form.type(0).bounds[2:])
    ends = []
    for axis, (extent, count) in enumerate(zip((height, width), window.output(height, width, ceil=True), strict=True)):
        reach = (count - 1) * window.stride[axis] + window.dilation[axis] * (window.kernel[axis] - 1) + 1
        ends.append(max(window.padding[axis + 2], reach - extent - window.padding[axis]))
    return (*window.padding[:2], ends[0], ends[1])
