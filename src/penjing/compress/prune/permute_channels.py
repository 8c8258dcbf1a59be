"""Order channels so that N:M pruning keeps more (part of 裁剪): large weights of an output go to different groups.

    maximise  sum over output channels, taps and groups of the n largest w^2 of every m,  over orders of input channels

by swaps of two channels between two groups, the best swap of a pair of groups at a time, until none gains. The layer
that makes the channels makes them in the new order, so the network computes what it did, but for the order of sums.
(Pool and Yu, "Channel permutations for N:M sparsity", 2021, sections 3.2 and 4; without escapes from local optima.)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from penjing.compress.prune.channel_chain import Chain, chain_to
from penjing.compress.prune.pattern_layers import PatternLayer, chosen_layers
from penjing.compress.prune.patterns import NOfM
from penjing.core.errors import PruningError
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Constant
from penjing.ops.layers import groups_of

Order = NDArray[np.intp]


@dataclass(frozen=True)
class PermuteChannels(Pass):
    """Permute the input channels of each layer that N:M pruning is to follow on, before it.

    Attributes:
        n: weights that are going to stay, 1..m.
        m: weights in a group.
        per_layer: name of a weight -> its own n.
        passes: how often all pairs of groups are looked at, at most.
    """

    name = "permute-channels"

    n: int = 4
    m: int = 16
    per_layer: Mapping[str, int] = field(default_factory=dict)
    passes: int = 10

    def run(self, graph: Graph) -> PassResult:
        """A graph that computes the same, but for the order of sums.

        Raises:
            PruningError: n outside 1..m, no layer to prune, or a name in `per_layer` that is none.
        """
        if self.passes < 1:
            raise PruningError(f"at least one pass over the groups is needed, not {self.passes}")
        common = NOfM(self.n, self.m)
        graph = graph.copy()
        layers, declined = chosen_layers(graph, self.per_layer)
        changed = []
        for found in layers:
            n = self.per_layer.get(found.name, common.n)
            # as the maker of another's channels it may have been permuted since
            layer = replace(found, weight=graph.constants[found.name].array)
            chain = self._chain(graph, layer, NOfM(n, self.m))
            if isinstance(chain, str):
                declined.append(Remark(layer.name, chain))
                continue
            energy = _columns(layer)
            order = best_order(energy, n, self.m, self.passes)
            before, after = kept(energy, n, self.m), kept(energy[:, order], n, self.m)
            if not after > before:
                declined.append(Remark(layer.name, "no swap of channels keeps more"))
                continue
            _permute(graph, layer, chain, order)
            total = energy.sum()
            shares = f"{100 * before / total:.1f} % to {100 * after / total:.1f} %"
            changed.append(Remark(layer.name, f"{n}:{self.m} keeps {shares} of energy, {chain}"))
        return PassResult(graph, tuple(changed), tuple(declined))

    def _chain(self, graph: Graph, layer: PatternLayer, pattern: NOfM) -> Chain | str:
        channels = layer.view[1]
        if pattern.n == pattern.m:
            return "it stays dense"
        if groups_of(layer.node) > 1:
            return "it has groups"
        if channels <= self.m:
            return f"its {channels} input channels make one group"
        if channels % self.m:
            return f"its {channels} input channels do not divide into groups of {self.m}"
        return chain_to(graph, layer.node)


def best_order(energy: np.ndarray, n: int, m: int, passes: int) -> Order:
    """The order of columns of energy (rows, C) that greedy swaps lead to; C is a multiple of m."""
    order: Order = np.arange(energy.shape[1])
    groups = energy.shape[1] // m
    for _ in range(passes):
        improved = False
        for first in range(groups):
            for second in range(first + 1, groups):
                a, b = slice(first * m, (first + 1) * m), slice(second * m, (second + 1) * m)
                while (swap := _best_swap(energy[:, order[a]], energy[:, order[b]], n)) is not None:
                    i, j = first * m + swap[0], second * m + swap[1]
                    order[[i, j]] = order[[j, i]]
                    improved = True
        if not improved:
            break
    return order


def kept(energy: np.ndarray, n: int, m: int) -> float:
    """The sum of the n largest of every m columns of energy (rows, C), over rows."""
    groups = energy.reshape(len(energy), -1, m)
    return float(np.partition(groups, m - n, axis=2)[:, :, m - n :].sum())


def _best_swap(a: np.ndarray, b: np.ndarray, n: int) -> tuple[int, int] | None:
    """Columns of a and b (rows, m) whose swap gains most; None when none gains more than rounding."""
    rest_a, next_a = _without_each(a, n)
    rest_b, next_b = _without_each(b, n)
    # with column i of `a` gone and x in its place, the n largest sum to rest + max(0, x - the n-th of what was left)
    into_a = np.stack([(rest_a[:, i, None] + np.maximum(0, b - next_a[:, i, None])).sum(0) for i in range(a.shape[1])])
    into_b = np.stack([(rest_b[:, j, None] + np.maximum(0, a - next_b[:, j, None])).sum(0) for j in range(b.shape[1])])
    after = into_a + into_b.T
    before = kept(a, n, a.shape[1]) + kept(b, n, b.shape[1])
    i, j = np.unravel_index(int(after.argmax()), after.shape)
    return (int(i), int(j)) if after[i, j] > before * (1 + 1e-9) else None


def _without_each(a: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """For each column gone: the sum of the n largest others less the n-th, ready for one more; and the n-th itself.

    Of m - 1 others, so n < m.
    """
    ordered = -np.sort(-a, axis=1)
    nth, after = ordered[:, n - 1, None], ordered[:, n, None]
    total = ordered[:, :n].sum(1)[:, None]
    is_kept = a >= nth  # of equals it makes no difference which one goes
    rest = np.where(is_kept, total - a + after, total)
    return rest, np.where(is_kept, after, nth)


def _columns(layer: PatternLayer) -> np.ndarray:
    """w^2 as (output channels and taps, input channels)."""
    seen = layer.weight.astype(np.float64).reshape(layer.view)
    return np.square(np.moveaxis(seen, 1, -1).reshape(-1, layer.view[1]))


def _permute(graph: Graph, layer: PatternLayer, chain: Chain, order: Order) -> None:
    constant = graph.constants[layer.name]
    moved = layer.weight.reshape(layer.view)[:, order].reshape(layer.weight.shape)
    graph.set_constant(layer.name, Constant(moved, constant.encoding, constant.quant))
    for name in chain.constants:
        made = graph.constants[name]
        axis0 = np.ascontiguousarray(made.array[order])
        quant = made.quant
        if quant is not None and quant.axis == 0:
            quant = type(quant)(tuple(quant.scales[i] for i in order), quant.zero_point, 0)
        graph.set_constant(name, Constant(axis0, made.encoding, quant))
