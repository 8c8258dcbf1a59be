"""Norms that exporters take apart: RMS norm x / sqrt(mean(x^2) + eps), and layer norm, the same of x - mean(x).

The last node, a division by the root or a product with its reciprocal, becomes the norm; a product and a sum with
constants behind it become its parameters.
"""

from dataclasses import replace

from penjing.frontends.onnx.model import OnnxNode
from penjing.frontends.onnx.view import View

_NORMS = ("LayerNormalization", "RMSNormalization")


def norm(node: OnnxNode, view: View) -> OnnxNode | None:
    """The norm whose last node is a division or product."""
    inputs = [view.uncast(name) for name in node.inputs]
    for x, other in [inputs] if node.op == "Div" else [inputs, inputs[::-1]]:
        radicand = _root(view, other) if node.op == "Div" else _inverse_root(view, other)
        parts = view.plus(radicand) if radicand is not None else None
        if parts is None or parts[1] < 0:
            continue
        axis = _mean_of_squares(view, parts[0], x)
        if axis is None:
            continue
        centre = _centred(view, x, axis)
        op, value = ("LayerNormalization", centre) if centre is not None else ("RMSNormalization", x)
        return OnnxNode(op, "", node.name, (value,), node.outputs, {"axis": axis, "epsilon": parts[1]})
    return None


def norm_factor(node: OnnxNode, view: View) -> OnnxNode | None:
    """A norm without a factor, multiplied with a constant."""
    return _parameter(node, view, 1)


def norm_offset(node: OnnxNode, view: View) -> OnnxNode | None:
    """A layer norm without an offset, and a constant that is added."""
    return _parameter(node, view, 2)


def _parameter(node: OnnxNode, view: View, place: int) -> OnnxNode | None:
    for value, constant in (node.inputs, node.inputs[::-1]):
        made = view.maker(view.uncast(value), *_NORMS[: 3 - place])
        array = view.model.constants.get(constant)
        if made is None or array is None or len(made.inputs) > place:
            continue
        if view.users[value] != 1 or view.users[view.uncast(value)] != 1:
            continue
        axis = made.attributes.get("axis", -1)
        if not isinstance(axis, int) or (axis < 0 and array.ndim > -axis) or array.dtype.kind != "f":
            continue
        absent = ("",) * (place - len(made.inputs))
        return replace(made, inputs=(*made.inputs, *absent, constant), outputs=node.outputs)
    return None


def _root(view: View, name: str) -> str | None:
    """v where a value is sqrt(v)."""
    node = view.maker(name, "Sqrt", "Pow")
    if node is None or (node.op == "Pow" and view.number(node.inputs[1]) != 0.5):
        return None
    return node.inputs[0]


def _inverse_root(view: View, name: str) -> str | None:
    """v where a value is 1 / sqrt(v)."""
    node = view.maker(name, "Reciprocal", "Div", "Pow")
    if node is None:
        return None
    if node.op == "Pow":
        return node.inputs[0] if view.number(node.inputs[1]) == -0.5 else None
    if node.op == "Div" and view.number(node.inputs[0]) != 1:
        return None
    return _root(view, node.inputs[-1])


def _mean_of_squares(view: View, name: str, x: str) -> int | None:
    """The first of the last axes over which a value is the mean of x^2."""
    axis = _mean_axis(view, name)
    square = view.maker(view.makers[name].inputs[0], "Pow", "Mul") if axis is not None else None
    if square is None or view.uncast(square.inputs[0]) != x:
        return None
    is_square = view.uncast(square.inputs[1]) == x if square.op == "Mul" else view.number(square.inputs[1]) == 2
    return axis if is_square else None


def _centred(view: View, name: str, axis: int) -> str | None:
    """x where a value is x - mean of x."""
    node = view.maker(name, "Sub")
    if node is None or _mean_axis(view, node.inputs[1]) != axis:
        return None
    x = view.uncast(node.inputs[0])
    return x if view.uncast(view.makers[node.inputs[1]].inputs[0]) == x else None


def _mean_axis(view: View, name: str) -> int | None:
    """The first of the axes of a mean that keeps them; whether the others follow up to the last, parity tells."""
    node = view.maker(name, "ReduceMean")
    if node is None or node.attributes.get("keepdims", 1) != 1:
        return None
    axes = node.attributes.get("axes")
    if len(node.inputs) > 1 and node.inputs[1] in view.model.constants:
        axes = tuple(int(i) for i in view.model.constants[node.inputs[1]].reshape(-1))
    if not isinstance(axes, tuple) or not axes:
        return None
    first = min(axes)
    together = sorted(axes) == list(range(first, first + len(axes)))
    return first if together and (first >= 0 or first + len(axes) == 0) else None
