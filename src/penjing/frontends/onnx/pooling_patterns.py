"""What sentence encoders do behind their last layer: a mean that is written as a sum over a count, and a vector's unit.

sum of x / d    ->    mean of x * (n / d),     n the number of terms, which is d where no token is padding
x / max(|x|, eps)    ->    LpNormalization of x; without eps, which only keeps zeros from 0 / 0
"""

from typing import Any

import numpy as np

from penjing.core.onnx_package import import_onnx
from penjing.frontends.onnx.model import OnnxNode
from penjing.frontends.onnx.view import View

_FLOAT = 1  # TensorProto.FLOAT
_LARGEST_EPS = 1e-6
_AXES_ARE_AN_INPUT = 18  # of ReduceMean; ReduceSum has them since 13


def mean_of_sum(node: OnnxNode, view: View) -> list[OnnxNode] | None:
    """The nodes for a division of a sum along axes."""
    if node.op != "Div" or node.domain or len(node.inputs) != 2:
        return None
    total = view.maker(node.inputs[0], "ReduceSum")
    axes = _axes(total, view) if total is not None else None
    if total is None or axes is None:
        return None
    x, stem = total.inputs[0], node.outputs[0]
    named = {part: view.fresh(f"{stem}.{part}") for part in ("mean", "shape", "terms", "count", "number", "share")}
    place = view.fresh(f"{stem}.axes")
    view.model.constants[place] = axes
    keeps = total.attributes.get("keepdims", 1)
    if view.model.opset >= _AXES_ARE_AN_INPUT:
        mean = _node("ReduceMean", [x, place], named["mean"], keepdims=keeps)
    else:
        mean = _node("ReduceMean", [x], named["mean"], keepdims=keeps, axes=[int(axis) for axis in axes])
    return [
        mean,
        _node("Shape", [x], named["shape"]),
        _node("Gather", [named["shape"], place], named["terms"], axis=0),
        _node("ReduceProd", [named["terms"]], named["count"], keepdims=0),
        _node("Cast", [named["count"]], named["number"], to=_FLOAT),
        _node("Div", [named["number"], node.inputs[1]], named["share"]),
        _node("Mul", [named["mean"], named["share"]], stem),
    ]


def unit(node: OnnxNode, view: View) -> OnnxNode | None:
    """x / max(|x|, eps)."""
    if len(node.inputs) != 2:
        return None
    x, length = node.inputs
    while (around := view.maker(length, "Expand", "Clip", "Max")) is not None:
        length = around.inputs[0]
        if around.op != "Expand" and not all(
            not name or 0 <= (view.number(name) or 0.0) < _LARGEST_EPS for name in around.inputs[1:]
        ):
            return None
    norm = view.maker(length, "ReduceL2")
    axes = _axes(norm, view) if norm is not None else None
    if norm is None or axes is None or norm.inputs[0] != x or len(axes) != 1 or not norm.attributes.get("keepdims", 1):
        return None
    return OnnxNode("LpNormalization", "", node.name, (x,), node.outputs, {"axis": int(axes[0]), "p": 2})


def _axes(node: OnnxNode, view: View) -> np.ndarray | None:
    """The constant axes of a reduction; None where there are none."""
    given = node.attributes.get("axes")
    if len(node.inputs) > 1 and node.inputs[1]:
        axes = view.model.constants.get(node.inputs[1])
        return axes.reshape(-1) if axes is not None and axes.size else None
    return np.asarray(given, np.int64) if isinstance(given, tuple) and given else None


def _node(op: str, inputs: list[str], output: str, **attributes: Any) -> OnnxNode:
    proto = import_onnx("onnx.helper").make_node(op, inputs, [output], **attributes)
    held = {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
    return OnnxNode(op, "", output, tuple(inputs), (output,), held, (), proto)
