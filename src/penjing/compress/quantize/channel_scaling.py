"""Moving the scale of channels from one place to the next, without changing what the network computes.

    f(W1 x + b1) = s f((W1 x + b1) / s)  for every s > 0 and f that is positively homogeneous, f(s x) = s f(x)

so what a layer or a norm makes may be divided by s, channel by channel, if every layer that reads it multiplies its
weights by s, input channel by input channel (Nagel et al., "Data-free quantization through weight equalization and bias
correction", 2019, section 4.1, equations 5 and 6). Between them may stand what is homogeneous and keeps channels apart:
relu and its leaky forms, pooling, resizing, padding with zeros, means over positions, and flattening. A clamp such as
relu6 may not, nor may what reads channels together.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penjing.ir.graph import Graph, Node
from penjing.ir.types import Constant, Names
from penjing.ops.layers import groups_of, weight_of
from penjing.ops.mean import Mean
from penjing.ops.pad import Pad

_Float64 = NDArray[np.float64]

_ELEMENTWISE = {"relu", "leaky_relu", "identity"}
_BESIDE_CHANNELS = {  # work on the axes behind axis 1
    *("prelu", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_max_pool", "adaptive_avg_pool"),
    *("upsample_nearest", "upsample_linear"),
}
_LAYERS = {"linear", "conv1d", "conv2d"}


@dataclass(frozen=True)
class Reader:
    """A layer that reads channels; `repeat` of its input features in a row belong to each of them."""

    node: Node
    repeat: int


def is_layer(node: Node) -> bool:
    """Whether it is a layer whose rows are output channels and whose columns are input channels."""
    return node.op.name in _LAYERS


def channel_axis(graph: Graph, node: Node) -> int:
    """Of the output of a layer."""
    return graph.types[node.output].rank - 1 if node.op.name == "linear" else 1


def weight_is_tied(graph: Graph, node: Node) -> str | None:
    """Why the weight of a layer cannot be scaled, or None."""
    name = weight_of(node)
    if name not in graph.constants or graph.constants[name].array.dtype != np.float32:
        return f"the weight of {node.output} is no float constant"
    if len(graph.users()[name]) > 1:
        return f"weight {name} is shared with another layer"
    if graph.constants[name].quant is not None:
        return f"weight {name} lies on a grid already"
    return None


def norm_behind(graph: Graph, node: Node) -> Node | None:
    """The batch norm that is the only reader of a layer, which is to be folded into it."""
    users = graph.users()[node.output]
    if len(users) != 1 or users[0].op.name != "batch_norm" or node.output in graph.sinks():
        return None
    if node.op.name == "linear" and graph.types[node.output].rank != 2:
        return None
    return users[0] if all(not name or name in graph.constants for name in users[0].inputs[1:]) else None


def made_by(graph: Graph, node: Node) -> str:
    """The value whose channels a layer makes: its output, or that of the batch norm behind it."""
    norm = norm_behind(graph, node)
    return node.output if norm is None else norm.output


def reason_to_keep_rows(graph: Graph, node: Node) -> str | None:
    """Why what a layer makes cannot be divided within it, or None."""
    if not is_layer(node):
        return f"{node.op.name} shares its channels in another way"
    if len(node.inputs) > 2 and node.inputs[2] and node.inputs[2] not in graph.constants:
        return "its bias is computed"
    return weight_is_tied(graph, node)


def divide_rows(graph: Graph, node: Node, s: _Float64) -> None:
    """Divide what a layer makes by s, in its weight and bias, or in the batch norm behind it."""
    norm = norm_behind(graph, node)
    if norm is not None:
        divide_vector(graph, divide_vector(graph, norm, 1, s, 1.0), 2, s, 0.0)
        return
    weight = graph.constants[weight_of(node)]
    scaled = weight.array.astype(np.float64) / s.reshape(-1, *(1,) * (weight.array.ndim - 1))
    graph.set_constant(weight_of(node), Constant(_float32(scaled), weight.encoding))
    divide_vector(graph, node, 2, s, 0.0)


def norm_factors(graph: Graph, norm: Node) -> _Float64:
    """(C,): what a batch norm multiplies by, gamma / sqrt(var + eps)."""
    gamma, var = norm.inputs[1], graph.constants[norm.inputs[4]].array.astype(np.float64)
    scale = graph.constants[gamma].array.astype(np.float64) if gamma else 1.0
    return np.asarray(scale / np.sqrt(var + norm.op.eps))  # type: ignore[attr-defined]  # a batch_norm


def folded_bias(graph: Graph, node: Node) -> _Float64:
    """(O,): what a layer adds, any batch norm behind it folded in."""
    channels = graph.constants[weight_of(node)].array.shape[0]
    bias = _vector(graph, node, 2, channels)
    norm = norm_behind(graph, node)
    if norm is None:
        return bias
    return (bias - _vector(graph, norm, 3, channels)) * norm_factors(graph, norm) + _vector(graph, norm, 2, channels)


def find_readers(graph: Graph, value: str, axis: int) -> list[Reader] | str:
    """The layers that read the channels along `axis` of `value`, or why these cannot be scaled."""
    return _follow(graph, value, axis, 1)


def column_peaks(graph: Graph, reader: Reader) -> _Float64:
    """(C,): the largest |w| by which a layer multiplies each channel, any batch norm behind it folded in."""
    magnitudes = np.abs(_columns(graph, reader) * _effective_rows(graph, reader.node))
    features = magnitudes.max(axis=(1, 3)).reshape(-1)
    return np.asarray(features.reshape(-1, reader.repeat).max(axis=1))


def multiply_columns(graph: Graph, reader: Reader, s: _Float64) -> None:
    """Let the layer multiply channel i by s_i more."""
    weight = graph.constants[weight_of(reader.node)]
    columns = _columns(graph, reader)
    scaled = columns * np.repeat(s, reader.repeat).reshape(columns.shape[0], 1, columns.shape[2], 1)
    graph.set_constant(weight_of(reader.node), Constant(_float32(scaled.reshape(weight.array.shape)), weight.encoding))


def divide_vector(graph: Graph, node: Node, position: int, s: _Float64, fill: float) -> Node:
    """Divide the constant vector at an input of `node` by s; an absent one counts as `fill`. Returns the new node.

    A constant that is read elsewhere as well, be it as the variance of the same norm, stays as it is there.
    """
    name = node.inputs[position] if position < len(node.inputs) else ""
    array = graph.constants[name].array.astype(np.float64) if name else np.full(s.shape, fill)
    if not name and fill == 0:
        return node
    divided = Constant(_float32(array / s.reshape(array.shape)))
    if name and sum(other.inputs.count(name) for other in graph.nodes) == 1:
        graph.set_constant(name, divided)
        return node
    fresh = graph.add_constant(Names(set(graph.types)).fresh(f"{node.output}.scaled"), divided)
    inputs = (*node.inputs[:position], fresh, *node.inputs[position + 1 :])
    changed = Node(node.op, inputs, node.outputs, node.source)
    graph.replace_node(node, changed)
    return changed


def _follow(graph: Graph, value: str, axis: int, repeat: int) -> list[Reader] | str:
    if value in graph.sinks():
        return f"{value} leaves the graph"
    users = graph.users()[value]
    if not users:
        return f"nothing reads {value}"
    found: list[Reader] = []
    for node in users:
        if node.inputs[0] != value or value in node.inputs[1:]:
            return f"{value} goes to {node.op.name}, where other values meet it"
        if is_layer(node):
            reads = graph.types[value].rank - 1 if node.op.name == "linear" else 1
            reason = weight_is_tied(graph, node)
            if reason is not None or reads != axis:
                return reason or f"{node.output} reads {value} along another axis"
            found.append(Reader(node, repeat))
            continue
        step = _step(graph, node, axis)
        if step is None:
            return f"{value} goes to {node.op.name}, through which a scale cannot pass"
        further = _follow(graph, node.output, step[0], repeat * step[1])
        if isinstance(further, str):
            return further
        found += further
    return found


def _step(graph: Graph, node: Node, axis: int) -> tuple[int, int] | None:
    """(axis of the channels behind `node`, features that each becomes), or None where a scale cannot pass."""
    shape, result = graph.types[node.inputs[0]].bounds, graph.types[node.outputs[0]].bounds
    if node.op.name in _ELEMENTWISE or (node.op.name in _BESIDE_CHANNELS and axis == 1):
        return axis, 1
    if isinstance(node.op, Pad) and not any(node.op.pads[2 * axis : 2 * axis + 2]):
        return axis, 1
    if isinstance(node.op, Mean) and min(node.op.axes) > axis:
        return axis, 1
    if node.op.name == "reshape" and axis == 1 and len(result) == 2 and result[0] == shape[0]:
        return 1, math.prod(shape[2:])
    return None


def _vector(graph: Graph, node: Node, position: int, channels: int) -> _Float64:
    name = node.inputs[position] if position < len(node.inputs) else ""
    return graph.constants[name].array.astype(np.float64) if name else np.zeros(channels)


def _columns(graph: Graph, reader: Reader) -> _Float64:
    """The weight as (groups, rows of a group, input features of a group, taps)."""
    weight = graph.constants[weight_of(reader.node)].array
    groups = groups_of(reader.node)
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1).astype(np.float64)


def _effective_rows(graph: Graph, node: Node) -> _Float64:
    norm = norm_behind(graph, node)
    groups = groups_of(node)
    factors = np.ones(graph.constants[weight_of(node)].array.shape[0]) if norm is None else norm_factors(graph, norm)
    return factors.reshape(groups, -1, 1, 1)


def _float32(array: _Float64) -> NDArray[np.float32]:
    return array.astype(np.float32)
