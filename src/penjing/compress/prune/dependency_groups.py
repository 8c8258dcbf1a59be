"""Which slices of a graph's constants can only be removed together.

Every operator says which slices of its inputs and outputs go together (`penjing.ops.coupling`). Here these statements
are joined over the graph: its slices (value, axis, index) are vertices, what goes together are edges, and a connected
component is a *unit*, the least that can be removed: a channel with all filters, biases, batch norm parameters and
filter planes that make or read it, through every shortcut. Units that touch the same axes equally often are alike and
form a *group*: of these any number but the last can go.

A component stays whole with everything in it when it reaches an input or output of the graph, the batch, or an axis
that some operator needs whole. Attention needs no more than that: an operator that multiplies heads says that a head's
slices of queries, keys and values have one label.

(After Fang et al., "DepGraph: Towards Any Structural Pruning", 2023, sections 3.1 and 3.2.)
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penjing.ir.graph import Graph, Node
from penjing.ir.types import Dim, Names
from penjing.ops.coupling import FREE, Coupling, Port, Tie
from penjing.ops.layers import weight_nodes
from penjing.ops.operator import Operator

# A value and one of its axes.
Place = tuple[str, int]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Units that are alike, in the order in which they lie.

    Attributes:
        name: the first weight whose output channels they are, or else the first constant that they touch.
        slices: place -> (units, n) indices: the slices of each unit there.
        width: channels of a unit that the layer puts out from which the group has its name: of a head of attention as
            many as features, of a hidden unit one, however many rows its gates have.
    """

    name: str
    slices: Mapping[Place, Indices]
    width: int = 1

    @property
    def size(self) -> int:
        """Number of units."""
        return len(next(iter(self.slices.values())))

    def step(self, channels: int) -> int:
        """The fewest units that are a multiple of so many channels."""
        return channels // math.gcd(channels, self.width)


@dataclass(frozen=True, eq=False)
class DependencyGroups:
    """What can be removed from a graph, and what cannot.

    Attributes:
        groups: in the order of the layers they are named by.
        frozen: weight -> why none of its output channels can go.
    """

    groups: tuple[ChannelGroup, ...]
    frozen: Mapping[str, str]


def dependency_groups(graph: Graph) -> DependencyGroups:
    """All groups of a graph of network operators that hold slices of constants."""
    slices = _Slices(graph)
    return DependencyGroups(tuple(_groups(slices)), _frozen_weights(slices))


