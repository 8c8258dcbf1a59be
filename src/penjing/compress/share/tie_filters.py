"""Filters that are alike are computed once (参数共享).

If output channel j of a layer is a times channel i, and all that lies behind does to both the same, f(a y) = a f(y),
then a layer that multiplies them by v_i and v_j needs only the first:

    v_i f(y_i) + v_j f(a y_i)  =  (v_i + a v_j) f(y_i)

so channel j leaves both layers. Rectifiers, pools and means are such f for every a >= 0; other element-wise operators
for a = 1 alone. Filters are rows f of weight and bias together; near ones count as alike up to a relative distance
min over a of |f_j - a f_i| / |f_j|, and what stays of a group is the least-squares row, sum a_j f_j / sum a_j^2. With a
distance of rounding errors the network computes the same.
"""

from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from penjing.compress.structure.layers import readers_of_weights
from penjing.compress.structure.linear_map import change_of_cost, layer_cost, layer_in_place, map_of
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ops.adaptive_pool import AdaptiveAvgPool, AdaptiveMaxPool
from penjing.ops.identity import Identity
from penjing.ops.layers import check_finite, check_names, float_weights
from penjing.ops.leaky_relu import LeakyRelu
from penjing.ops.mean import Mean
from penjing.ops.operator import Cost
from penjing.ops.pool1d import AvgPool1d, MaxPool1d
from penjing.ops.pool2d import AvgPool2d, MaxPool2d
from penjing.ops.relu import Relu
from penjing.ops.reshape import Reshape
from penjing.ops.table import Elementwise

_Float64 = NDArray[np.float64]

_POOLS = (MaxPool1d, AvgPool1d, MaxPool2d, AvgPool2d, AdaptiveMaxPool, AdaptiveAvgPool)
_SCALABLE = (Identity, Relu, LeakyRelu)  # element-wise, and f(a y) = a f(y) for a >= 0


@dataclass(frozen=True)
class TieFilters(Pass):
    """Output channels of a layer within `tolerance` of a multiple of another leave it, and the layers behind it.

    All layers are looked at, or those in `layers`. A tolerance above rounding changes the function: fine-tune.
    """

    name = "tie-filters"

    tolerance: float = 1e-6
    layers: tuple[str, ...] | None = None

    def run(self, graph: Graph) -> PassResult:
        """A graph of fewer channels, its layers under the names that they had.

        Raises:
            InvalidInput: a tolerance outside [0, 1), a name that is no layer's, NaN in a weight.
        """
        if not 0 <= self.tolerance < 1:
            raise InvalidInput(f"a relative distance lies in [0, 1), not {self.tolerance}")
        check_names(self.layers or (), float_weights(graph), "layers")
        graph = graph.copy()
        changed: list[Remark] = []
        declined: list[Remark] = []
        for name in readers_of_weights(graph):
            if self.layers is not None and name not in self.layers:
                continue
            text = self._tie(graph, name)
            (changed if text.startswith("tied") else declined).append(Remark(name, text))
        return PassResult(graph, tuple(changed), tuple(declined))

    def _tie(self, graph: Graph, name: str) -> str:
        readers = readers_of_weights(graph)[name]
        if len(readers) > 1:
            return "its weight is shared with another layer"
        node = readers[0]
        layer = map_of(graph, node)
        if layer is None:
            return f"a {node.op.name} is no layer of constant weight and bias that this pass knows"
        check_finite(layer.weight, name)
        if layer.groups > 1:
            return f"its channels belong to {layer.groups} groups"
        road = _Road(graph)
        reason = road.follow(node.output, layer.channel_axis % graph.types[node.output].rank, 1)
        if reason is not None:
            return reason
        filters = np.concatenate([layer.weight.reshape(len(layer.weight), -1), layer.bias[:, None]], axis=1)
        ties = _Ties.of(filters, self.tolerance, road.scalable)
        if len(ties.kept) == len(filters):
            return f"no two of its {len(filters)} filters are within {self.tolerance:g} of one another"
        before = road.cost(node)
        tied = ties.rows(filters)
        made = replace(layer, weight=tied[:, :-1].reshape(-1, *layer.weight.shape[1:]), bias=tied[:, -1])
        _swap(graph, node, layer_in_place(graph, node, made, node.inputs[0]))
        road.narrow(ties)
        after = road.cost(graph.producers()[node.output])
        return f"tied {len(filters)} filters to {len(ties.kept)}: {change_of_cost(before, after)} with what reads them"


