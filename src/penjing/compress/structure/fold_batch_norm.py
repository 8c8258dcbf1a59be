"""Fold batch normalisation into the layer before it (part of 模型压缩 / 层数减少: fewer layers).

    gamma * (conv(x; w, b) - mean) / sqrt(var + eps) + beta  =  conv(x; w * a, (b - mean) * a + beta),
    a = gamma / sqrt(var + eps) per output channel

(Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
section 3.2, equation 14.)
"""

from dataclasses import dataclass

import numpy as np

from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Constant, Names
from penjing.ops.layers import groups_of
from penjing.ops.operator import Operator


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """batch_norm after a convolution or linear layer disappears into its weight and bias."""

    name = "fold-batch-norm"

    def run(self, graph: Graph) -> PassResult:
        """Fold every batch norm whose input is made by a layer with a constant weight that nothing else uses."""
        graph = graph.copy()
        changed, declined = [], []
        for output in [node.output for node in graph.nodes if node.op.name == "batch_norm"]:
            producers = graph.producers()
            norm = producers[output]  # looked up anew: folding one norm renames the input of the next
            layer = producers.get(norm.inputs[0])
            reason = _reason_to_decline(graph, norm, layer)
            if reason is not None:
                declined.append(Remark(str(norm), reason))
                continue
            assert layer is not None
            _fold(graph, norm, layer)
            changed.append(Remark(str(norm), f"folded into {layer.output}"))
        graph.drop_unused_constants()
        graph.stage = "cleaned"
        return PassResult(graph, tuple(changed), tuple(declined))


def _reason_to_decline(graph: Graph, norm: Node, layer: Node | None) -> str | None:
    if layer is None:
        return "its input is an input of the graph"
    if not (isinstance(layer.op, Operator) and layer.op.weight_input is not None and layer.op.bias_input is not None):
        return f"its input comes from {layer.op.name}, which has no weight to scale"
    if layer.op.name == "linear" and graph.types[layer.output].rank != 2:
        return "the linear layer's features are not the normalised axis"
    if layer.op.name.startswith("conv_transpose") and groups_of(layer) != 1:
        return "a grouped transposed convolution shares its weight's channels between groups"
    if len(graph.users()[layer.output]) > 1 or layer.output in graph.sinks():
        return f"{layer.output} has other users"
    weight = layer.inputs[layer.op.weight_input]
    if weight not in graph.constants:
        return "the weight is not a constant"
    if len(graph.users()[weight]) > 1:
        return "the weight is shared with another layer"
    others = (*norm.inputs[1:], *layer.inputs[layer.op.bias_input :])
    if any(name and name not in graph.constants for name in others):
        return "its statistics or the layer's bias are computed"
    return None


def _fold(graph: Graph, norm: Node, layer: Node) -> None:
    assert isinstance(layer.op, Operator) and layer.op.weight_input is not None and layer.op.bias_input is not None
    weight_name = layer.inputs[layer.op.weight_input]
    weight = graph.constants[weight_name].array
    axis = layer.op.weight_axis
    channels = weight.shape[axis]
    fills = (1, 0, 0, 1)  # of an absent gamma, beta, mean, variance
    gamma, beta, mean, var = (_vector(graph, norm.inputs[1 + i], channels, fill) for i, fill in enumerate(fills))
    eps: float = norm.op.eps  # type: ignore[attr-defined]  # a batch_norm
    a = gamma / np.sqrt(var + eps)
    bias_name = layer.inputs[layer.op.bias_input] if len(layer.inputs) > layer.op.bias_input else ""
    bias = _vector(graph, bias_name, channels, 0)
    shape = [1] * weight.ndim
    shape[axis] = channels
    scaled = (weight.astype(np.float64) * a.reshape(shape)).astype(np.float32)
    names = Names(set(graph.types))
    new_weight, new_bias = names.fresh(f"{weight_name}.folded"), names.fresh(f"{layer.output}.bias")
    graph.add_constant(new_weight, Constant(scaled))
    graph.add_constant(new_bias, Constant(((bias - mean) * a + beta).astype(np.float32)))
    inputs = [*layer.inputs[: layer.op.bias_input], new_bias, *layer.inputs[layer.op.bias_input + 1 :]]
    inputs[layer.op.weight_input] = new_weight
    graph.replace_node(layer, Node(layer.op, tuple(inputs), layer.outputs, layer.source))
    graph.replace_value(norm.output, layer.output)
    graph.remove_nodes([next(node for node in graph.nodes if node.outputs == norm.outputs)])


def _vector(graph: Graph, name: str, channels: int, fill: float) -> np.ndarray:
    """A constant as float64 (channels,), or `fill` where it is absent."""
    if not name:
        return np.full(channels, fill, np.float64)
    return graph.constants[name].array.astype(np.float64)
