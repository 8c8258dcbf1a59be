"""Which values of a network the integer program rounds to codes, and which of them share their codes.

A convolution adds a residual, and most operators clamp, before they round. What stands between is never rounded. Values
that only move codes keep those of their input, and what only a concat reads is computed in the concat's codes.
"""

from dataclasses import dataclass

from penjing.ir.graph import Graph, Node
from penjing.ir.types import bounds
from penjing.ops.add import Add
from penjing.ops.conv2d import Conv2d
from penjing.ops.operator import Operator, QuantRule


@dataclass(frozen=True)
class RoundedValues:
    """How activations get their codes.

    Attributes:
        learned: value that is rounded -> the value whose calibrated range its codes cover, often itself.
        fixed: value that is rounded -> (low, high), known from its operator.
        source: value -> the rounded value or the constant whose codes it carries; those in between have none.
    """

    learned: dict[str, str]
    fixed: dict[str, tuple[float, float]]
    source: dict[str, str]


def rounded_values(graph: Graph) -> RoundedValues:
    """Those of a float graph once it is quantized and lowered."""
    passed = between_roundings(graph)
    learned = {name: name for name in graph.inputs}
    fixed: dict[str, tuple[float, float]] = {}
    source = {name: name for name in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        assert isinstance(node.op, Operator)
        for name in node.outputs:
            if name in passed:
                continue
            source[name] = name
            match node.op.quant_rule:
                case QuantRule.OWN:
                    learned[name] = name
                case QuantRule.FIXED:
                    fixed[name] = node.op.fixed_range()
                case QuantRule.SAME:
                    source[name] = source[node.inputs[0]]
    _share_with_concat(graph, learned)
    return RoundedValues(learned, fixed, source)


def between_roundings(graph: Graph) -> set[str]:
    """Values inside of conv2d [+ add] [+ clamp] and of operator + clamp, if nothing else reads them."""
    users, producers, sinks = graph.users(), graph.producers(), graph.sinks()
    order = {node.outputs: i for i, node in enumerate(graph.nodes)}
    passed: set[str] = set()
    last_parts: set[tuple[str, ...]] = set()  # nodes that another one does in passing

    def only_user(name: str) -> Node | None:
        return users[name][0] if len(users[name]) == 1 and name not in sinks else None

    for node in graph.nodes:
        if node.outputs in last_parts or len(node.outputs) != 1:
            continue
        last, follower = node, only_user(node.output)
        if follower is not None and _takes_residual(graph, node, follower, producers, order):
            passed.add(last.output)
            last, follower = follower, only_user(follower.output)
            last_parts.add(last.outputs)
        if follower is not None and _takes_clamp(node) and _is_clamp(follower):
            passed.add(last.output)
            last_parts.add(follower.outputs)
    return passed


def _is_clamp(node: Node) -> bool:
    return isinstance(node.op, Operator) and node.op.clamp_range() is not None


def _takes_clamp(node: Node) -> bool:
    assert isinstance(node.op, Operator)
    return node.op.quant_rule is QuantRule.OWN and node.op.clamp_range() is None and node.op.name != "concat"


def _takes_residual(
    graph: Graph, node: Node, follower: Node, producers: dict[str, Node], order: dict[tuple[str, ...], int]
) -> bool:
    """Of two convolutions that could add, the later one does, unless its own sum is needed elsewhere."""
    if not (isinstance(node.op, Conv2d) and isinstance(follower.op, Add)):
        return False
    others = [name for name in follower.inputs if name != node.output]
    if len(others) != 1 or others[0] in graph.constants:
        return False
    if bounds(graph.types[others[0]].shape) != bounds(graph.types[node.output].shape):
        return False
    rival = producers.get(others[0])
    if rival is not None and isinstance(rival.op, Conv2d) and order[rival.outputs] > order[node.outputs]:
        return len(graph.users()[others[0]]) > 1 or others[0] in graph.sinks()
    return True


def _share_with_concat(graph: Graph, learned: dict[str, str]) -> None:
    users, producers = graph.users(), graph.producers()
    for node in reversed(graph.nodes):
        if node.op.name != "concat":
            continue
        for name in node.inputs:
            maker = producers.get(name)
            if maker is None or len(users[name]) > 1 or name in graph.outputs:
                continue
            if isinstance(maker.op, Operator) and maker.op.quant_rule is QuantRule.OWN:
                learned[name] = learned[node.output]