@dataclass(frozen=True, eq=False)
class _Ties:
    """Channel j is `multiple[j]` times `kept[group[j]]`, or nearly so."""

    kept: NDArray[np.intp]
    group: NDArray[np.intp]
    multiple: _Float64

    @staticmethod
    def of(filters: _Float64, tolerance: float, scalable: bool) -> "_Ties":
        """Groups around the largest filters; each filter goes to the first that is near enough."""
        norms = np.linalg.norm(filters, axis=1)
        group = np.full(len(filters), -1)
        multiple = np.ones(len(filters))
        kept: list[int] = []
        for i in np.argsort(-norms, kind="stable"):
            if group[i] >= 0:
                continue
            free = np.flatnonzero(group < 0)
            along = filters[free] @ filters[i] / (norms[i] ** 2 or 1.0)
            factors = np.maximum(along, 0) if scalable else np.ones(len(free))
            distance = np.linalg.norm(filters[free] - factors[:, None] * filters[i], axis=1)
            near = distance <= tolerance * norms[free]
            near[free == i] = True
            group[free[near]] = len(kept)
            multiple[free[near]] = np.where(free[near] == i, 1.0, factors[near])
            kept.append(int(i))
        order = np.argsort(kept)
        return _Ties(np.array(kept)[order], np.argsort(order)[group], multiple)

    def rows(self, filters: _Float64) -> _Float64:
        """The least-squares row of each group."""
        sums = np.zeros((len(self.kept), filters.shape[1]))
        np.add.at(sums, self.group, self.multiple[:, None] * filters)
        rows: _Float64 = sums / np.bincount(self.group, np.square(self.multiple))[:, None]
        return rows

    def columns(self, weight: _Float64, spread: int) -> _Float64:
        """A weight (O, I, ...) that reads them, `spread` columns for each channel, as one that reads the kept."""
        outputs, inputs, *rest = weight.shape
        by_channel = weight.reshape(outputs, inputs // spread, spread, *rest)
        sums = np.zeros((len(self.kept), outputs, spread, *rest))
        scaled = np.moveaxis(by_channel, 1, 0) * self.multiple.reshape(-1, *(1,) * (by_channel.ndim - 1))
        np.add.at(sums, self.group, scaled)
        return np.moveaxis(sums, 0, 1).reshape(outputs, -1, *rest)


@dataclass
class _Road:
    """All that lies between a layer and the layers that read its channels."""

    graph: Graph
    scalable: bool = True
    readers: list[tuple[Node, int]] = field(default_factory=list)  # a layer, and its columns for each channel
    flattened: list[Node] = field(default_factory=list)

    def follow(self, value: str, axis: int, spread: int) -> str | None:
        """Walk on from a value whose channels lie along `axis`, `spread` entries each; a reason if one cannot."""
        if value in self.graph.sinks():
            return "its channels are an output of the network"
        readers = self.graph.users()[value]
        if not readers:
            return "nothing reads its channels"
        for node in readers:
            reason = self._pass(node, value, axis, spread)
            if reason is not None:
                return reason
        return None

    def _pass(self, node: Node, value: str, axis: int, spread: int) -> str | None:
        graph, op, rank = self.graph, node.op, self.graph.types[value].rank
        layer = map_of(graph, node)
        if layer is not None and node.inputs[0] == value and layer.groups == 1 and axis == layer.channel_axis % rank:
            if len(readers_of_weights(graph)[node.inputs[1]]) > 1:
                return f"the weight of {node.output}, which reads them, is shared"
            self.readers.append((node, spread))
            return None
        if isinstance(op, Elementwise | Identity) and len(node.inputs) == 1:
            self.scalable &= isinstance(op, _SCALABLE)
            return self.follow(node.output, axis, spread)
        if (isinstance(op, _POOLS) or (isinstance(op, Mean) and op.axes[0] > 1)) and axis == 1 and spread == 1:
            return self.follow(node.output, axis, spread)
        flat = graph.types[node.outputs[0]]
        if isinstance(op, Reshape) and axis == 1 and spread == 1 and flat.rank == 2:
            self.flattened.append(node)
            return self.follow(node.output, 1, prod(graph.types[value].bounds[2:]))
        return f"{node.output} ({op.name}) reads its channels, and cannot do with fewer"

    def cost(self, layer: Node) -> Cost:
        """Of the layer and those that read it, as they are in the graph now."""
        makers = self.graph.producers()
        readers = (layer_cost(self.graph, makers[node.output]) for node, _ in self.readers)
        return sum(readers, layer_cost(self.graph, layer))

    def narrow(self, ties: _Ties) -> None:
        """Fit all that lies behind the layer, which has its fewer channels, to them."""
        graph = self.graph
        for node, spread in self.readers:
            layer = map_of(graph, node)
            assert layer is not None
            made = replace(layer, weight=ties.columns(layer.weight, spread))
            _swap(graph, node, layer_in_place(graph, node, made, node.inputs[0]))
        for node in self.flattened:
            batch, features = graph.types[node.output].shape
            assert isinstance(features, int)
            shape = batch, features // len(ties.group) * len(ties.kept)
            _swap(graph, node, Node(Reshape(shape), node.inputs, node.outputs, node.source))
        for node in graph.nodes:
            types = node.op.infer(*graph.input_types(node))
            graph.types.update(zip(node.outputs, types, strict=True))


def _swap(graph: Graph, old: Node, new: Node) -> None:
    """Put a node in the place of another, whatever the types of what lies between are now."""
    graph.nodes = [new if node is old else node for node in graph.nodes]
