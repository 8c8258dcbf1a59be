"""Which values of a network the integer program rounds to codes, and which of them share their codes.

A convolution adds a residual, and most operators clamp, before they round. What stands between is never rounded. Values
that only move codes keep those of their input, and what only a concat reads is computed in the concat's codes.
"""

from dataclasses import dataclass

from penjing.ir.graph import Graph
from penjing.ops.fusion import between_roundings, computed_for_concat
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
    learned = {name: name for name in graph.real_inputs}
    fixed: dict[str, tuple[float, float]] = {}
    source = {name: name for name in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        assert isinstance(node.op, Operator)
        for i, name in enumerate(node.outputs):
            if name in passed:
                continue
            source[name] = name
            match node.op.quant_rule_of(i):
                case QuantRule.OWN:
                    learned[name] = name
                case QuantRule.FIXED:
                    fixed[name] = node.op.fixed_range()
                case QuantRule.SAME:
                    source[name] = source[node.inputs[0]]
    for name, joined in computed_for_concat(graph).items():
        learned[name] = learned[joined]
    return RoundedValues(learned, fixed, source)
