"""Transposed convolutions in ONNX.

Padding behind the output must be smaller there than the stride; torch allows it up to the dilation. Padding that is too
large first undoes what `pads` cut off there. If it is still too large, p zeros behind the input make p * stride more
outputs, and `pads` cut off those which are too many.
"""

from penjing.ops.onnx_nodes import OnnxForm

Sizes = tuple[int, ...]


def onnx_conv_transpose(
    form: OnnxForm, stride: Sizes, pads: tuple[Sizes, Sizes], output_padding: Sizes, dilation: Sizes, groups: int
) -> None:
    """Write the node as ConvTranspose; sizes are per spatial axis, `pads` before and after."""
    axes = [_behind(*sizes) for sizes in zip(stride, pads[1], output_padding, strict=True)]
    zeros, after, behind = (tuple(part) for part in zip(*axes, strict=True))
    x, *rest = form.inputs()
    if any(zeros):
        before = (0,) * (4 + len(zeros))
        x = form.node("Pad", x, form.integers("pads", (*before, *zeros)), mode="constant")
    form.result(
        "ConvTranspose",
        x,
        *rest,
        kernel_shape=form.type(1).bounds[2:],
        strides=stride,
        pads=pads[0] + after,
        output_padding=behind,
        dilations=dilation,
        group=groups,
    )


def _behind(stride: int, pad: int, wanted: int) -> tuple[int, int, int]:
    """(zeros behind the input, padding that cuts the output, padding behind the output) of one axis."""
    if wanted < stride:
        return 0, pad, wanted
    undone = min(pad, wanted)
    pad, wanted = pad - undone, wanted - undone
    if wanted < stride:
        return 0, pad, wanted
    zeros = -(-wanted // stride)
    return zeros, pad + zeros * stride - wanted, 0
