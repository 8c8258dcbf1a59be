"""What exporters take apart becomes one node again: activations by their formulas, biases, borders, sums.

Each pattern looks at one node, the last of what it would replace, and answers with the node to stand there instead.
What the new node no longer reads dies by itself, and what others read stays. Formulas are compared as products:
x * 0.5 * (1 + erf(..)) is the same in any order and with any brackets.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.frontends.onnx.fold import FOLDED, fold
from penjing.frontends.onnx.model import OnnxModel, OnnxNode
from penjing.frontends.onnx.norm_patterns import norm, norm_factor, norm_offset
from penjing.frontends.onnx.pooling_patterns import mean_of_sum, unit
from penjing.frontends.onnx.view import View, is_close
from penjing.ops.attention_mask import HIDDEN, HIDING, finite
from penjing.ops.onnx_call import Known

_KEPT = ("QuantizeLinear", "DequantizeLinear")  # they say on which grid a constant lies


def recognise(model: OnnxModel) -> OnnxModel:
    """The model with its constants evaluated and its patterns replaced; only nodes that outputs depend on are left."""
    nodes: list[OnnxNode] = []
    view = View(replace(model, nodes=model.live(), constants=dict(model.constants)), {})
    for node in view.model.nodes:
        if _evaluated(node, view.model):
            continue
        new = _spelled(node, view) or mean_of_sum(node, view) or [_replaced(node, view)]
        nodes += new
        view.makers.update({name: made for made in new for name in made.outputs if name})
    return replace(view.model, nodes=nodes)


def _evaluated(node: OnnxNode, model: OnnxModel) -> bool:
    """Whether a node's values could be made constants; what cannot is told where the node is read."""
    constants = model.constants
    if node.op not in FOLDED or node.op in _KEPT or any(name and name not in constants for name in node.inputs):
        return False
    known = [Known(name, constants[name], constants[name]) if name else None for name in node.inputs]
    try:
        made = fold(node, known, model.opset)
    except UnsupportedOp:
        return False
    constants.update({value.name: value.array for value in made if value.name})
    return True


def _activation(node: OnnxNode, op: str, x: str, **attributes: object) -> OnnxNode:
    return OnnxNode(op, "", node.name, (x,), node.outputs, attributes)


def _replaced(node: OnnxNode, view: View) -> OnnxNode:
    if node.domain:
        return node
    for pattern in _PATTERNS.get(node.op, ()):
        found = pattern(node, view)
        if found is not None:
            return found
    return node


def _gelu(node: OnnxNode, view: View) -> OnnxNode | None:
    """x * (1 + erf(x / sqrt 2)) / 2, or with tanh."""
    factors, number = view.product(node.outputs[0] if node.outputs[0] in view.makers else "")
    if len(factors) != 2 or not is_close(number, 0.5):
        return None
    for x, gate in (factors, factors[::-1]):
        parts = view.plus(gate)
        inner = view.maker(parts[0], "Erf", "Tanh") if parts is not None and is_close(parts[1], 1.0) else None
        if inner is None:
            continue
        inside, scale = view.product(inner.inputs[0])
        if inner.op == "Erf" and inside == [x] and is_close(scale, 1 / math.sqrt(2)):
            return _activation(node, "Gelu", x)
        if (
            inner.op == "Tanh"
            and len(inside) == 1
            and is_close(scale, math.sqrt(2 / math.pi))
            and _cubic(view, inside[0], x)
        ):
            return _activation(node, "Gelu", x, approximate="tanh")
    return None


def _cubic(view: View, name: str, x: str) -> bool:
    """Whether a value is x + 0.044715 * x^3."""
    node = view.maker(name, "Add")
    if node is None or x not in node.inputs:
        return False
    other = node.inputs[1] if node.inputs[0] == x else node.inputs[0]
    factors, number = view.product(other)
    if not is_close(number, 0.044715):
        return False
    power = view.maker(factors[0], "Pow") if len(factors) == 1 else None
    if power is not None:
        return power.inputs[0] == x and view.number(power.inputs[1]) == 3
    return factors == [x] * 3


def _gated(node: OnnxNode, view: View) -> OnnxNode | None:
    """x * sigmoid(x), x * hardsigmoid(x), and hardsigmoid itself by its parts."""
    factors, number = view.product(node.outputs[0])
    if len(factors) == 1:
        x = _six(view, factors[0])
        return _activation(node, "HardSigmoid", x, alpha=1 / 6) if x is not None and is_close(number, 1 / 6) else None
    if len(factors) != 2:
        return None
    for x, gate in (factors, factors[::-1]):
        sigmoid = view.maker(gate, "Sigmoid", "HardSigmoid")
        if _six(view, gate) == x and is_close(number, 1 / 6):
            return _activation(node, "HardSwish", x)
        if sigmoid is None or sigmoid.inputs[0] != x or number != 1.0:
            continue
        if sigmoid.op == "Sigmoid":
            return _activation(node, "Swish", x)
        alpha, beta = sigmoid.attributes.get("alpha", 0.2), sigmoid.attributes.get("beta", 0.5)
        if isinstance(alpha, float) and isinstance(beta, float) and is_close(alpha, 1 / 6) and is_close(beta, 0.5):
            return _activation(node, "HardSwish", x)
    return None


def _six(view: View, name: str) -> str | None:
    """x where a value is min(max(x + 3, 0), 6)."""
    clip = view.maker(name, "Clip")
    if clip is None or len(clip.inputs) != 3 or [view.number(n) for n in clip.inputs[1:]] != [0.0, 6.0]:
        return None
    parts = view.plus(clip.inputs[0])
    return parts[0] if parts is not None and parts[1] == 3.0 else None


