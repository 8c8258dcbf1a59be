"""Max pooling as part of the convolution before it: fewer sums are requantized, and the map between is never written.

Where no multiplier is negative, a larger sum never has a smaller code, so the largest code of a window is that of its
largest sum.
"""

from dataclasses import dataclass
from typing import cast

from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ops.pool2d import QMaxPool2d
from penjing.vector.conv2d import VConv2d

WIDEST = 12  # pixels of the narrowest stretch of tiles that a kernel pools


@dataclass(frozen=True)
class FuseMaxPool(Pass):
    """v_conv2d -> q_max_pool2d  becomes  one v_conv2d, where windows touch and nothing else reads the convolution."""

    name = "fuse-max-pool"

    def run(self, graph: Graph) -> PassResult:
        """Rewrite every pair that can be one; no output byte changes."""
        graph = graph.copy()
        found = fusions(graph)
        changed, declined, gone = [], [], []
        for i, node in enumerate(graph.nodes):
            before = found.get(node.outputs[0])
            if isinstance(before, str):
                declined.append(Remark(str(node), before))
            elif before is not None:
                graph.nodes[i] = _fused(graph, before, node)
                gone.append(before)
                changed.append(Remark(str(node), f"is part of {before}"))
        graph.remove_nodes(gone)
        return PassResult(graph, tuple(changed), tuple(declined))


def fusions(graph: Graph) -> dict[str, Node | str]:
    """Output of each max pool that follows another operator -> the convolution that can compute it, or why none can."""
    producers, users = graph.producers(), graph.users()
    pools = [node for node in graph.nodes if isinstance(node.op, QMaxPool2d) and node.inputs[0] in producers]
    found: dict[str, Node | str] = {}
    for pool in pools:
        before = producers[pool.inputs[0]]
        shared = len(users[before.outputs[0]]) > 1 or before.outputs[0] in graph.sinks()
        problem = "what it pools has other users" if shared else _problem(graph, before, pool)
        found[pool.output] = before if problem is None else problem
    return found


def _problem(graph: Graph, before: Node, pool: Node) -> str | None:
    op = cast(QMaxPool2d, pool.op)
    if not isinstance(before.op, VConv2d):
        return f"what it pools is made by {before.op.name}"
    if len(before.inputs) > 4:
        return "a residual is added to what it pools"
    if op.stride != op.kernel or any(op.padding) or op.dilation != (1, 1):
        return "its windows do not lie side by side"
    if op.ceil and any(size % k for size, k in zip(graph.types[before.output].bounds[1:3], op.kernel, strict=True)):
        return "its last windows hang over the end"
    if op.kernel[1] > WIDEST:
        return f"its windows are wider than {WIDEST} pixels"
    if (graph.constants[before.inputs[3]].array < 0).any():
        return "a channel has a negative multiplier, so that its smallest sum has the largest code"
    return None


def _fused(graph: Graph, before: Node, pool: Node) -> Node:
    x, y = graph.types[before.inputs[0]], graph.types[before.output]
    op = cast(VConv2d, before.op).pooled(cast(QMaxPool2d, pool.op).kernel, x, y)
    return Node(op, before.inputs, pool.outputs, pool.source)
