"""Parallel branches of one input that are added become one layer, exactly (层数减少).

    (w1 * x + b1) + (w2 * x + b2)  =  (w1 + w2) * x + (b1 + b2)

where the taps of both kernels are laid over one another at the positions that they read; the smaller kernel is filled
up with zeros. A short cut is a 1x1 kernel with the identity matrix, a scaled one (batch norm, mul by a constant) a
diagonal (Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", 2021, section 3.3). Batch norms behind the
convolutions are folded before. Zeros beyond the border are zeros for all branches, so borders are exact too.

Branches of g1 and g2 groups make one of gcd(g1, g2); a short cut has as many groups as channels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from penjing.compress.structure.affine import affine_of
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
from penjing.ops.add import Add, Sub
from penjing.ops.operator import Cost


@dataclass(frozen=True)
class MergeBranches(Pass):
    """Sums of layers that read the same value become one layer, unless it needs more MACs; `force` merges it still."""

    name = "merge-branches"

    force: bool = False

    def run(self, graph: Graph) -> PassResult:
        """The same function; a merged layer has the names of the branch with the largest kernel."""
        graph = graph.copy()
        changed, declined = [], []
        for output in [node.output for node in graph.nodes if isinstance(node.op, Add | Sub)]:
            total = graph.producers()[output]
            reason = self._merge(graph, total)
            if reason is None:
                changed.append(Remark(str(total), f"{total.inputs[0]} and {total.inputs[1]} merged into one layer"))
                graph.drop_unused_constants()
            else:
                declined.append(Remark(str(total), reason))
        return PassResult(graph, tuple(changed), tuple(declined))

    def _merge(self, graph: Graph, total: Node) -> str | None:
        branches = [_branch(graph, name) for name in total.inputs]
        layers = [b for b in branches if b is not None and b.layer is not None]
        if not layers:
            return "neither operand is made by a plain layer"
        main = max(layers, key=lambda branch: branch.made.weight.size)
        rank = len(main.made.kernel)
        branches = [b or _short_cut(graph, name, rank) for b, name in zip(branches, total.inputs, strict=True)]
        first, second = branches
        if first is None or second is None:
            return "one operand is no plain layer of the same kind and no short cut"
        if first.x != second.x:
            return f"they read different values, {first.x} and {second.x}"
        if any(graph.types[name].shape != graph.types[total.output].shape for name in total.inputs):
            return "their shapes differ"
        if any(only_reader(graph, node.output) is None for branch in (first, second) for node in branch.nodes):
            return "a branch has other readers"
        made = _sum(first.made, second.made, -1 if isinstance(total.op, Sub) else 1)
        if isinstance(made, str):
            return made
        if not made.fits_float32:
            return "the sum leaves float32"
        if made.kernel:
            made = made.fitted(extents_of(graph, first.x), extents_of(graph, total.output))
        return self._apply(graph, total, (first, second), main, made)

    def _apply(
        self, graph: Graph, total: Node, branches: "Sequence[_Branch]", main: "_Branch", made: LinearMap
    ) -> str | None:
        parts = sum((layer_cost(graph, b.layer) for b in branches if b.layer is not None), Cost(0, 0))
        assert main.layer is not None
        old = Node(main.layer.op, main.layer.inputs, total.outputs, main.layer.source)
        trial = graph.copy()
        gone = [node for branch in branches for node in branch.nodes]
        trial.remove_nodes(gone)
        replace_node(trial, total, [old])
        new = layer_in_place(trial, old, made, main.x)
        replace_node(trial, old, [new])
        whole = layer_cost(trial, new)
        if whole.macs > parts.macs and not self.force:
            return f"together they need more: {change_of_cost(parts, whole)}"
        graph.nodes, graph.types, graph.constants = trial.nodes, trial.types, trial.constants
        return None


@dataclass(frozen=True, eq=False)
class _Branch:
    """An operand: what it computes from `x`, and the nodes that leave with it, of which `layer` has a weight."""

    made: LinearMap
    x: str
    nodes: tuple[Node, ...] = ()
    layer: Node | None = None


def _branch(graph: Graph, name: str) -> _Branch | None:
    node = graph.producers().get(name)
    made = map_of(graph, node)
    return None if node is None or made is None else _Branch(made, node.inputs[0], (node,), node)


def _short_cut(graph: Graph, name: str, rank: int) -> _Branch | None:
    """A value as a branch of itself, or of what a scaling node scales; `rank` counts the spatial axes."""
    type_ = graph.types[name]
    if name in graph.constants or type_.rank < 2 or (rank and type_.rank != rank + 2):
        return None
    axis = 1 if rank else -1
    node = graph.producers().get(name)
    affine = affine_of(graph, node, axis)
    channels = type_.bounds[axis]
    scale = np.ones(channels) if affine is None else affine.scale
    shift = np.zeros(channels) if affine is None else affine.shift
    x, nodes = (name, ()) if affine is None or node is None else (affine.x, (node,))
    if not rank:
        return _Branch(LinearMap(np.diag(scale), shift), x, nodes)
    ones, zeros = (1,) * rank, (0,) * rank
    diagonal = scale.reshape(channels, 1, *ones)
    return _Branch(LinearMap(diagonal, shift, ones, zeros, zeros, ones, channels), x, nodes)


def _sum(a: LinearMap, b: LinearMap, sign: int) -> LinearMap | str:
    if len(a.kernel) != len(b.kernel):
        return "one works on features, the other on positions"
    if a.stride != b.stride:
        return f"their strides differ: {a.stride} and {b.stride}"
    groups = math.gcd(a.groups, b.groups)
    a, b = a.regrouped(groups), b.regrouped(groups)
    frames = [_frame(a, b, axis) for axis in range(len(a.kernel))]
    if None in frames:
        return f"the taps of kernels {a.kernel} and {b.kernel} do not fall on one another"
    kept = [frame for frame in frames if frame is not None]
    weight = _laid(a, kept) + sign * _laid(b, kept)
    before = tuple(-frame.start for frame in kept)
    dilation = tuple(frame.step for frame in kept)
    return replace(a, weight=weight, bias=a.bias + sign * b.bias, before=before, dilation=dilation, groups=groups)


@dataclass(frozen=True)
class _Frame:
    """Where `taps` taps of one axis lie, relative to the output's place times the stride: start, start + step, ..."""

    start: int
    step: int
    taps: int


def _frame(a: LinearMap, b: LinearMap, axis: int) -> _Frame | None:
    """The taps that hold those of both along an axis; None where there is no such row of them."""
    own = [_Frame(-m.before[axis], m.dilation[axis], m.kernel[axis]) for m in (a, b)]
    wide = [frame for frame in own if frame.taps > 1]
    distance = own[0].start - own[1].start
    step = wide[0].step if wide else max(1, abs(distance))
    if any(frame.step != step for frame in wide) or distance % step:
        return None
    start = min(frame.start for frame in own)
    last = max(frame.start + (frame.taps - 1) * step for frame in own)
    return _Frame(start, step, (last - start) // step + 1)


def _laid(layer: LinearMap, frames: Sequence[_Frame]) -> np.ndarray:
    """The weight in the frames of a larger kernel."""
    weight = np.zeros((*layer.weight.shape[:2], *(frame.taps for frame in frames)))
    places = tuple(
        slice(start, start + taps)
        for start, taps in (
            ((-before - frame.start) // frame.step, taps)
            for before, taps, frame in zip(layer.before, layer.kernel, frames, strict=True)
        )
    )
    weight[(slice(None), slice(None), *places)] = layer.weight
    return weight