def _product_pattern(node: OnnxNode, view: View) -> OnnxNode | None:
    view.makers[node.outputs[0]] = node
    return _gelu(node, view) or _gated(node, view)


def _bias(node: OnnxNode, view: View) -> OnnxNode | None:
    """What is added to a layer without a bias, for each channel, is its bias."""
    for a, b in ((0, 1), (1, 0)):
        layer = view.maker(node.inputs[a], "Conv", "ConvTranspose", "Gemm", "MatMul")
        row = view.model.constants.get(node.inputs[b])
        if layer is None or row is None or view.users[node.inputs[a]] != 1 or row.dtype.kind != "f":
            continue
        if len(layer.inputs) > 2 and layer.inputs[2]:
            continue
        flat = _channels(layer, row, view)
        if flat is None:
            continue
        name = node.inputs[b]
        if flat.shape != row.shape:
            name = view.fresh(f"{name}.bias")
            view.model.constants[name] = flat
        return replace(layer, inputs=(*layer.inputs[:2], name), outputs=node.outputs)
    return None


def _channels(layer: OnnxNode, row: np.ndarray, view: View) -> np.ndarray | None:
    """What is added, one number for each output channel of the layer; None where it is something else."""
    weight = view.model.constants.get(layer.inputs[1])
    if weight is None or weight.ndim < 2:
        return None
    if layer.op in ("Conv", "ConvTranspose"):
        group = layer.attributes.get("group", 1)
        assert isinstance(group, int)
        channels = weight.shape[0] if layer.op == "Conv" else weight.shape[1] * group
        along = (channels, *(1,) * (weight.ndim - 2))
    else:
        channels = weight.shape[0] if layer.attributes.get("transB") else weight.shape[-1]
        along = (channels,)
    lead = (1,) * (row.ndim - len(along))
    return row.reshape(-1) if row.shape == (*lead, *along) else None


def _border(node: OnnxNode, view: View) -> OnnxNode | None:
    """Zeros around the input of a convolution are its padding."""
    pad = view.maker(node.inputs[0], "Pad")
    if pad is None or view.users[node.inputs[0]] != 1 or node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    around = view.model.constants.get(pad.inputs[1]) if len(pad.inputs) > 1 else None
    value = view.number(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] else 0.0
    if pad.attributes.get("mode", "constant") != "constant" or value != 0.0 or around is None or len(pad.inputs) > 3:
        return None
    sides = [int(n) for n in around.reshape(-1)]
    rank = len(sides) // 2
    before, after = sides[:rank], sides[rank:]
    if len(sides) % 2 or rank < 3 or any(before[:2]) or any(after[:2]) or min(sides) < 0:
        return None
    own = node.attributes.get("pads", (0,) * (2 * (rank - 2)))
    if not isinstance(own, tuple) or len(own) != 2 * (rank - 2):
        return None
    pads = tuple(a + b for a, b in zip(own, (*before[2:], *after[2:]), strict=True))
    return replace(node, inputs=(pad.inputs[0], *node.inputs[1:]), attributes={**node.attributes, "pads": pads})


def _mask(node: OnnxNode, view: View) -> OnnxNode | None:
    """What hides scores, by -inf in a sum or by a constant choice, becomes a sum with numbers."""
    known = [view.model.constants.get(name) for name in node.inputs]
    if node.op == "Where":
        condition, *values = known
        for place, x in ((1, node.inputs[1]), (0, node.inputs[2])):
            value, other = values[place], values[1 - place]
            if condition is None or value is None or other is not None or not (value <= HIDING).all():
                continue
            hides = condition if place == 0 else ~condition
            return _summed(node, view, x, np.where(hides, np.float32(HIDDEN), np.float32(0)))
        return None
    for x, array in zip(node.inputs, known[::-1], strict=True):
        if array is not None and array.dtype.kind == "f" and (array == -np.inf).any():
            return _summed(node, view, x, finite(array))
    return None


def _summed(node: OnnxNode, view: View, x: str, array: np.ndarray) -> OnnxNode:
    name = view.fresh(f"{node.outputs[0]}.mask")
    view.model.constants[name] = array.astype(np.float32)
    return OnnxNode("Add", "", node.name, (x, name), node.outputs)


_Pattern = Callable[[OnnxNode, View], OnnxNode | None]
_PATTERNS: dict[str, tuple[_Pattern, ...]] = {
    "Mul": (_product_pattern, norm, norm_factor),
    "Div": (_product_pattern, norm, unit),
    "Add": (_bias, norm_offset, _mask),
    "Where": (_mask,),
    "Conv": (_border,),
}


def _spelled(node: OnnxNode, view: View) -> list[OnnxNode] | None:
    """A sum of other than two operands as sums of two."""
    if node.op != "Sum" or node.domain or len(node.inputs) == 2:
        return None
    if len(node.inputs) == 1:
        return [replace(node, op="Identity")]
    stems = [view.fresh(f"{node.outputs[0]}.{i}") for i in range(len(node.inputs) - 2)]
    lefts = [node.inputs[0], *stems]
    outputs = [*stems, node.outputs[0]]
    return [
        replace(node, op="Add", inputs=(left, right), outputs=(output,))
        for left, right, output in zip(lefts, node.inputs[1:], outputs, strict=True)
    ]
