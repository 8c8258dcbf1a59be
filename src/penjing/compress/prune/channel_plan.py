"""Which units go: the least of each group first, in steps that leave whole tiles, until a ratio or a budget is met.

A group keeps a multiple of `round_to` units and never fewer than one step. To meet a budget of multiply-accumulates, of
all cuts of one group the one that saves most work for what it loses is taken, again and again:

    next cut = argmax over groups and numbers of units of (work saved) / (scores of the units lost)

Work is multiply-accumulates with output channels counted in whole vectors of 16, as kernels compute them: from 32
outputs to 24 nothing is saved in the layer itself.
"""

import math
from collections.abc import Callable, Mapping, Sequence
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
        counts.append(_rounded(one.group.size, wanted, round_to))
    return counts


def by_global_ratio(ranked: Sequence[Ranked], ratio: float, round_to: int) -> list[int]:
    """How many units each group loses when the lowest scores of all go, at most `ratio` of all units."""
    scores = np.concatenate([one.scores for one in ranked])
    owner = np.repeat(np.arange(len(ranked)), [one.group.size for one in ranked])
    lost = owner[np.argsort(scores, kind="stable")[: math.floor(_exact(ratio) * len(scores))]]
    counts = np.bincount(lost, minlength=len(ranked))
    return [_rounded(one.group.size, int(n), round_to) for one, n in zip(ranked, counts, strict=True)]


def by_macs(graph: Graph, ranked: Sequence[Ranked], share: float, round_to: int) -> list[int]:
    """How many units each group loses so that at most `share` of the graph's multiply-accumulates are left.

    Raises:
        PruningError: the smallest graph that leaves every group one step has more.
    """
    macs = _macs(graph)
    limit = share * macs({})
    lost = [0] * len(ranked)
    while (now := macs(_gone(ranked, lost))) > limit:
        best = _best_cut(graph, ranked, lost, round_to)
        if best is None:
            raise PruningError(
                f"at most {share:.3g} of the multiply-accumulates are wanted; the fewest possible are "
                f"{now / macs({}):.3g}",
                where=f"graph {graph.name}",
                hint="raise the share, or lower round_to",
            )
        lost = best
    return _given_back(ranked, lost, lambda some: macs(_gone(ranked, some)) <= limit, round_to)


def _given_back(
    ranked: Sequence[Ranked], lost: list[int], fits: Callable[[Sequence[int]], bool], round_to: int
) -> list[int]:
    """`lost` without what was taken beyond the budget, the highest scores first, as long as no vector is broken."""
    losses = [np.concatenate([[0.0], np.cumsum(np.sort(one.scores))]) for one in ranked]
    while True:
        best, best_worth = lost, 0.0
        for i, one in enumerate(ranked):
            size = one.group.size
            for fewer in (0, *_further(size, 0, round_to)):
                if size - fewer > VECTOR and (size - fewer) % VECTOR and fewer:
                    continue
                worth = float(losses[i][lost[i]] - losses[i][fewer])
                less = [*lost[:i], fewer, *lost[i + 1 :]]
                if fewer < lost[i] and worth > best_worth and fits(less):
                    best, best_worth = less, worth
        if best is lost:
            return lost
        lost = best


def _best_cut(graph: Graph, ranked: Sequence[Ranked], lost: Sequence[int], round_to: int) -> list[int] | None:
    """`lost` with more of one group, or None where no group has more to give."""
    work = _macs(graph, vector=VECTOR)
    now = work(_gone(ranked, lost))
    best, best_gain = None, -1.0
    for i, one in enumerate(ranked):
        losses = np.cumsum(np.sort(one.scores)[lost[i] :])
        for after in _further(one.group.size, lost[i], round_to):
            cut = [*lost[:i], after, *lost[i + 1 :]]
            gain = (now - work(_gone(ranked, cut))) / max(float(losses[after - lost[i] - 1]), TINY)
            if gain > best_gain:
                best, best_gain = cut, gain
    return best


def total_macs(graph: Graph) -> int:
    """Multiply-accumulates of one sample in a float graph."""
    return round(_macs(graph)({}))


def _macs(graph: Graph, vector: int = 1) -> Callable[[Mapping[Place, int]], float]:
    """A function of how many slices are gone from every place; outputs count in whole vectors."""
    nodes: list[tuple[Operator, Node]] = [(n.op, n) for n in graph.nodes if isinstance(n.op, Operator)]
    working = [(op, n) for op, n in nodes if op.cost(graph.input_types(n), graph.output_types(n)).macs]

    def total(gone: Mapping[Place, int]) -> float:
        def left(name: str) -> Type:
            extents = graph.types[name].bounds
            return Type(tuple(n - gone.get((name, axis), 0) for axis, n in enumerate(extents)))

        found = 0.0
        for op, node in working:
            inputs = tuple(left(name) for name in node.inputs if name)
            made = inputs[op.weight_input].bounds[op.weight_axis] if op.weight_input is not None else vector
            found += op.cost(inputs, tuple(map(left, node.outputs))).macs * (-(-made // vector) * vector / made)
        return found

    return total


def _gone(ranked: Sequence[Ranked], lost: Sequence[int]) -> dict[Place, int]:
    gone: dict[Place, int] = {}
    for one, count in zip(ranked, lost, strict=True):
        for place, indices in one.group.slices.items() if count else ():
            gone[place] = gone.get(place, 0) + count * indices.shape[1]
    return gone


def _rounded(size: int, wanted: int, round_to: int) -> int:
    """The most units, up to `wanted`, whose loss leaves a multiple of `round_to`."""
    kept = max(-(-(size - wanted) // round_to) * round_to, round_to)
    return max(size - kept, 0)


def _further(size: int, lost: int, round_to: int) -> list[int]:
    """All losses beyond `lost` that leave a multiple of `round_to`."""
    most = (size - lost - 1) // round_to * round_to
    return [size - kept for kept in range(most, 0, -round_to)]


def _exact(ratio: float) -> Fraction:
    return Fraction(repr(float(ratio)))  # through the decimal text: 0.29 of 100 is 29
