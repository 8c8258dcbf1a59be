"""The layers that have a weight to put on a grid: which nodes read it, and where its output channels are."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penjing.ir.graph import Graph, Node
from penjing.ops.layers import layer_nodes, weight_nodes
from penjing.ops.operator import Operator


@dataclass(frozen=True)
class Layer:
    """One float weight and the nodes that multiply by it: one, or several that share it.

    Attributes:
        weight: name of the constant.
        nodes: in the order of the graph.
        axis: of the output channels; None where the nodes disagree about it.
    """

    weight: str
    nodes: tuple[Node, ...]
    axis: int | None


def layers(graph: Graph) -> dict[str, Layer]:
    """Name of a weight -> its layer, in the order of the graph; not those of recurrent layers, which have several."""
    return _by_weight(graph, ((layer.weight, layer.node) for layer in layer_nodes(graph)))


def weights(graph: Graph) -> dict[str, Layer]:
    """The same of every weight, those of recurrent layers too."""
    return _by_weight(graph, ((weight.weight, weight.node) for weight in weight_nodes(graph)))


def _by_weight(graph: Graph, found_in: Iterable[tuple[str, Node]]) -> dict[str, Layer]:
    readers: dict[str, list[Node]] = {}
    for name, node in found_in:
        if graph.constants[name].array.dtype == np.float32:
            readers.setdefault(name, []).append(node)
    found = {}
    for name, nodes in readers.items():
        axes = {node.op.weight_axis for node in nodes if isinstance(node.op, Operator)}
        found[name] = Layer(name, tuple(nodes), axes.pop() if len(axes) == 1 else None)
    return found


def reason_to_keep(graph: Graph, layer: Layer) -> str | None:
    """Why a weight cannot be put on a grid now, or None."""
    if graph.constants[layer.weight].quant is not None:
        return "it lies on a grid already"
    if layer.axis is None:
        return "the layers that share it disagree about its output channels"
    return None


def channel_rows(array: np.ndarray, axis: int) -> NDArray[np.float32]:
    """(O, k): the weights of each output channel, in the order in which the constant has them."""
    front = np.moveaxis(np.asarray(array, np.float32), axis, 0)
    return np.ascontiguousarray(front.reshape(front.shape[0], -1))


def from_channel_rows(rows: np.ndarray, like: np.ndarray, axis: int) -> np.ndarray:
    """Undo `channel_rows` for a weight of the shape of `like`."""
    return np.ascontiguousarray(np.moveaxis(rows.reshape(np.moveaxis(like, axis, 0).shape), 0, axis))
