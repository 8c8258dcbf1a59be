"""Rewrites of integer programs that change no output byte."""

from dataclasses import dataclass

import numpy as np

from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Constant, Names

_FEATURES = {"q_linear": 1, "f_linear": 0}  # the axis of a weight that is summed over


@dataclass(frozen=True)
class FoldTransposeIntoLinear(Pass):
    """transpose -> flatten -> linear  becomes  flatten -> linear with its weight's columns permuted.

    This is what makes flattening free although activations stand channels-last. A linear layer in float32 may read the
    flattened codes through their conversion; its sums then are in the order in which its weight is stored.
    """

    name = "fold-transpose-into-linear"

    def run(self, graph: Graph) -> PassResult:
        """Rewrite every place where both intermediate values have one user."""
        graph = graph.copy()
        producers, users = graph.producers(), graph.users()
        names = Names(set(graph.types))
        changed, declined, gone = [], [], []
        for i, linear in enumerate(graph.nodes):
            if linear.op.name not in _FEATURES:
                continue
            border = producers.get(linear.inputs[0])
            is_border = border is not None and border.op.name == "f_dequantize"
            reshape = producers.get(border.inputs[0]) if border is not None and is_border else border
            transpose = producers.get(reshape.inputs[0]) if reshape and reshape.op.name == "q_reshape" else None
            if reshape is None or transpose is None or transpose.op.name not in ("q_transpose", "f_transpose"):
                continue
            if is_border and len(users[linear.inputs[0]]) > 1:
                declined.append(Remark(str(linear), "its input has other users"))
                continue
            reason = _reason_to_decline(graph, transpose, reshape, linear, users)
            if reason is not None:
                declined.append(Remark(str(linear), reason))
                continue
            weight = names.fresh(f"{linear.inputs[1]}.permuted")
            graph.add_constant(weight, Constant(_permuted_features(graph, transpose, linear)))
            inputs = (linear.inputs[0], weight, *linear.inputs[2:])
            graph.nodes[i] = Node(linear.op, inputs, linear.outputs, linear.source)
            at = next(k for k, node in enumerate(graph.nodes) if node is reshape)
            graph.nodes[at] = Node(reshape.op, transpose.inputs, reshape.outputs, reshape.source)
            gone.append(transpose)
            changed.append(Remark(str(linear), "its weight's features are permuted, the transpose is gone"))
        graph.remove_nodes(gone)
        graph.drop_unused_constants()
        return PassResult(graph, tuple(changed), tuple(declined))


def _reason_to_decline(
    graph: Graph, transpose: Node, reshape: Node, linear: Node, users: dict[str, list[Node]]
) -> str | None:
    if len(users[transpose.output]) > 1 or len(users[reshape.output]) > 1:
        return "the transposed value has other users"
    if {transpose.output, reshape.output} & graph.sinks():
        return "the transposed value leaves the program"
    if len(users[linear.inputs[1]]) > 1:
        return "the weight has other users"
    source = graph.types[transpose.inputs[0]]
    flat = graph.types[reshape.output]
    if flat.rank != 2 or source.shape[0] != flat.shape[0]:
        return "the reshape does not flatten whole samples"
    if _perm(transpose)[0] != 0:
        return "the transpose moves the batch axis"
    return None


def _perm(transpose: Node) -> tuple[int, ...]:
    perm: tuple[int, ...] = transpose.op.perm  # type: ignore[attr-defined]  # a q_transpose
    return perm


def _permuted_features(graph: Graph, transpose: Node, linear: Node) -> np.ndarray:
    perm = _perm(transpose)
    shape = graph.types[transpose.inputs[0]].bounds[1:]
    # stored[j] = where the j-th element of the transposed sample lies in the sample as it is stored
    stored = np.arange(int(np.prod(shape))).reshape(shape).transpose([axis - 1 for axis in perm[1:]]).reshape(-1)
    weight = graph.constants[linear.inputs[1]].array
    order = np.argsort(stored)
    return np.take(weight, order, axis=_FEATURES[linear.op.name])
