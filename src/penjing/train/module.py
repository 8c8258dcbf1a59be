"""A Graph as a torch module, so that any training loop can fine-tune it, and back."""

import numpy as np
import torch
from torch import nn

from penjing.core.errors import InvalidGraph
from penjing.ir.graph import Graph
from penjing.ir.types import Constant
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.operator import Operator


class TrainableGraph(nn.Module):
    """The same computation as `graph`, differentiable; its float constants are the parameters.

    With `keep_zeros`, weights that are zero stay zero through training, so that pruning survives fine-tuning. A batch
    norm that was not folded keeps its running statistics: they are measured, not trained.
    """

    def __init__(self, graph: Graph, *, keep_zeros: bool = True) -> None:
        super().__init__()
        if graph.stage not in ("imported", "cleaned"):
            raise InvalidGraph(f"a graph in stage {graph.stage} holds integers and cannot be trained as floats")
        self._graph = graph
        self._keys = {name: f"p{i}" for i, name in enumerate(graph.constants)}
        weights, measured = set(_weights(graph)), _running_statistics(graph)
        for name, constant in graph.constants.items():
            tensor = torch.from_numpy(constant.array.copy())
            if constant.array.dtype != np.float32 or name in measured:
                self.register_buffer(self._keys[name], tensor)
                continue
            self.register_parameter(self._keys[name], nn.Parameter(tensor))
            if keep_zeros and name in weights and (constant.array == 0).any():
                self.register_buffer(f"{self._keys[name]}_mask", (tensor != 0).float())

    def constant(self, name: str) -> torch.Tensor:
        """The present value of a constant of the graph, with its mask applied."""
        key = self._keys[name]
        value: torch.Tensor = getattr(self, key)
        mask = getattr(self, f"{key}_mask", None)
        return value if mask is None else value * mask

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Inputs (N, ...) in, outputs (N, ...) out; a tuple when the graph has several outputs."""
        values = dict(zip(self._graph.inputs, inputs, strict=True))
        values |= {name: self.constant(name) for name in self._graph.constants}
        for node in self._graph.nodes:
            assert isinstance(node.op, Operator)
            results = node.op.torch_form(torch, *(values[name] if name else None for name in node.inputs))
            values.update(zip(node.outputs, results if isinstance(results, tuple) else (results,), strict=True))
        outputs = tuple(values[name] for name in self._graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def to_graph(self) -> Graph:
        """A graph like the one this was made from, with the trained values."""
        graph = self._graph.copy()
        for name, constant in graph.constants.items():
            array = self.constant(name).detach().cpu().numpy()
            unmoved = constant.quant is not None and np.array_equal(array, constant.array)
            graph.set_constant(name, Constant(array, constant.encoding, constant.quant if unmoved else None))
        return graph


def trainable(graph: Graph, *, keep_zeros: bool = True) -> TrainableGraph:
    """`graph` as a torch module; `to_graph()` on it gives the trained graph."""
    return TrainableGraph(graph, keep_zeros=keep_zeros)


def _weights(graph: Graph) -> list[str]:
    return [
        node.inputs[node.op.weight_input]
        for node in graph.nodes
        if isinstance(node.op, Operator) and node.op.weight_input is not None
    ]


def _running_statistics(graph: Graph) -> set[str]:
    """Mean and variance of every batch norm, for which torch has no gradient."""
    return {name for node in graph.nodes if isinstance(node.op, BatchNorm) for name in node.inputs[3:5]}
