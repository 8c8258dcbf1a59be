"""What one run of a program costs, known before anything is built."""

from dataclasses import dataclass

from penjing.ir.graph import Graph
from penjing.ops.operator import Cost, IntegerOperator


@dataclass(frozen=True)
class NodeCost:
    """Cost of one node: multiply-accumulates and bytes touched."""

    name: str
    op: str
    cost: Cost


def node_costs(program: Graph) -> tuple[NodeCost, ...]:
    """One entry per node, in order of execution."""
    costs = []
    for node in program.nodes:
        assert isinstance(node.op, IntegerOperator)
        cost = node.op.cost(program.input_types(node), program.output_types(node))
        costs.append(NodeCost(node.outputs[0], node.op.name, cost))
    return tuple(costs)


def total_macs(program: Graph) -> int:
    """Multiply-accumulates of one run."""
    return sum(entry.cost.macs for entry in node_costs(program))
