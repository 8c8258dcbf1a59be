"""Channels that training and pruning have left without a part in the result go, and nothing else changes.

* *unread*: every weight that reads the channel is zero.
* *constant*: every weight that makes the channel is zero, so its value is the same for every input. What it adds to the
  layers that read it moves into their biases:  b' = b + sum over taps of w[:, c] * value.

Both are exact up to the rounding of one float sum. A constant channel stays where a convolution pads it: at the border
its part of the sum is another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penjing.compress.prune.channel_scores import INPUT_AXIS
from penjing.compress.prune.dependency_groups import ChannelGroup, dependency_groups
from penjing.compress.prune.remove_slices import remove_slices, slices_of
from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ops.evaluate import evaluate
from penjing.ops.layers import add_to_bias, bias_of, groups_of, layer_nodes
from penjing.ops.operator import Operator

_Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class RemoveDeadChannels(Pass):
    """Remove channels that nothing reads, or that are the same for every input."""

    name = "remove-dead-channels"

    def run(self, graph: Graph) -> PassResult:
        """A smaller graph that computes the same. Every group keeps one channel."""
        gone: dict[str, int] = {}
        while True:
            found, declined = _first_dead(graph)
            if found is None:
                break
            name, count, graph = found
            gone[name] = gone.get(name, 0) + count
        changed = [Remark(name, f"{count} dead channels are gone") for name, count in gone.items()]
        return PassResult(graph if gone else graph.copy(), tuple(changed), declined)


def _first_dead(graph: Graph) -> tuple[tuple[str, int, Graph] | None, tuple[Remark, ...]]:
    """The first group that has dead channels, how many, and the graph without them; and why others have none.

    One group at a time: what goes here may be all that kept a channel of another group alive.
    """
    declined = []
    graph = graph.copy()
    values = _values(graph)
    for group in dependency_groups(graph).groups:
        layers = _Layers.of(graph, group)
        if layers is None:
            declined.append(
                Remark(group.name, "its channels do not simply go from some layers to others (fold batch norms first)")
            )
            continue
        unread = layers.all_zero(graph, layers.readers)
        constant = layers.all_zero(graph, layers.makers) & ~unread
        movable = constant & layers.movable(graph, values)
        gone = _all_but_one(unread | movable)
        if gone.any():
            removed = slices_of([(group, gone)])
            if (movable & gone).any():
                layers.move(graph, values, movable & gone)
            return (group.name, int(gone.sum()), remove_slices(graph, removed)), ()
        padded = int((constant & ~movable).sum())
        declined.append(Remark(group.name, f"{padded} constant channels are padded" if padded else "none is dead"))
    return None, tuple(declined)


@dataclass(frozen=True, eq=False)
class _Layers:
    """The layers that make and those that read the channels of a group, by the constants of their weights."""

    group: ChannelGroup
    makers: Mapping[tuple[str, int], Node]
    readers: Mapping[tuple[str, int], Node]

    @classmethod
    def of(cls, graph: Graph, group: ChannelGroup) -> "_Layers | None":
        """None where the channels do not simply go from some layers to others."""
        weights = {layer.weight: layer.node for layer in layer_nodes(graph)}
        makers: dict[tuple[str, int], Node] = {}
        readers: dict[tuple[str, int], Node] = {}
        for place in group.slices:
            name, axis = place
            if name not in graph.constants:
                continue
            node = weights.get(name)
            if node is None:
                # a bias goes with its layer; any other constant could give a channel its value
                if not any(name == bias_of(maker) for maker in weights.values()):
                    return None
                continue
            if groups_of(node) != 1 or len(graph.users()[name]) > 1:
                return None
            assert isinstance(node.op, Operator)
            (makers if axis == node.op.weight_axis else readers)[place] = node
        is_loop = any(maker is reader for maker in makers.values() for reader in readers.values())
        if not makers or is_loop or any(axis != INPUT_AXIS for _, axis in readers):
            return None
        return cls(group, makers, readers)

    def all_zero(self, graph: Graph, places: Mapping[tuple[str, int], Node]) -> _Mask:
        """(units,) where all weights at these places are zero."""
        zero = np.ones(self.group.size, np.bool_)
        for name, axis in places:
            other = tuple(i for i in range(graph.constants[name].array.ndim) if i != axis)
            used = np.asarray(graph.constants[name].array.any(axis=other))
            zero &= ~used[self.group.slices[name, axis]].any(axis=1)
        return zero

    def movable(self, graph: Graph, values: Mapping[str, np.ndarray]) -> _Mask:
        """(units,) whether each reader can take the channel's value into its bias."""
        fits = np.ones(self.group.size, np.bool_)
        for place, node in self.readers.items():
            x = self._read(values, place, node)
            flat = x.reshape(*x.shape[:2], -1)
            same = (flat == flat[..., :1]).all(axis=-1)
            unpadded = not any(getattr(node.op, "padding", ()))
            fits &= (same & (unpadded | (flat[..., 0] == 0))).all(axis=1)
        return fits

    def move(self, graph: Graph, values: Mapping[str, np.ndarray], units: _Mask) -> None:
        """Add what these constant channels give to the biases of their readers."""
        for place, node in self.readers.items():
            indices = self.group.slices[place][units].ravel()
            x = self._read(values, place, node)[units].reshape(len(indices), -1)
            if not x.any():
                continue
            w = graph.constants[place[0]].array.astype(np.float64)
            columns = w.reshape(*w.shape[:2], -1).sum(axis=2)[:, indices]
            add_to_bias(graph, node, place[0], columns @ x[:, 0].astype(np.float64))

    def _read(self, values: Mapping[str, np.ndarray], place: tuple[str, int], node: Node) -> np.ndarray:
        """(units, n, ...): what the reader sees of each unit, sample 0."""
        value = values[node.inputs[0]][0]
        channels = np.moveaxis(value, -1, 0) if node.op.name == "linear" else value
        read: np.ndarray = channels[self.group.slices[place]]
        return read


def _values(graph: Graph) -> dict[str, np.ndarray]:
    """Every value for one sample of zeros: constant channels have theirs for any."""
    values: dict[str, np.ndarray] = {}
    types = [graph.types[name] for name in graph.inputs]
    inputs = [np.zeros((1, *type_.bounds[1:]), type_.dtype.numpy) for type_ in types]
    evaluate(graph, *inputs, watch=lambda name, array: values.update({name: array}))
    return values


def _all_but_one(gone: _Mask) -> _Mask:
    if gone.all():
        gone = gone.copy()
        gone[0] = False
    return gone
