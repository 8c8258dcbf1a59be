"""Nodes that scale and shift channels by constants:  y = a * x + b,  a and b per channel.

mul, add and sub with a constant are of this form where the constant broadcasts over all axes but that of the channels,
and so is a batch norm: a = gamma / sqrt(var + eps), b = beta - mean * a.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penjing.ir.graph import Graph, Node
from penjing.ops.add import Add, Sub
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.mul import Mul

_Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChannelAffine:
    """y = scale * x + shift, both (C,); `x` is the name of the value read."""

    x: str
    scale: _Float64
    shift: _Float64


def affine_of(graph: Graph, node: Node | None, axis: int) -> ChannelAffine | None:
    """What a node does to the channels along `axis` (from the end if negative); None when it is no such node."""
    if node is None:
        return None
    if isinstance(node.op, BatchNorm):
        return _of_batch_norm(graph, node, axis)
    if not isinstance(node.op, Add | Sub | Mul):
        return None
    constants = [name for name in node.inputs if name in graph.constants]
    if len(constants) != 1 or node.inputs[0] == node.inputs[1]:
        return None
    (x,) = (name for name in node.inputs if name not in graph.constants)
    values = _along(graph, constants[0], node.output, axis)
    if values is None or graph.types[x].shape != graph.types[node.output].shape:
        return None
    ones, zeros = np.ones_like(values), np.zeros_like(values)
    if isinstance(node.op, Mul):
        return ChannelAffine(x, values, zeros)
    if isinstance(node.op, Add):
        return ChannelAffine(x, ones, values)
    return ChannelAffine(x, ones, -values) if node.inputs[0] == x else ChannelAffine(x, -ones, values)


def _of_batch_norm(graph: Graph, node: Node, axis: int) -> ChannelAffine | None:
    assert isinstance(node.op, BatchNorm)
    x, *names = node.inputs
    rank = graph.types[x].rank
    if axis % rank != 1 or any(name and name not in graph.constants for name in names):
        return None
    channels = graph.types[x].bounds[1]
    fills = (1.0, 0.0, 0.0, 1.0)  # of an absent gamma, beta, mean, variance
    gamma, beta, mean, var = (
        graph.constants[name].array.astype(np.float64) if name else np.full(channels, fill)
        for name, fill in zip(names, fills, strict=True)
    )
    if not (var + node.op.eps > 0).all():
        return None
    scale = gamma / np.sqrt(var + node.op.eps)
    return ChannelAffine(x, scale, beta - mean * scale)


def _along(graph: Graph, constant: str, output: str, axis: int) -> _Float64 | None:
    """A constant as (C,) where it broadcasts over every other axis of `output`."""
    array = graph.constants[constant].array
    rank, channels = graph.types[output].rank, graph.types[output].bounds[axis]
    if array.dtype != np.float32 or array.ndim > rank:
        return None
    shape = [1] * (rank - array.ndim) + list(array.shape)
    if any(n != 1 for i, n in enumerate(shape) if i != axis % rank):
        return None
    return np.broadcast_to(array.reshape(-1).astype(np.float64), (channels,)).copy()
