"""Zero padding as part of the convolution that reads it: no padded copy, and no memory for one."""

from dataclasses import dataclass, replace

from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ops.conv2d import QConv2d
from penjing.ops.depthwise import QDepthwise
from penjing.ops.pad import QPad


@dataclass(frozen=True)
class FoldPadIntoConvolution(Pass):
    """pad -> convolution  becomes  a convolution with wider padding, where the pad holds what means 0 there."""

    name = "fold-pad-into-convolution"

    def run(self, graph: Graph) -> PassResult:
        """Rewrite every place where the padded value has one user."""
        graph = graph.copy()
        producers, users = graph.producers(), graph.users()
        changed, declined, gone = [], [], []
        for i, node in enumerate(graph.nodes):
            pad = producers.get(node.inputs[0]) if node.inputs else None
            if pad is None or not isinstance(pad.op, QPad) or not isinstance(node.op, QConv2d | QDepthwise):
                continue
            reason = _reason_to_decline(graph, pad, pad.op, node.op, users)
            if reason is not None:
                declined.append(Remark(str(node), reason))
                continue
            top, bottom, left, right = pad.op.pads[2:6]
            own = node.op.padding
            wider = (own[0] + top, own[1] + left, own[2] + bottom, own[3] + right)
            graph.nodes[i] = Node(
                replace(node.op, padding=wider), (pad.inputs[0], *node.inputs[1:]), node.outputs, node.source
            )
            gone.append(pad)
            changed.append(Remark(str(node), "it pads by itself, the padded copy is gone"))
        graph.remove_nodes(gone)
        return PassResult(graph, tuple(changed), tuple(declined))


def _reason_to_decline(
    graph: Graph, pad: Node, op: QPad, conv: QConv2d | QDepthwise, users: dict[str, list[Node]]
) -> str | None:
    if len(users[pad.output]) > 1 or pad.output in graph.sinks():
        return "the padded value has other users"
    if op.mode != "constant" or op.code != conv.x_zero:
        return "the pad does not hold the code that means 0"
    if any(op.pads[:2]) or any(op.pads[6:]):
        return "the pad adds images or channels"
    return None
