"""Which values of a network its program computes in float32: those of layers that somebody keeps so, and those between.

A layer is kept by its weight, which stays in float32 when the network is quantized. Additions, products and means of
float32 values alone are computed in float32 as well, so that layers beside each other form one island: nothing is
rounded to codes inside. Every other operator reads codes. What changes from one to the other is made where it is read.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from penjing.ir.graph import Graph, Node
from penjing.ops.fusion import Group, fuse
from penjing.ops.layers import layer_nodes, weight_of
from penjing.ops.operator import FloatRule, Operator


def kept_weights(graph: Graph) -> set[str]:
    """Names of the weights that a quantized network keeps in float32."""
    return {layer.weight for layer in layer_nodes(graph) if graph.constants[layer.weight].array.dtype == np.float32}


def float_values(graph: Graph, kept: Collection[str]) -> set[str]:
    """Values that the program computes in float32, where the layers of the weights `kept` do."""
    groups, users, found = fuse(graph), graph.users(), set[str]()
    moves = []
    for node in graph.nodes if kept else ():
        group = groups.get(id(node))
        if group is None:
            continue
        rule, read = float_rule(group.anchor), _activations(graph, group.anchor)
        follows = rule in (FloatRule.FOLLOWS, FloatRule.MOVES) and read and found.issuperset(read)
        if follows or (rule is FloatRule.KEPT and weight_of(group.anchor) in kept):
            found.update(_made_in_passing(group, users))
            moves += [group.anchor] if rule is FloatRule.MOVES else []
    for node in reversed(moves):
        if not any(reader.outputs[0] in found for reader in users[node.output]):
            found.discard(node.output)
    return found


def _made_in_passing(group: Group, users: Mapping[str, list[Node]]) -> Iterator[str]:
    """The outputs of all nodes of a group."""
    name = group.anchor.output
    while name != group.epilogue.output:
        yield name
        name = users[name][0].output
    yield name


def float_reads(graph: Graph) -> set[tuple[str, str]]:
    """(value, first output of a node that reads it) in a quantized network, where it is read in float32 as it is."""
    floats = float_values(graph, kept_weights(graph))
    return {
        (name, node.outputs[0])
        for node in graph.nodes
        if node.outputs[0] in floats
        for name in floats.intersection(node.inputs)
    }


def float_rule(node: Node) -> FloatRule:
    """That of a node's operator."""
    return node.op.float_rule if isinstance(node.op, Operator) else FloatRule.NEVER


def _activations(graph: Graph, node: Node) -> Sequence[str]:
    return [name for name in node.inputs if name and name not in graph.constants]
