"""One-shot pruning with compensation (裁剪) as a pass: the weights that stay make up for those that go.

By the second moments of what each layer reads, the pass removes the weights whose loss costs least after all others
have been fitted anew, and leaves the best of all weights with these zeros: see `compress.prune.obs`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.prune.gradual import loosened
from penjing.compress.prune.magnitude import Mask
from penjing.compress.prune.obs import check_fits, costs, damped, refit, squared_error, sweep
from penjing.compress.prune.pattern_layers import PatternLayer, chosen_layers
from penjing.compress.prune.patterns import Blocks, NOfM, Pattern, as_rows, kept_energy
from penjing.core.cubic import cubic
from penjing.core.errors import PruningError
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Constant
from penjing.ops.layers import groups_of

_ROUNDS = 4
_QUICK = 5e10  # output channels times inputs cubed, up to which several rounds take seconds


@dataclass(frozen=True)
class PruneObs(Pass):
    """Give layers a pattern of zeros and the best weights for it.

    Attributes:
        inputs: of this very graph, from `collect_layer_inputs`.
        pattern: of all layers that gain from one; None: only of those in `per_layer`.
        per_layer: name of a weight -> its own pattern; None leaves the layer as it is.
        rounds: in how many steps weights go; each looks anew at what the next cost. More are better and slower. None:
            N:M in one sweep over the columns, other patterns in 4 rounds, or in one where a layer reads thousands.
        damping: share of the mean second moment that is added to each, which keeps weights near the old ones.
    """

    name = "prune-obs"

    inputs: Mapping[str, LayerInputs]
    pattern: Pattern | None = None
    per_layer: Mapping[str, Pattern | None] = field(default_factory=dict)
    rounds: int | None = None
    damping: float = 0.01

    def run(self, graph: Graph) -> PassResult:
        """A graph with zeros and other values in its weights; shapes stay, and zeros stay zero.

        Raises:
            PruningError: no pattern, options out of range, no layer to prune, or a name that is none.
            InvalidInput: statistics that do not fit the graph.
        """
        self._check()
        graph = graph.copy()
        layers, declined = chosen_layers(graph, self.per_layer)
        changed = []
        for layer in layers:
            pattern = self.per_layer.get(layer.name, self.pattern)
            if pattern is None:
                declined.append(Remark(layer.name, "no pattern is asked for"))
            elif layer.name not in self.inputs:
                declined.append(Remark(layer.name, "nothing is known of what it reads"))
            else:
                changed.append(self._prune(graph, layer, pattern))
        return PassResult(graph, tuple(changed), tuple(declined))

    def _check(self) -> None:
        if self.pattern is None and not self.per_layer:
            raise PruningError("pruning needs a pattern", hint="give 4:16, for example: NOfM(4, 16) in Python")
        if self.rounds is not None and self.rounds < 1:
            raise PruningError(f"pruning takes at least one round, not {self.rounds}")
        if not (math.isfinite(self.damping) and self.damping > 0):
            raise PruningError(f"damping must be a finite number above 0, not {self.damping}")

    def _prune(self, graph: Graph, layer: PatternLayer, pattern: Pattern) -> Remark:
        gram = self.inputs[layer.name].gram
        groups = groups_of(layer.node)
        before = layer.weight.astype(np.float64).reshape(groups, len(layer.weight) // groups, -1)
        check_fits(groups, before.shape[2], gram, layer.name)
        after = self._pruned(layer, pattern, before, np.stack([damped(g, self.damping) for g in gram]))
        error, whole = (
            sum(squared_error(part[i], gram[i]) for i in range(groups)) for part in (after - before, before)
        )
        array = after.reshape(layer.weight.shape).astype(np.float32)
        graph.set_constant(layer.name, Constant(array))
        share = 100 * np.count_nonzero(array) / array.size
        energy = 100 * kept_energy(layer.weight, array != 0)
        return Remark(
            layer.name,
            f"{pattern}: {share:.1f} % of {array.size} weights stay, {energy:.1f} % of energy; "
            f"outputs differ by {100 * error / whole if whole else 0:.2f} % of theirs",
        )

    def _pruned(self, layer: PatternLayer, pattern: Pattern, w: np.ndarray, h: np.ndarray) -> np.ndarray:
        if self.rounds is None and isinstance(pattern, NOfM):
            mask = np.stack([sweep(w[i], h[i], pattern, layer.view[1:]) for i in range(len(w))])
            return _refit(w, h, mask)
        mask, now = w != 0, w
        together = _together(layer, pattern)
        rounds = self.rounds or (_ROUNDS if len(layer.weight) * w.shape[2] ** 3 <= _QUICK else 1)
        for done in range(1, rounds + 1):
            share = cubic(done, 0, rounds, 0.0, 1.0)
            cost = np.stack([costs(now[i], h[i], mask[i], together) for i in range(len(w))])
            mask &= self._mask(layer, loosened(pattern, share), cost, mask)
            now = _refit(w, h, mask)
        return now

    def _mask(self, layer: PatternLayer, pattern: Pattern, cost: np.ndarray, alive: np.ndarray) -> Mask:
        """By the costs alone: a weight that the last fit made zero by chance counts as any other."""
        seen, given = (v.reshape(layer.view) for v in (alive.astype(np.float64), cost))
        return pattern.mask(seen, given, layer.name).reshape(alive.shape)


def _refit(w: np.ndarray, h: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.stack([refit(w[i], h[i], mask[i]) for i in range(len(w))])


def _together(layer: PatternLayer, pattern: Pattern) -> np.ndarray:
    """(n, width) columns that a pattern removes together; -1 fills up."""
    rows = as_rows(np.arange(math.prod(layer.view[1:])).reshape(1, *layer.view[1:]))[0]
    width = pattern.width if isinstance(pattern, Blocks) else 1
    filled = np.full((len(rows), -(-rows.shape[1] // width) * width), -1)
    filled[:, : rows.shape[1]] = rows
    return filled.reshape(-1, width)
