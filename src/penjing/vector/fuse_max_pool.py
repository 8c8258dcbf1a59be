"""Max pooling as part of the convolution before it: a fraction of the sums is requantized, and no map is written twice.

Requantization never decreases where multipliers are positive, so the largest code of a window is the code of the largest
sum.
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
        producers, users = graph.producers(), graph.users()
        changed, declined, gone = [], [], []
        for i, node in enumerate(graph.nodes):
            if not isinstance(node.op, QMaxPool2d) or node.inputs[0] not in producers:
                continue
            before = producers[node.inputs[0]]
            problem = fusion_problem(graph, before, node, users)
            if problem is not None:
                declined.append(Remark(str(node), problem))
                continue
            x, y = graph.types[before.inputs[0]], graph.types[before.output]
            graph.nodes[i] = Node(
                cast(VConv2d, before.op).pooled(node.op.kernel, x, y), before.inputs, node.outputs, node.source
            )
            gone.append(before)
            changed.append(Remark(str(node), f"is part of {before}"))
        graph.remove_nodes(gone)
        return PassResult(graph, tuple(changed), tuple(declined))


def fusion_problem(graph: Graph, before: Node, pool: Node, users: dict[str, list[Node]]) -> str | None:
    """Why `pool` cannot be part of `before`, which makes its input; None when it can."""
    op = cast(QMaxPool2d, pool.op)
    if not isinstance(before.op, VConv2d):
        return f"what it pools comes from {before.op.name}, which pools nothing"
    if len(users[before.output]) > 1 or before.output in graph.sinks():
        return "what it pools has other users"
    if op.stride != op.kernel or any(op.padding) or op.dilation != (1, 1):
        return "its windows do not lie side by side"
    if op.ceil and any(size % k for size, k in zip(graph.types[before.output].bounds[1:3], op.kernel, strict=True)):
        return "its last windows hang over the end"
    if op.kernel[1] > WIDEST:
        return f"its windows are wider than {WIDEST} pixels"
    if len(before.inputs) > 4:
        return "a residual is added before the largest is known"
    channels = graph.constants[before.inputs[3]].array
    if not bool((channels >= 0).all()):
        return "a channel has a negative multiplier, by which the smallest sum has the largest code"
    return None
