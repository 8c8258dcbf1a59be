"""Take slices out of a graph: smaller constants, and operators and types that follow.

Without its removed units, a graph computes what it computed with all constants of those units set to zero: a channel
only leaves the graph through sums that weigh it, and there its weights are zero (see `penjing.ops.coupling`).
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from penjing.compress.prune.dependency_groups import ChannelGroup, Indices, Place
from penjing.ir.graph import Graph, Node
from penjing.ir.types import Constant
from penjing.ops.coupling import Kept
from penjing.ops.operator import Operator

Mask = NDArray[np.bool_]


def slices_of(chosen: Iterable[tuple[ChannelGroup, Mask]]) -> dict[Place, Indices]:
    """Place -> ascending indices of the slices that the masked units of groups have there."""
    found: dict[Place, list[Indices]] = {}
    for group, mask in chosen:
        for place, indices in group.slices.items():
            found.setdefault(place, []).append(indices[mask].ravel())
    joined = {place: np.sort(np.concatenate(parts)) for place, parts in found.items()}
    return {place: indices for place, indices in joined.items() if len(indices)}


def remove_slices(graph: Graph, removed: Mapping[Place, Indices]) -> Graph:
    """A new graph without the slices `removed`, which are whole units and leave no axis empty."""
    small = graph.copy()
    for name in {value for value, _ in removed if value in graph.constants}:
        constant = graph.constants[name]
        kept = kept_indices(graph, name, removed)
        small.set_constant(name, Constant(constant.array[np.ix_(*kept)], constant.encoding))
    small.nodes = []
    for node in graph.nodes:
        small.add_node(_shrunk(graph, node, removed), node.inputs, node.outputs, node.source)
    return small


def kept_indices(graph: Graph, name: str, removed: Mapping[Place, Indices]) -> Kept:
    """Of every axis of a value, the indices that stay."""
    nothing: list[int] = []
    extents = enumerate(graph.types[name].bounds)
    return tuple(np.delete(np.arange(n), removed.get((name, axis), nothing)) for axis, n in extents)


def _shrunk(graph: Graph, node: Node, removed: Mapping[Place, Indices]) -> Operator:
    assert isinstance(node.op, Operator)
    inputs = tuple(kept_indices(graph, name, removed) if name else None for name in node.inputs)
    return node.op.shrunk(inputs, tuple(kept_indices(graph, name, removed) for name in node.outputs))