class _Slices:
    """The slices of a graph as numbers, their edges, and why some of them must stay."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.places: list[Place] = [(v, axis) for v, t in graph.types.items() for axis in range(t.rank)]
        extents = [graph.types[value].bounds[axis] for value, axis in self.places]
        self.first = dict(zip(self.places, np.cumsum([0, *extents[:-1]]), strict=True))
        self.place = np.repeat(np.arange(len(extents)), extents)
        self.root: Indices = np.arange(len(self.place))
        self.reasons: list[str] = []
        self.reason: Indices = np.full(len(self.place), np.iinfo(np.int64).max)  # number of a reason, by root
        self._freeze_ends()
        nodes = [(node, _said(graph, node)) for node in graph.nodes]
        for node, said in nodes:
            self._freeze_whole(node, said)
        self._join([self._edges(node, tie) for node, said in nodes for tie in said.ties])
        for node, said in nodes:
            for options in said.choices:
                self._choose(node, options)

    def span(self, place: Place) -> slice:
        """Numbers of the slices along one axis."""
        start = int(self.first[place])
        return slice(start, start + self.graph.types[place[0]].bounds[place[1]])

    def is_frozen(self, numbers: slice | Indices) -> NDArray[np.bool_]:
        """Whether each of these slices must stay."""
        frozen: NDArray[np.bool_] = self.reason[self.root[numbers]] < len(self.reasons)
        return frozen

    def _freeze(self, place: Place, reason: str) -> None:
        if reason not in self.reasons[-1:]:
            self.reasons.append(reason)
        np.minimum.at(self.reason, self.root[self.span(place)], len(self.reasons) - 1)

    def _freeze_ends(self) -> None:
        graph = self.graph
        ends = {name: f"%{name} is an output of the graph" for name in graph.outputs}
        ends |= {name: f"%{name} is an input of the graph" for name in graph.inputs}
        ends |= {name: f"%{name} is kept for the next call" for name in graph.sinks() - {*graph.outputs}}
        ends |= {name: f"%{name} is kept from the last call" for name in graph.states}
        for value, axis in self.places:
            extent = graph.types[value].shape[axis]
            if value in ends:
                self._freeze((value, axis), ends[value])
            elif value not in graph.constants and (axis == 0 or isinstance(extent, Dim)):
                self._freeze((value, axis), f"axis {axis} of %{value} is the batch or a length")

    def _freeze_whole(self, node: Node, said: Coupling) -> None:
        """Axes that the operator does not speak of."""
        options = [tie for choice in said.choices for tie in choice]
        mentioned = {(_value(node, end.port), end.axis) for tie in (*said.ties, *options) for end in tie}
        for value in (*node.inputs, *node.outputs):
            for axis in range(self.graph.types[value].rank if value else 0):
                if (value, axis) not in mentioned:
                    self._freeze((value, axis), f"{node} needs axis {axis} of %{value} whole")

    def _choose(self, node: Node, options: tuple[Tie, ...]) -> None:
        """Take the first option along which something can go; the axes of the others stay."""
        best = next((tie for tie in options if self._is_open(node, tie)), options[0])
        self._join([self._edges(node, best)])
        taken = {(end.port, end.axis) for end in best}
        for end in (end for tie in options for end in tie if (end.port, end.axis) not in taken):
            value = _value(node, end.port)
            self._freeze((value, end.axis), f"{node} cuts along another axis than {end.axis} of %{value}")

    def _is_open(self, node: Node, tie: Tie) -> bool:
        """Whether some label has no slice that must stay."""
        labels = np.concatenate([end.labels for end in tie])
        frozen = np.concatenate([self.is_frozen(self.span((_value(node, end.port), end.axis))) for end in tie])
        return bool(np.setdiff1d(labels, [*labels[frozen], FREE]).size)

    def _edges(self, node: Node, tie: Tie) -> Indices:
        """(n, 2) pairs of slices with one label."""
        labels = np.concatenate([end.labels for end in tie])
        spans = [self.span((_value(node, end.port), end.axis)) for end in tie]
        numbers = np.concatenate([np.arange(span.start, span.stop) for span in spans])
        order = np.argsort(labels, kind="stable")
        order = order[labels[order] != FREE]
        together = labels[order[1:]] == labels[order[:-1]]
        edges: Indices = np.stack([numbers[order[:-1]], numbers[order[1:]]], axis=1)[together]
        return edges

    def _join(self, edges: list[Indices]) -> None:
        """Let the slices at both ends of every edge have one root: the least number of their component."""
        pairs = np.concatenate([np.empty((0, 2), np.int64), *edges])
        root = self.root
        while True:
            a, b = root[pairs[:, 0]], root[pairs[:, 1]]
            if np.array_equal(a, b):
                break
            np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
            while not np.array_equal(root, root[root]):
                root = root[root]
        self.root = root
        np.minimum.at(self.reason, root, self.reason.copy())


def _said(graph: Graph, node: Node) -> Coupling:
    if not isinstance(node.op, Operator):
        return Coupling()
    inputs = tuple(graph.types[name] if name else None for name in node.inputs)
    return node.op.coupling(inputs, graph.output_types(node))


def _value(node: Node, port: Port) -> str:
    side, place = port
    return node.inputs[place] if side == "input" else node.outputs[place]


def _groups(slices: _Slices) -> Iterator[ChannelGroup]:
    free = np.flatnonzero(~slices.is_frozen(slice(None)))
    order = free[np.argsort(slices.root[free], kind="stable")]
    units = np.split(order, np.flatnonzero(np.diff(slices.root[order])) + 1) if len(order) else []
    alike: dict[tuple[tuple[int, int], ...], list[Indices]] = {}
    for unit in units:  # its slices in ascending order, so place by place
        touched, counts = np.unique(slices.place[unit], return_counts=True)
        signature = tuple(zip(touched.tolist(), counts.tolist(), strict=True))
        alike.setdefault(signature, []).append(unit)
    weights, others = _names(slices.graph)
    found = []
    for signature, members in alike.items():
        places = [slices.places[i] for i, _ in signature]
        order_of = [weights.index(p) for p in places if p in weights]
        order_of += [len(weights) + others.index(value) for value, _ in places if value in others]
        if order_of:
            found.append((min(order_of), signature, np.stack(members)))
    names = Names()
    for first, signature, members_ in sorted(found, key=lambda item: item[0]):
        name = weights[first][0] if first < len(weights) else others[first - len(weights)]
        found_at = _by_place(slices, signature, members_)
        width = _width(slices.graph, name, found_at) if first < len(weights) else 1
        yield ChannelGroup(names.fresh(name), found_at, width)


def _width(graph: Graph, weight: str, slices: Mapping[Place, Indices]) -> int:
    made = {value for found in weight_nodes(graph) if found.weight == weight for value in found.node.outputs}
    return min(int(indices.shape[1]) for (value, _), indices in slices.items() if value in made)


def _by_place(slices: _Slices, signature: tuple[tuple[int, int], ...], units: Indices) -> dict[Place, Indices]:
    found, column = {}, 0
    for number, count in signature:
        place = slices.places[number]
        found[place] = units[:, column : column + count] - slices.first[place]
        column += count
    return found


def _names(graph: Graph) -> tuple[list[Place], list[str]]:
    """Weights with their axis of output channels, and all constants, in the order of the nodes that read them."""
    weights = dict.fromkeys((weight.weight, weight.op.weight_axis) for weight in weight_nodes(graph))
    read = [name for node in graph.nodes for name in node.inputs if name in graph.constants]
    return list(weights), list(dict.fromkeys(read))


def _frozen_weights(slices: _Slices) -> dict[str, str]:
    found = {}
    for place in _names(slices.graph)[0]:
        span = slices.span(place)
        if slices.is_frozen(span).all():
            found[place[0]] = slices.reasons[int(slices.reason[slices.root[span]].min())]
    return found
