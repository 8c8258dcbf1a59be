"""The blocks of a network, in order: what reconstruction learns as one (Li et al., "BRECQ", 2021, section 3.2).

A place where a single value is alive (all that is computed later follows from it) cuts the network. What lies between
two cuts is a block: for a residual network, from the value where branches begin to the addition that closes over them,
and for a chain, one layer. The clamp (relu, relu6) that alone reads a block's result belongs to it; other nodes without
a weight belong to the block after them. Where more than `MOST_LAYERS` layers lie between two cuts, or where blocks are
asked for layer by layer, each layer with its clamp is a block.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ops.fusion import between_roundings
from penjing.ops.layers import layer_nodes
from penjing.ops.operator import Operator, QuantRule

Granularity = Literal["block", "layer"]
Values = dict[str, torch.Tensor]

MOST_LAYERS = 8


@dataclass(frozen=True)
class Block:
    """Nodes that follow one another.

    Attributes:
        nodes: in order of execution.
        weights: names of the constants that its layers multiply by, without repetition.
        targets: the values that leave it and depend on one of its weights.
        leaving: all values that are made in it and read after it.
    """

    nodes: tuple[Node, ...]
    weights: tuple[str, ...]
    targets: tuple[str, ...]
    leaving: tuple[str, ...]


def find_blocks(graph: Graph, granularity: Granularity = "block") -> list[Block]:
    """The blocks of a float graph that hold a layer; nodes after the last layer are in none.

    Raises:
        InvalidInput: there is no such granularity.
    """
    if granularity not in ("block", "layer"):
        raise InvalidInput(f"there is no granularity {granularity!r}", hint="choose block or layer")
    most = MOST_LAYERS if granularity == "block" else 0
    parts = list[list[Node]]()
    for part in _between_cuts(graph):
        parts += _layers_apart(graph, part) if len(_weights(graph, part)) > most else [part]
    blocks, waiting = [], list[Node]()
    for i, part in enumerate(parts):
        waiting += part
        if not _weights(graph, waiting) or (i + 1 < len(parts) and _is_clamp_of(graph, parts[i + 1], part)):
            continue
        blocks.append(_block(graph, waiting))
        waiting = []
    return blocks


def computed_codes(graph: Graph) -> set[str]:
    """Values that integer code computes in 8 bits: all but those that another operator clamps or adds in passing."""
    passed = between_roundings(graph)
    operators = [(node, node.op) for node in graph.nodes if isinstance(node.op, Operator)]
    made = ((op.quant_rule_of(i), name) for node, op in operators for i, name in enumerate(node.outputs))
    return {*graph.real_inputs, *(name for rule, name in made if rule is QuantRule.OWN and name not in passed)}


def run_nodes(
    nodes: Iterable[Node], values: Mapping[str, torch.Tensor], change: Callable[[str, torch.Tensor], torch.Tensor]
) -> Values:
    """All values after `nodes`, in torch; `change` is called on every result and says what is read in its place."""
    known = dict(values)
    for node in nodes:
        assert isinstance(node.op, Operator)
        results = node.op.torch_form(torch, *(known[name] if name else None for name in node.inputs))
        for name, result in zip(node.outputs, results if isinstance(results, tuple) else (results,), strict=True):
            known[name] = change(name, result)
    return known


def _between_cuts(graph: Graph) -> list[list[Node]]:
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    last |= dict.fromkeys(graph.sinks(), len(graph.nodes))
    alive = {name for name in graph.inputs if name in last}
    parts, part = [], list[Node]()
    for i, node in enumerate(graph.nodes):
        part.append(node)
        alive = {name for name in (*alive, *node.outputs) if last.get(name, -1) > i}
        if len(alive) == 1:
            parts.append(part)
            part = []
    return [*parts, part] if part else parts


def _layers_apart(graph: Graph, part: list[Node]) -> list[list[Node]]:
    parts = list[list[Node]]([[]])
    for node in part:
        if _weights(graph, parts[-1]) and not _is_clamp_of(graph, [node], parts[-1]):
            parts.append([])
        parts[-1].append(node)
    return parts


def _is_clamp_of(graph: Graph, part: list[Node], before: list[Node]) -> bool:
    """Whether `part` is one clamp, and the only reader of what `before` ends with."""
    if len(part) != 1 or not isinstance(part[0].op, Operator) or part[0].op.clamp_range() is None:
        return False
    made = before[-1].outputs
    return part[0].inputs[0] in made and all(graph.users()[name] == part for name in made)


def _weights(graph: Graph, nodes: Iterable[Node]) -> list[str]:
    return list(dict.fromkeys(layer.weight for layer in layer_nodes(graph, nodes)))


def _block(graph: Graph, nodes: list[Node]) -> Block:
    inside = {id(node) for node in nodes}
    users, sinks = graph.users(), graph.sinks()
    weights = _weights(graph, nodes)
    depends, leaving = set(weights), []
    for node in nodes:
        if depends & set(node.inputs):
            depends |= set(node.outputs)
        leaving += [n for n in node.outputs if n in sinks or any(id(user) not in inside for user in users[n])]
    return Block(tuple(nodes), tuple(weights), tuple(n for n in leaving if n in depends), tuple(leaving))
