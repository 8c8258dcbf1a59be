"""What an integer program computes in passing: conv2d [+ add] [+ clamp], and operator + clamp, become one operator.

What stands inside such a group is never rounded to codes, so whoever foresees the program's arithmetic (training for
few bits, learned rounding) asks here.
"""

import math
from dataclasses import dataclass

from penjing.ir.graph import Graph, Node
from penjing.ir.types import bounds
from penjing.ops.add import Add
from penjing.ops.conv2d import Conv2d
from penjing.ops.lowering import Epilogue
from penjing.ops.operator import Operator, QuantRule
from penjing.ops.wide import wide_values


@dataclass(frozen=True)
class Group:
    """A node with what it does in passing; it is emitted in the place of the group's last node."""

    anchor: Node
    epilogue: Epilogue


def fuse(graph: Graph) -> dict[int, Group]:
    """id of the last node of each group -> the group. Nodes inside a group have no entry.

    conv2d [+ add] [+ clamp], and operator + clamp: an intermediate value must have no other user.
    """
    users, producers = graph.users(), graph.producers()
    sinks = graph.sinks()
    order = {id(node): i for i, node in enumerate(graph.nodes)}
    groups: dict[int, Group] = {}
    taken: set[int] = set()

    def only_user(value: str) -> Node | None:
        return users[value][0] if len(users[value]) == 1 and value not in sinks else None

    for node in graph.nodes:
        if id(node) in taken:
            continue
        if len(node.outputs) != 1:
            groups[id(node)] = Group(node, Epilogue(node.outputs[0]))
            continue
        last, residual = node, None
        follower = only_user(node.output)
        if follower is not None and _adds_residual(graph, node, follower, producers, order):
            residual = next(name for name in follower.inputs if name != node.output)
            taken.add(id(node))
            last, follower = follower, only_user(follower.output)
        low, high = -math.inf, math.inf
        if follower is not None and _takes_clamp(node) and isinstance(follower.op, Operator):
            clamp = follower.op.clamp_range()
            if clamp is not None:
                taken.add(id(last))
                last, (low, high) = follower, clamp
        groups[id(last)] = Group(node, Epilogue(last.output, low, high, residual))
        if last is not node:
            taken.add(id(last))
    return groups


def _takes_clamp(node: Node) -> bool:
    """Whether the node computes its codes through a clamp anyway."""
    assert isinstance(node.op, Operator)
    return node.op.quant_rule is QuantRule.OWN and node.op.clamp_range() is None and node.op.name not in _NO_CLAMP


# their integer forms move codes: a clamp after them is a table of its own
_NO_CLAMP = frozenset({"concat"})


def _adds_residual(graph: Graph, node: Node, follower: Node, producers: dict[str, Node], order: dict[int, int]) -> bool:
    """Whether conv2d `node` can add in passing what `follower` adds to it: a value of the same shape."""
    if not (isinstance(node.op, Conv2d) and isinstance(follower.op, Add)):
        return False
    other = [name for name in follower.inputs if name != node.output]
    if len(other) != 1 or other[0] in graph.constants:
        return False
    if bounds(graph.types[other[0]].shape) != bounds(graph.types[node.output].shape):
        return False
    rival = producers.get(other[0])
    if rival is not None and isinstance(rival.op, Conv2d) and order[id(rival)] > order[id(node)]:
        # of two convolutions that could add, the later one does, unless its own sum is needed elsewhere
        return len(graph.users()[other[0]]) > 1 or other[0] in graph.sinks()
    return True


def between_roundings(graph: Graph) -> set[str]:
    """Values inside of groups, which never become codes, and those in 16 bits: none is rounded to 8."""
    groups = fuse(graph)
    inside = (node for node in graph.nodes if id(node) not in groups)
    return (
        wide_values(graph)
        | {name for node in inside for name in node.outputs}
        | {
            group.anchor.output
            for node_id, group in groups.items()
            if len(group.anchor.outputs) == 1 and group.epilogue.output != group.anchor.output
        }
    )


def computed_for_concat(graph: Graph) -> dict[str, str]:
    """Value that only a concat reads -> the concat's output, in whose codes it is computed at once; last concat first.

    That saves a table which would turn the value's own codes into the concat's.
    """
    users, producers = graph.users(), graph.producers()
    found = {}
    for node in reversed(graph.nodes):
        if node.op.name != "concat":
            continue
        for name in node.inputs:
            maker = producers.get(name)
            if maker is None or len(users[name]) > 1 or name in graph.sinks():
                continue
            if isinstance(maker.op, Operator) and maker.op.quant_rule is QuantRule.OWN:
                found[name] = node.output
    return found
