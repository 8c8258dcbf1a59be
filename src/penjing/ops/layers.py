"""Layers: the nodes of a network that multiply by a constant weight, and may add a bias."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ir.types import Constant, Names
from penjing.ops.operator import Operator


class LayerNode(NamedTuple):
    """The name of the constant that a layer multiplies by, its node, and its operator."""

    weight: str
    node: Node
    op: Operator


def weight_of(node: Node) -> str:
    """Name of what a node multiplies by; '' for one that is no layer."""
    op = node.op
    return node.inputs[op.weight_input] if isinstance(op, Operator) and op.weight_input is not None else ""


def bias_of(node: Node) -> str:
    """Name of what a layer adds; '' where it adds nothing."""
    op = node.op
    if not isinstance(op, Operator) or op.bias_input is None or len(node.inputs) <= op.bias_input:
        return ""
    return node.inputs[op.bias_input]


def groups_of(node: Node) -> int:
    """Into how many independent parts a layer splits its channels; 1 for layers, and all nodes, that do not."""
    groups: int = getattr(node.op, "groups", 1)
    return groups


def layer_nodes(graph: Graph, nodes: Iterable[Node] | None = None) -> Iterator[LayerNode]:
    """The layers among `nodes` (of the whole graph) whose weight is a constant; one that is shared comes repeatedly."""
    for node in graph.nodes if nodes is None else nodes:
        weight = weight_of(node)
        if weight in graph.constants:
            assert isinstance(node.op, Operator)
            yield LayerNode(weight, node, node.op)


def float_weights(graph: Graph) -> dict[str, np.ndarray]:
    """Constant name -> float weight, of every convolution and linear layer."""
    found = {layer.weight: graph.constants[layer.weight].array for layer in layer_nodes(graph)}
    return {name: array for name, array in found.items() if array.dtype == np.float32}


def check_names(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise InvalidInput, at `where`, for names in `given` that are no layer's weight: not in `known`."""
    known = list(known)
    strangers = sorted(set(given) - set(known))
    if strangers:
        raise InvalidInput(
            f"no layer has a weight called {', '.join(map(repr, strangers))}",
            where=where,
            hint=f"its layers: {', '.join(known) or 'none'}",
        )


def check_finite(array: np.ndarray, name: str) -> None:
    """Raise InvalidInput for NaN or infinity in what belongs to the layer of weight `name`."""
    bad = np.count_nonzero(~np.isfinite(array))
    if bad:
        raise InvalidInput(
            f"{bad} of {array.size} values are NaN or infinite",
            where=name,
            hint="the training diverged, or a division by zero was folded in",
        )


def add_to_bias(graph: Graph, node: Node, more: np.ndarray) -> None:
    """Let a layer of the graph add `more` (O,) besides; a bias that others read too stays as it is for them."""
    assert isinstance(node.op, Operator) and node.op.bias_input is not None
    name = bias_of(node)
    before = graph.constants[name].array.astype(np.float64) if name else np.zeros(len(more))
    constant = Constant((before + more).astype(np.float32))
    if name and sum(other.inputs.count(name) for other in graph.nodes) == 1:
        graph.set_constant(name, constant)
        return
    fresh = graph.add_constant(Names(set(graph.types)).fresh(f"{node.output}.bias"), constant)
    inputs = (*node.inputs[: node.op.bias_input], fresh, *node.inputs[node.op.bias_input + 1 :])
    graph.replace_node(node, Node(node.op, inputs, node.outputs, node.source))
