"""Fewer layers (层数减少) without an error: linear maps with nothing between them become one.

    W2 (W1 x + b1) + b2  =  (W2 W1) x + (W2 b1 + b2)

For convolutions one of the two must be 1x1. Behind a KxK, a 1x1 without padding picks and mixes outputs. In front of
one, it mixes inputs; the zeros that the KxK pads with are the same before and after it only where b1 = 0. Strides
multiply; taps of a KxK behind a strided 1x1 lie `stride` apart. Two maps of g1 and g2 groups make one of gcd(g1, g2).

Scales and shifts of channels (mul, add, sub by constants, batch norm) go into the layer before or behind them, a shift
into one behind them only where that pads nothing. Maps that are the identity, and copies of a node, leave.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from penjing.compress.structure.affine import ChannelAffine, affine_of
from penjing.compress.structure.linear_map import (
    LinearMap,
    change_of_cost,
    extents_of,
    layer_cost,
    layer_in_place,
    map_of,
    only_reader,
    replace_node,
)
from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ops.identity import Identity


@dataclass(frozen=True)
class MergeLayers(Pass):
    """Two linear maps in a row become one, unless the product needs more MACs than both; `force` merges it still."""

    name = "merge-layers"

    force: bool = False

    def run(self, graph: Graph) -> PassResult:
        """The same function; what is merged has the names of the last layer in it."""
        graph = graph.copy()
        changed = []
        while (remark := self._step(graph)) is not None:
            changed.append(remark)
            graph.drop_unused_constants()
        declined = [Remark(str(second), reason) for second, reason in self._reasons(graph)]
        return PassResult(graph, tuple(changed), tuple(declined))

    def _step(self, graph: Graph) -> Remark | None:
        """Make one change, if there is one left to make."""
        for remove in (_remove_identity, _remove_copy):
            remark = remove(graph)
            if remark is not None:
                return remark
        for first, second in _neighbours(graph):
            merged = self._merged(graph, first, second)
            if isinstance(merged, _Merged):
                return merged.apply(graph)
        return None

    def _reasons(self, graph: Graph) -> Iterator[tuple[Node, str]]:
        for first, second in _neighbours(graph):
            reason = self._merged(graph, first, second)
            assert isinstance(reason, str)
            yield second, f"not merged with {first.output}: {reason}"

    def _merged(self, graph: Graph, first: Node, second: Node) -> "_Merged | str":
        """What takes the place of both, or why nothing does."""
        merged = self._combined(graph, first, second)
        if isinstance(merged, _Merged) and not merged.made.fits_float32:
            return "the product leaves float32"
        if isinstance(merged, _Merged) and not self.force:
            return merged.unless_dearer(graph)
        return merged

    def _combined(self, graph: Graph, first: Node, second: Node) -> "_Merged | str":
        """What computes both, whatever it costs, or why nothing can."""
        if only_reader(graph, first.output) is None:
            return "other places read what lies between"
        before, behind = map_of(graph, first), map_of(graph, second)
        if before is not None and behind is not None:
            made = _product(graph, first, before, second, behind)
            if isinstance(made, str):
                return made
            return _Merged(first, second, made, first.inputs[0], second)
        if before is not None:
            affine = affine_of(graph, second, before.channel_axis)
            assert affine is not None
            return _Merged(first, second, _scaled_behind(before, affine), first.inputs[0], first)
        assert behind is not None
        affine = affine_of(graph, first, behind.channel_axis)
        assert affine is not None
        if behind.padded and affine.shift.any():
            return "the zeros that it pads with are not shifted"
        return _Merged(first, second, _scaled_in_front(behind, affine), affine.x, second)


@dataclass(frozen=True, eq=False)
class _Merged:
    """`made`, which reads x, in the place of two nodes; its constants are named as those of `named`."""

    first: Node
    second: Node
    made: LinearMap
    x: str
    named: Node

    def apply(self, graph: Graph) -> Remark:
        """Change the graph."""
        old = Node(self.named.op, self.named.inputs, self.second.outputs, self.named.source)
        replace_node(graph, self.first, [])
        replace_node(graph, self.second, [old])
        replace_node(graph, old, [layer_in_place(graph, old, self.made, self.x)])
        del graph.types[self.first.output]
        return Remark(str(self.second), f"merged with {self.first.output} ({self.first.op.name})")

    def unless_dearer(self, graph: Graph) -> "_Merged | str":
        """Itself, or that it costs more than its parts."""
        trial = graph.copy()
        parts = layer_cost(graph, self.first) + layer_cost(graph, self.second)
        self.apply(trial)
        whole = layer_cost(trial, trial.producers()[self.second.output])
        return f"together they need more: {change_of_cost(parts, whole)}" if whole.macs > parts.macs else self


def _neighbours(graph: Graph) -> Iterator[tuple[Node, Node]]:
    """Nodes in a row that are both linear maps, one of them a layer."""
    producers = graph.producers()
    for second in graph.nodes:
        first = producers.get(second.inputs[0])
        behind = map_of(graph, second)
        if behind is None:
            sources = [producers[name] for name in second.inputs if name in producers]
            for source in sources:
                before = map_of(graph, source)
                if before is not None and affine_of(graph, second, before.channel_axis) is not None:
                    yield source, second
        elif first is not None and (map_of(graph, first) or affine_of(graph, first, behind.channel_axis)):
            yield first, second


def _product(graph: Graph, first: Node, before: LinearMap, second: Node, behind: LinearMap) -> LinearMap | str:
    if len(before.kernel) != len(behind.kernel):
        return "one works on features, the other on positions"
    if not before.kernel or behind.pointwise:
        if behind.padded:
            return "the second pads what the first made"
        made = _mixed_behind(before, behind)
    elif before.pointwise:
        if before.padded:
            return "the first is a 1x1 that pads"
        if behind.padded and before.bias.any():
            return "the zeros that the second pads with lack the first one's bias"
        made = _mixed_in_front(before, behind)
    else:
        return "neither kernel is 1x1"
    return made.fitted(extents_of(graph, first.inputs[0]), extents_of(graph, second.output)) if made.kernel else made


def _mixed_behind(before: LinearMap, behind: LinearMap) -> LinearMap:
    """A map of any kernel, then a pointwise one without padding."""
    groups = math.gcd(before.groups, behind.groups)
    inner, outer = _blocks(before.regrouped(groups)), _blocks(behind.regrouped(groups))
    weight = np.einsum("gom,gmi...->goi...", outer.reshape(outer.shape[:3]), inner, optimize=True)
    bias = np.einsum("gom,gm->go", outer.reshape(outer.shape[:3]), before.bias.reshape(groups, -1)).reshape(-1)
    stride = tuple(a * b for a, b in zip(before.stride, behind.stride, strict=True))
    return replace(before, weight=_flat(weight), bias=bias + behind.bias, stride=stride, groups=groups)


def _mixed_in_front(before: LinearMap, behind: LinearMap) -> LinearMap:
    """A pointwise map without padding, then one of any kernel that pads only where the first has no bias."""
    groups = math.gcd(before.groups, behind.groups)
    inner, outer = _blocks(before.regrouped(groups)), _blocks(behind.regrouped(groups))
    weight = np.einsum("gom...,gmi->goi...", outer, inner.reshape(inner.shape[:3]), optimize=True)
    bias = np.einsum("gom,gm->go", _tap_sums(outer), before.bias.reshape(groups, -1)).reshape(-1)
    stride, pads, dilation = (
        tuple(a * b for a, b in zip(before.stride, of, strict=True))
        for of in (behind.stride, behind.before, behind.dilation)
    )
    made = replace(behind, weight=_flat(weight), bias=bias + behind.bias, groups=groups)
    return replace(made, stride=stride, before=pads, dilation=dilation)


def _scaled_behind(layer: LinearMap, affine: ChannelAffine) -> LinearMap:
    scale = affine.scale.reshape(-1, *(1,) * (layer.weight.ndim - 1))
    return replace(layer, weight=layer.weight * scale, bias=layer.bias * affine.scale + affine.shift)


def _scaled_in_front(layer: LinearMap, affine: ChannelAffine) -> LinearMap:
    blocks = _blocks(layer)
    scale, shift = affine.scale.reshape(layer.groups, -1), affine.shift.reshape(layer.groups, -1)
    bias = np.einsum("goi,gi->go", _tap_sums(blocks), shift).reshape(-1)
    weight = blocks * scale.reshape(layer.groups, 1, -1, *(1,) * len(layer.kernel))
    return replace(layer, weight=_flat(weight), bias=layer.bias + bias)


def _blocks(layer: LinearMap) -> np.ndarray:
    """(groups, O / groups, I / groups, *kernel)."""
    return layer.weight.reshape(layer.groups, -1, *layer.weight.shape[1:])


def _tap_sums(blocks: np.ndarray) -> np.ndarray:
    """(groups, O / groups, I / groups): what a constant input is multiplied by, where nothing is padded."""
    sums: np.ndarray = blocks.sum(axis=tuple(range(3, blocks.ndim)))
    return sums


def _flat(blocks: np.ndarray) -> np.ndarray:
    return blocks.reshape(-1, *blocks.shape[2:])


def _remove_identity(graph: Graph) -> Remark | None:
    for node in graph.nodes:
        x = _passed_on(graph, node)
        if x is None or (node.output in graph.outputs and (x in graph.inputs or x in graph.outputs)):
            continue
        graph.replace_value(node.output, x)
        graph.remove_nodes([other for other in graph.nodes if other.outputs == node.outputs])
        return Remark(str(node), f"it is the identity of {x}")
    return None


def _passed_on(graph: Graph, node: Node) -> str | None:
    """The value that a node passes on unchanged, if it does no more."""
    if isinstance(node.op, Identity):
        return node.inputs[0]
    layer = map_of(graph, node)
    if layer is not None:
        square = layer.pointwise and not layer.padded and set(layer.stride) <= {1} and not layer.bias.any()
        whole = layer.regrouped(1).weight if square else None
        same = whole is not None and np.array_equal(whole.reshape(whole.shape[:2]), np.eye(*whole.shape[:2]))
        return node.inputs[0] if same and whole is not None and whole.shape[0] == whole.shape[1] else None
    affine = affine_of(graph, node, 1 if graph.types[node.outputs[0]].rank > 1 else 0)
    return affine.x if affine is not None and (affine.scale == 1).all() and not affine.shift.any() else None


def _remove_copy(graph: Graph) -> Remark | None:
    seen: dict[tuple[object, ...], Node] = {}
    for node in graph.nodes:
        first = seen.setdefault((node.op, node.inputs), node)
        if first is node or graph.sinks() & {*node.outputs}:
            continue
        for old, new in zip(node.outputs, first.outputs, strict=True):
            graph.replace_value(old, new)
        graph.remove_nodes([other for other in graph.nodes if other.outputs == node.outputs])
        return Remark(str(node), f"it computes what {first.output if len(first.outputs) == 1 else first} holds")
    return None
