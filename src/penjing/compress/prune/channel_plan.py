"""Which units go: the least of each group first, in steps that leave whole tiles, until a ratio or a budget is met.

A group keeps a multiple of `round_to` channels, of which a head of attention has many, and never fewer than one step.
To meet a budget of multiply-accumulates, of all cuts of one group the one that saves most work for what it loses is
taken, again and again:

    next cut = argmax over groups and numbers of units of (work saved) / (scores of the units lost)

Work is multiply-accumulates with output channels counted in whole vectors of 16, as kernels compute them: from 32
outputs to 24, or hidden units of a recurrent layer, nothing is saved in the layer itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from penjing.compress.prune.channel_scores import TINY
from penjing.compress.prune.dependency_groups import ChannelGroup, Place
from penjing.core.errors import PruningError
from penjing.ir.graph import Graph, Node
from penjing.ir.types import Type
from penjing.ops.operator import Operator

VECTOR = 16  # output channels of one vector


@dataclass(frozen=True, eq=False)
class Ranked:
    """A group with the scores (units,) of its units."""

    group: ChannelGroup
    scores: NDArray[np.float64]

    def least(self, count: int) -> NDArray[np.bool_]:
        """Mask of the `count` units with the lowest scores; of equals, the first."""
        mask = np.zeros(self.group.size, np.bool_)
        mask[np.argsort(self.scores, kind="stable")[:count]] = True
        return mask


def by_ratio(ranked: Sequence[Ranked], ratio: Mapping[str, float], round_to: int) -> list[int]:
    """How many units each group loses when each loses at most its own ratio."""
    counts = []
    for one in ranked:
        wanted = math.floor(_exact(ratio.get(one.group.name, 0.0)) * one.group.size)
        counts.append(_rounded(one.group.size, wanted, one.group.step(round_to)))
    return counts


def by_global_ratio(ranked: Sequence[Ranked], ratio: float, round_to: int) -> list[int]:
    """How many units each group loses when the lowest scores of all go, at most `ratio` of all units."""
    scores = np.concatenate([one.scores for one in ranked])
    owner = np.repeat(np.arange(len(ranked)), [one.group.size for one in ranked])
    lost = owner[np.argsort(scores, kind="stable")[: math.floor(_exact(ratio) * len(scores))]]
    counts = np.bincount(lost, minlength=len(ranked))
    return [_rounded(one.group.size, int(n), one.group.step(round_to)) for one, n in zip(ranked, counts, strict=True)]


def by_macs(graph: Graph, ranked: Sequence[Ranked], share: float, round_to: int) -> list[int]:
    """How many units each group loses so that at most `share` of the graph's multiply-accumulates are left.

    Raises:
        PruningError: the smallest graph that leaves every group one step has more.
    """
    macs, vectors = _Work(graph, ranked, 1), _Work(graph, ranked, VECTOR)
    lost = [0] * len(ranked)
    whole = macs.total(lost)
    while (now := macs.total(lost)) > share * whole:
        best = _best_cut(vectors, ranked, lost, round_to)
        if best is None:
            raise PruningError(
                f"{share:.3g} of the multiply-accumulates may be left; the fewest possible are {now / whole:.3g}",
                where=f"graph {graph.name}",
                hint="raise the share, or lower round_to",
            )
        lost[best[0]] = best[1]
    while (back := _best_return(macs, ranked, lost, share * whole - macs.total(lost), round_to)) is not None:
        lost[back[0]] = back[1]
    return lost


def total_macs(graph: Graph) -> int:
    """Multiply-accumulates of one sample in a float graph."""
    return round(_Work(graph, (), 1).total(()))


class _Work:
    """Multiply-accumulates by how many units each group has lost, outputs counted in whole vectors."""

    def __init__(self, graph: Graph, ranked: Sequence[Ranked], vector: int) -> None:
        self._graph, self._ranked, self._vector = graph, ranked, vector
        nodes: list[tuple[Operator, Node]] = [(n.op, n) for n in graph.nodes if isinstance(n.op, Operator)]
        self._nodes = [(op, n) for op, n in nodes if op.cost(graph.input_types(n), graph.output_types(n)).macs]
        touched = [{value for value, _ in one.group.slices} for one in ranked]
        self._touched = [[n for n in self._nodes if values & {*n[1].inputs, *n[1].outputs}] for values in touched]

    def total(self, lost: Sequence[int]) -> float:
        """Of all layers."""
        return sum(self._of(op, node, self._gone(lost)) for op, node in self._nodes)

    def near(self, group: int, lost: Sequence[int], count: int) -> float:
        """Of the layers that a group touches, once it has lost `count` units."""
        gone = self._gone([*lost[:group], count, *lost[group + 1 :]])
        return sum(self._of(op, node, gone) for op, node in self._touched[group])

    def _gone(self, lost: Sequence[int]) -> dict[Place, int]:
        gone: dict[Place, int] = {}
        for one, count in zip(self._ranked, lost, strict=True):
            for place, indices in one.group.slices.items() if count else ():
                gone[place] = gone.get(place, 0) + count * indices.shape[1]
        return gone

    def _of(self, op: Operator, node: Node, gone: Mapping[Place, int]) -> float:
        def left(name: str) -> Type:
            extents = self._graph.types[name].bounds
            return Type(tuple(n - gone.get((name, axis), 0) for axis, n in enumerate(extents)))

        inputs = tuple(left(name) for name in node.inputs if name)
        outputs = tuple(map(left, node.outputs))
        macs = op.cost(inputs, outputs).macs
        made = self._vector
        if op.weight_input is not None:
            made = inputs[op.weight_input].bounds[op.weight_axis]
        elif op.recurrent_weights:
            made = outputs[-1].bounds[-1]  # hidden units, also of a layer whose first output is projected
        return macs * (-(-made // self._vector) * self._vector / made)


def _best_cut(work: _Work, ranked: Sequence[Ranked], lost: Sequence[int], round_to: int) -> tuple[int, int] | None:
    """(Group, its new loss) that saves most for what it costs, or None where no group has more to give."""
    best, best_gain = None, -1.0
    for i, one in enumerate(ranked):
        now = work.near(i, lost, lost[i])
        losses = np.cumsum(np.sort(one.scores)[lost[i] :])
        for after in _further(one.group.size, lost[i], one.group.step(round_to)):
            gain = (now - work.near(i, lost, after)) / max(float(losses[after - lost[i] - 1]), TINY)
            if gain > best_gain:
                best, best_gain = (i, after), gain
    return best


def _best_return(
    work: _Work, ranked: Sequence[Ranked], lost: Sequence[int], room: float, round_to: int
) -> tuple[int, int] | None:
    """(Group, its new loss) that gives most scores back within `room`, as long as no vector is broken, or None."""
    best, best_worth = None, 0.0
    for i, one in enumerate(ranked):
        now, losses = work.near(i, lost, lost[i]), np.cumsum([0.0, *np.sort(one.scores)])
        for fewer in (0, *_further(one.group.size, 0, one.group.step(round_to))):
            kept = (one.group.size - fewer) * one.group.width
            worth = float(losses[lost[i]] - losses[min(fewer, lost[i])])
            if worth <= best_worth or (fewer and kept > VECTOR and kept % VECTOR):
                continue
            if work.near(i, lost, fewer) - now <= room:
                best, best_worth = (i, fewer), worth
    return best


def _rounded(size: int, wanted: int, step: int) -> int:
    """The most units, up to `wanted`, whose loss leaves a multiple of `step`."""
    kept = max(-(-(size - wanted) // step) * step, step)
    return max(size - kept, 0)


def _further(size: int, lost: int, step: int) -> list[int]:
    """All losses beyond `lost` that leave a multiple of `step`."""
    most = (size - lost - 1) // step * step
    return [size - kept for kept in range(most, 0, -step)]


def _exact(ratio: float) -> Fraction:
    return Fraction(repr(float(ratio)))  # through the decimal text: 0.29 of 100 is 29
