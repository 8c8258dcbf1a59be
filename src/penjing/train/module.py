"""A Graph as a torch module, so that any training loop can fine-tune it, and back.

A constant whose encoding is a codebook is trained as Han et al., "Deep Compression" (2016), section 3.3 do: the few
distinct values are the parameter, every weight is an index into them, and the gradient of a value is the sum of the
gradients of the weights that have it.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from penjing.core.errors import InvalidGraph, InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ir.types import Constant, Encoding
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.layers import float_weights
from penjing.ops.operator import Operator

BatchNormMode = Literal["frozen", "train"]
MOMENTUM = 0.1  # of running statistics, torch's own


class Watch:
    """Values of the latest forward pass, by name; `close`, or leaving the `with` block, ends the watching."""

    def __init__(self, module: "TrainableGraph", names: Iterable[str]) -> None:
        self.names = frozenset(names)
        self.values: dict[str, torch.Tensor] = {}
        self._module = module

    def close(self) -> None:
        """Stop watching and let the tensors go."""
        self._module._watches.discard(self)
        self.values.clear()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TrainableGraph(nn.Module):
    """The same computation as `graph`, differentiable; its float constants are the parameters.

    With `keep_zeros`, weights that are zero stay zero through training, so that pruning survives fine-tuning. A batch
    norm that was not folded keeps its running statistics ("frozen"), or with `batch_norm="train"` normalises by the
    batch at hand while the module is in training mode, and follows it with its statistics, as torch does. `only` names
    the constants to train; the others stay as they are.

    Raises:
        InvalidGraph: the graph holds integers.
        InvalidInput: `only` names no float constant of the graph, or there is no such mode.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        keep_zeros: bool = True,
        batch_norm: BatchNormMode = "frozen",
        only: Iterable[str] | None = None,
    ) -> None:
        super().__init__()
        if graph.stage not in ("imported", "cleaned"):
            raise InvalidGraph(f"a graph in stage {graph.stage} holds integers and cannot be trained as floats")
        if batch_norm not in ("frozen", "train"):
            raise InvalidInput(f"batch_norm must be 'frozen' or 'train', not {batch_norm!r}")
        self.batch_norm: BatchNormMode = batch_norm
        self._graph = graph
        self._keys = {name: f"p{i}" for i, name in enumerate(graph.constants)}
        self._watches: set[Watch] = set()
        self._last_reads = _last_reads(graph)
        measured = _running_statistics(graph)
        trained = _trained(graph, measured, only)
        for name, constant in graph.constants.items():
            if constant.array.dtype != np.float32 or name in measured:
                self.register_buffer(self._keys[name], torch.from_numpy(constant.array.copy()))
            else:
                self._register(name, constant, requires_grad=name in trained)
        if keep_zeros:
            for name in float_weights(graph):
                zero = (self._parameter(name) == 0).detach()
                if zero.any():
                    self._register_mask(name, ~zero)

    def _register(self, name: str, constant: Constant, *, requires_grad: bool) -> None:
        key, array = self._keys[name], constant.array
        if constant.encoding is Encoding.CODEBOOK:
            array, indices = np.unique(array, return_inverse=True)
            self.register_buffer(f"{key}_indices", torch.from_numpy(indices.reshape(constant.array.shape)))
        self.register_parameter(key, nn.Parameter(_packed(torch.from_numpy(array.copy())), requires_grad))

    def _register_mask(self, name: str, keep: torch.Tensor) -> None:
        # of the parameter's own layout: a product of two layouts is slow
        mask = torch.empty_like(self._parameter(name)).copy_(keep)
        self.register_buffer(f"{self._keys[name]}_mask", mask)

    def maskable(self) -> list[str]:
        """Weights of layers that can be masked one by one: all but those that share values by a codebook."""
        known = self._graph.constants
        return [name for name in float_weights(self._graph) if known[name].encoding is not Encoding.CODEBOOK]

    def mask(self, name: str) -> np.ndarray:
        """Where the weight `name` may be other than zero: a bool array of its shape."""
        mask: torch.Tensor | None = getattr(self, f"{self._keys[name]}_mask", None)
        if mask is None:
            return np.ones(tuple(self._parameter(name).shape), np.bool_)
        return np.asarray(mask.cpu().numpy() != 0)

    def set_mask(self, name: str, keep: np.ndarray) -> None:
        """Let the weight `name` be zero wherever `keep` (of its shape) is false, from now on.

        Raises:
            InvalidInput: no such weight, or another shape.
        """
        if name not in self.maskable():
            raise InvalidInput(f"{name} is no weight that can be masked", where=f"graph {self._graph.name}")
        shape = tuple(self._parameter(name).shape)
        if tuple(keep.shape) != shape:
            raise InvalidInput(f"a mask of shape {tuple(keep.shape)} does not fit {shape}", where=name)
        self._register_mask(name, torch.from_numpy(np.array(keep, dtype=np.bool_)))

    def _parameter(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = getattr(self, self._keys[name])
        return tensor

    def constant(self, name: str) -> torch.Tensor:
        """The present value of a constant of the graph, with its mask applied."""
        key = self._keys[name]
        value, mask = self._parameter(name), getattr(self, f"{key}_mask", None)
        value = value if mask is None else value * mask
        indices = getattr(self, f"{key}_indices", None)
        return value if indices is None else value.index_select(0, indices.reshape(-1)).reshape(indices.shape)

    def watch(self, names: Iterable[str]) -> Watch:
        """Keep the values called `names` of every forward pass from now on, with their gradients' history.

        Raises:
            InvalidInput: no node or input of the graph makes such a value.
        """
        watch = Watch(self, names)
        unknown = sorted(watch.names - set(self._graph.activations()))
        if unknown:
            raise InvalidInput(f"the graph has no values {', '.join(unknown)}", where=f"graph {self._graph.name}")
        self._watches.add(watch)
        return watch

    def batch_norms(self) -> list[Node]:
        """The batch norms that were not folded and whose statistics are constants."""
        return [node for node in self._graph.nodes if self._has_statistics(node)]

    def _has_statistics(self, node: Node) -> bool:
        return isinstance(node.op, BatchNorm) and all(name in self._graph.constants for name in node.inputs[3:5])

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Inputs (N, ...) in, outputs (N, ...) out; a tuple when the graph has several outputs."""
        values = {name: self._constant_operand(name) for name in self._graph.constants}
        for name, value in zip(self._graph.inputs, inputs, strict=True):
            self._keep(values, name, value)
        for node, over in zip(self._graph.nodes, self._last_reads, strict=True):
            results = self._results(node, values)
            for name, value in zip(node.outputs, results, strict=True):
                self._keep(values, name, value)
            for name in over:
                del values[name]
        outputs = tuple(values[name] for name in self._graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _keep(self, values: dict[str, torch.Tensor], name: str, value: torch.Tensor) -> None:
        values[name] = self._activation(name, value)
        for watch in self._watches:
            if name in watch.names:
                watch.values[name] = values[name]

    def _operands(self, node: Node, values: Mapping[str, torch.Tensor]) -> list[torch.Tensor | None]:
        """What a node computes with, absent inputs included; there to be overridden, like the two below."""
        return [values[name] if name else None for name in node.inputs]

    def _constant_operand(self, name: str) -> torch.Tensor:
        """What nodes read for a constant."""
        return self.constant(name)

    def _activation(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """What nodes read for a value that was computed."""
        return value

    def _results(self, node: Node, values: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        assert isinstance(node.op, Operator)
        operands = self._operands(node, values)
        if self.training and self.batch_norm == "train" and self._has_statistics(node):
            assert isinstance(node.op, BatchNorm)
            x, gamma, beta, mean, var = operands
            assert x is not None
            return (F.batch_norm(x, mean, var, gamma, beta, training=True, momentum=MOMENTUM, eps=node.op.eps),)
        results = node.op.torch_form(torch, *operands)
        return results if isinstance(results, tuple) else (results,)

    def to_graph(self) -> Graph:
        """A graph like the one this was made from, with the trained values."""
        graph = self._graph.copy()
        for name, constant in graph.constants.items():
            array = self.constant(name).detach().cpu().numpy()
            unmoved = constant.quant is not None and np.array_equal(array, constant.array)
            graph.set_constant(name, Constant(array, constant.encoding, constant.quant if unmoved else None))
        return graph


def trainable(
    graph: Graph,
    *,
    keep_zeros: bool = True,
    batch_norm: BatchNormMode = "frozen",
    only: Iterable[str] | None = None,
) -> TrainableGraph:
    """`graph` as a torch module; `to_graph()` on it gives the trained graph. Options as in `TrainableGraph`."""
    return TrainableGraph(graph, keep_zeros=keep_zeros, batch_norm=batch_norm, only=only)


def _packed(tensor: torch.Tensor) -> torch.Tensor:
    """Channels last where there are four axes, as convolutions are fastest on CPUs."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _trained(graph: Graph, measured: set[str], only: Iterable[str] | None) -> set[str]:
    able = {name for name, c in graph.constants.items() if c.array.dtype == np.float32 and name not in measured}
    if only is None:
        return able
    wanted = set(only)
    if not wanted <= able:
        raise InvalidInput(
            f"no constant that can be trained is called {', '.join(sorted(wanted - able))}",
            where="only",
            hint="the names are those of graph.constants",
        )
    return wanted


def _running_statistics(graph: Graph) -> set[str]:
    """Mean and variance of every batch norm, for which torch has no gradient."""
    return {name for node in graph.nodes if isinstance(node.op, BatchNorm) for name in node.inputs[3:5]}


def _last_reads(graph: Graph) -> list[list[str]]:
    """Per node, the values that nothing reads after it, so that they need not stay in memory."""
    last: dict[str, int] = {}
    for i, node in enumerate(graph.nodes):
        last |= dict.fromkeys((*(name for name in node.inputs if name), *node.outputs), i)
    over: list[list[str]] = [[] for _ in graph.nodes]
    for name, i in last.items():
        if name not in graph.sinks() and name not in graph.constants:
            over[i].append(name)
    return over
