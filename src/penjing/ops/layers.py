"""Layers: the nodes of a network that multiply by a constant weight, and may add a bias.

A layer's output is that product. A recurrent layer multiplies by several weights on the way to its output, so it is no
layer in this sense; who treats weights alone, whatever becomes of the products, takes `weight_nodes`.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ir.types import Constant, Names
from penjing.ops.operator import Operator, WeightInput


class LayerNode(NamedTuple):
    """The name of the constant that a layer multiplies by, its node, and its operator."""

    weight: str
    node: Node
    op: Operator


class WeightNode(NamedTuple):
    """A constant that a node multiplies by, the node, its operator, and which of the operator's weights it is."""

    weight: str
    node: Node
    op: Operator
    place: WeightInput


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


def weight_nodes(graph: Graph, nodes: Iterable[Node] | None = None) -> Iterator[WeightNode]:
    """All constant weights of `nodes` (of the whole graph): those of layers, and each of a recurrent layer."""
    for node in graph.nodes if nodes is None else nodes:
        if not isinstance(node.op, Operator):
            continue
        for place in node.op.weight_inputs():
            name = node.inputs[place.weight] if place.weight < len(node.inputs) else ""
            if name in graph.constants:
                yield WeightNode(name, node, node.op, place)


def float_weights(graph: Graph) -> dict[str, np.ndarray]:
    """Constant name -> float weight, of every convolution, linear and recurrent layer."""
    found = {weight.weight: graph.constants[weight.weight].array for weight in weight_nodes(graph)}
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


def place_of(node: Node, weight: str) -> WeightInput:
    """Which of a node's weights a constant is."""
    assert isinstance(node.op, Operator)
    return next(place for place in node.op.weight_inputs() if node.inputs[place.weight : place.weight + 1] == (weight,))


def bias_beside(node: Node, weight: str) -> str:
    """Name of what a node adds to its products with a weight; '' where it adds nothing."""
    place = place_of(node, weight).bias
    return "" if place is None or place >= len(node.inputs) else node.inputs[place]


def weight_macs(graph: Graph, weight: WeightNode) -> int:
    """Multiply-accumulates of one sample with one weight of a node, which multiplies by all of them equally often."""
    work = weight.op.cost(graph.input_types(weight.node), graph.output_types(weight.node)).macs
    sizes = {other.weight: graph.constants[other.weight].array.size for other in weight_nodes(graph, [weight.node])}
    return work * sizes[weight.weight] // max(sum(sizes.values()), 1)


def add_to_bias(graph: Graph, node: Node, weight: str, more: np.ndarray) -> None:
    """Let a node add `more` (O,) to its products with a weight; a bias that others read too stays as it is for them."""
    place = place_of(node, weight).bias
    assert place is not None
    name = bias_beside(node, weight)
    before = graph.constants[name].array.astype(np.float64) if name else np.zeros(len(more))
    constant = Constant((before + more).astype(np.float32))
    if name and sum(other.inputs.count(name) for other in graph.nodes) == 1:
        graph.set_constant(name, constant)
        return
    fresh = graph.add_constant(Names(set(graph.types)).fresh(f"{node.outputs[0]}.bias"), constant)
    before_it = (*node.inputs, *[""] * place)[:place]
    inputs = (*before_it, fresh, *node.inputs[place + 1 :])
    graph.replace_node(node, Node(node.op, inputs, node.outputs, node.source))
