"""Which values of a graph are never below zero, as far as their operators say."""

from collections.abc import Callable

from penjing.ir.graph import Graph, Node
from penjing.ops.operator import Operator, QuantRule
from penjing.ops.rnn import Rnn

_KEEP_SIGNS = frozenset({"add", "mul", "concat", "mean", "avg_pool1d", "avg_pool2d", "upsample_linear"})


def is_nonnegative(graph: Graph, name: str, maker: Callable[[str], Node | None]) -> bool:
    """Whether a value is never below zero, or is an input, which is as it comes; `maker` gives the node of a value."""
    pending, seen = [name], set()
    while pending:
        name = pending.pop()
        if name in seen or name in graph.inputs:
            continue
        seen.add(name)
        if name in graph.constants:
            if graph.constants[name].array.min() < 0:
                return False
            continue
        node = maker(name)
        assert node is not None and isinstance(node.op, Operator)
        if _never_negative(node.op):
            continue
        if node.op.name not in _KEEP_SIGNS and node.op.quant_rule is not QuantRule.SAME:
            return False
        pending += node.inputs
    return True


def _never_negative(op: Operator) -> bool:
    limits = op.clamp_range()
    if isinstance(op, Rnn):
        return op.rectified
    return (limits is not None and limits[0] >= 0) or op.name in ("sigmoid", "hardsigmoid", "softmax")
