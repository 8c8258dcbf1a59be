"""How each operator passes on what is known of its inputs (`spread`); `data_free` says what the rules are."""

import math
from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise

import numpy as np

from penjing.compress.quantize.spread import (
    Spread,
    added,
    clipped,
    constants,
    joined,
    multiplied,
    normal,
    through,
    weighted,
)
from penjing.core.errors import QuantizationError
from penjing.ir.graph import Graph, Node
from penjing.ops.add import Add, Sub
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.concat import Concat
from penjing.ops.layers import groups_of
from penjing.ops.leaky_relu import bent
from penjing.ops.mean import Mean
from penjing.ops.mul import Mul
from penjing.ops.operator import Operator, QuantRule
from penjing.ops.pad import Pad, PadValue
from penjing.ops.permute import Permute
from penjing.ops.prelu import Prelu
from penjing.ops.reshape import Reshape
from penjing.ops.slice import Select, Slice
from penjing.ops.split import Split
from penjing.ops.table import Elementwise

Spreads = Mapping[str, Spread | None]

_AS_INPUT = {  # same channels, and no value beyond those of the input
    *("identity", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_max_pool", "adaptive_avg_pool"),
    *("upsample_nearest", "upsample_linear"),
}
_LAYERS = {"linear", "conv1d", "conv2d"}


def follow(graph: Graph, node: Node, spreads: Spreads, sigmas: float) -> tuple[Spread | None, ...]:
    """What is known of the outputs of `node`; None for what is not known.

    Raises:
        QuantizationError: a batch norm with computed statistics.
    """
    op = node.op
    assert isinstance(op, Operator)
    if isinstance(op, BatchNorm):
        return (_batch_norm(graph, node, sigmas),)
    if isinstance(op, Add | Sub | Mul):
        return (_binary(graph, node, spreads, sigmas),)
    if isinstance(op, Concat):
        return (_concat(graph, node, op.axis, spreads),)
    x = spreads.get(node.inputs[0])
    if op.quant_rule is QuantRule.FIXED and not isinstance(op, Elementwise):
        rules = (op.quant_rule_of(i) for i in range(len(node.outputs)))
        return tuple(_uniform(*op.fixed_range()) if rule is QuantRule.FIXED else None for rule in rules)
    if x is None:
        return (None,) * len(node.outputs)
    if isinstance(op, Split):
        ends = list(accumulate(op.sizes, initial=0))
        return tuple(_part(x, op.axis, slice(*pair)) for pair in pairwise(ends))
    return (_single(graph, node, x, sigmas),)


def _uniform(low: float, high: float) -> Spread:
    """What is known of values of which nothing but a range is known."""
    return Spread(None, *(np.array([v]) for v in ((low + high) / 2, (high - low) / 12**0.5, low, high)))


def _single(graph: Graph, node: Node, x: Spread, sigmas: float) -> Spread | None:
    """What is known of the only output of an operator, of whose first input `x` is known."""
    op = node.op
    assert isinstance(op, Operator)
    limits = op.clamp_range()
    if limits is not None:
        return clipped(x, *limits)
    if isinstance(op, Elementwise):
        return through(x, op.function)
    if op.name in _LAYERS:
        return _layer(graph, node, x, sigmas)
    if op.name in _AS_INPUT:
        return x
    match op:
        case Prelu():
            slope = graph.constants.get(node.inputs[1])
            return None if slope is None else _prelu(x, slope.array.reshape(-1))
        case Mean():
            gone = x.axis in op.axes
            before = 0 if op.keepdim or x.axis is None else sum(axis < x.axis for axis in op.axes)
            return x.collapsed() if gone or x.axis is None else x.moved(x.axis - before)
        case Pad() | PadValue():
            fill = getattr(op, "value", 0.0) if getattr(op, "mode", "constant") == "constant" else None
            whole = x if x.axis is None or not any(op.pads[2 * x.axis : 2 * x.axis + 2]) else x.collapsed()
            return whole if fill is None else whole.including(fill)
        case Permute():
            return x if x.axis is None else x.moved(op.perm.index(x.axis))
        case Slice():
            return _part(x, op.axis, slice(op.start, op.stop, op.step))
        case Select():
            if x.axis == op.axis:
                return x.taken(slice(op.index, op.index + 1)).moved(None)
            return x if x.axis is None or x.axis < op.axis else x.moved(x.axis - 1)
        case Reshape():
            return _reshape(graph, node, x)
    return None


def _batch_norm(graph: Graph, node: Node, sigmas: float) -> Spread:
    channels = graph.types[node.output].bounds[1]
    vectors = []
    for name, fill in zip(node.inputs[1:3], (1.0, 0.0), strict=True):
        if name and name not in graph.constants:
            raise QuantizationError("batch_norm with statistics that are computed", where=str(node))
        vectors.append(graph.constants[name].array.astype(np.float64) if name else np.full(channels, fill))
    gamma, beta = vectors
    return normal(1, beta, np.abs(gamma), sigmas)


def _layer(graph: Graph, node: Node, x: Spread, sigmas: float) -> Spread | None:
    names = [name for name in node.inputs[1:] if name]
    if any(name not in graph.constants for name in names):
        return None
    weight = graph.constants[names[0]].array.astype(np.float64)
    bias = graph.constants[names[1]].array.astype(np.float64) if len(names) > 1 else np.zeros(len(weight))
    groups = groups_of(node)
    axis = graph.types[node.inputs[0]].rank - 1 if node.op.name == "linear" else 1
    known = x if x.axis in (None, axis) else x.collapsed()
    padded = known if node.op.name == "linear" else known.including(0.0)
    columns = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
    return weighted(padded.filled(groups * weight.shape[1]).moved(axis), columns, bias, sigmas)


def _binary(graph: Graph, node: Node, spreads: Spreads, sigmas: float) -> Spread | None:
    rank = graph.types[node.output].rank
    axes = {
        spread.axis + rank - graph.types[name].rank
        for name in node.inputs
        if (spread := spreads.get(name)) is not None and spread.axis is not None
    }
    axis = axes.pop() if len(axes) == 1 else None
    pair = []
    for name in node.inputs:
        spread = spreads.get(name)
        if name in graph.constants:
            spread = constants(graph.constants[name].array, rank, axis)
        if spread is None:
            return None
        pair.append(spread if axis is not None else spread.collapsed())
    a, b = (spread.moved(axis) for spread in pair)
    channels = max(a.mean.size, b.mean.size)
    a, b = a.filled(channels), b.filled(channels)
    if isinstance(node.op, Mul):
        return multiplied(a, b)
    return added(a, b, -1 if isinstance(node.op, Sub) else 1, sigmas)


def _concat(graph: Graph, node: Node, axis: int, spreads: Spreads) -> Spread | None:
    rank = graph.types[node.output].rank
    parts = []
    for name in node.inputs:
        spread = spreads.get(name)
        if name in graph.constants:
            spread = constants(graph.constants[name].array, rank, axis)
        if spread is None:
            return None
        known = spread if spread.axis in (None, axis) else spread.collapsed()
        parts.append(known.filled(graph.types[name].bounds[axis]).moved(axis))
    return joined(parts)


def _part(x: Spread, axis: int, index: slice) -> Spread:
    return x.taken(index) if x.axis == axis else x


def _prelu(x: Spread, slope: np.ndarray) -> Spread:
    if slope.size > 1 and x.axis != 1:
        x = x.collapsed().filled(slope.size).moved(1)
    function: Callable[[np.ndarray], np.ndarray] = lambda real: bent(real, slope)  # noqa: E731
    return through(x, function)


def _reshape(graph: Graph, node: Node, x: Spread) -> Spread:
    shape, result = graph.types[node.inputs[0]].bounds, graph.types[node.outputs[0]].bounds
    if x.axis is None or shape[: x.axis + 1] == result[: x.axis + 1]:
        return x
    if len(result) == x.axis + 1 and shape[: x.axis] == result[: x.axis]:  # flattened: neighbours are of one channel
        return x.taken(np.repeat(np.arange(shape[x.axis]), math.prod(shape[x.axis + 1 :])))
    return x.collapsed()
