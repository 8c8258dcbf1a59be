"""N:M pruning (裁剪) as a pass: of every m weights in a row, the n most important stay.

The kernels run 4:16 and 2:16 exactly as they are; 2:4 is a stricter 8:16. Which weights make a group is said in
`compress.prune.patterns`; what the patterns pay, in docs/howto/pruning.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from penjing.compress.prune.pattern_layers import chosen_layers, importance_of, prune_by_mask
from penjing.compress.prune.patterns import NOfM
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassResult, Remark


@dataclass(frozen=True)
class PruneNOfM(Pass):
    """Keep `n` of every `m` weights in the layers that gain from it, and in those named in `per_layer`.

    Attributes:
        n: weights that stay, 1..m.
        m: weights in a group.
        per_layer: name of a weight -> its own n; m leaves the layer dense.
        importance: name of a weight -> importances of its shape; w^2 when None.
    """

    name = "prune-n-of-m"

    n: int = 4
    m: int = 16
    per_layer: Mapping[str, int] = field(default_factory=dict)
    importance: Mapping[str, np.ndarray] | None = None

    def run(self, graph: Graph) -> PassResult:
        """A graph with zeros in its weights; shapes stay.

        Raises:
            PruningError: n outside 1..m, no layer to prune, a name in `per_layer` that is none, NaN or infinity.
            InvalidInput: importances that do not fit.
        """
        graph = graph.copy()
        common = NOfM(self.n, self.m)
        layers, declined = chosen_layers(graph, self.per_layer)
        changed: list[Remark] = []
        for layer in layers:
            pattern = NOfM(self.per_layer[layer.name], self.m) if layer.name in self.per_layer else common
            mask = layer.mask(pattern, importance_of(self.importance, layer.name))
            remark, is_new = prune_by_mask(graph, layer, mask, str(pattern))
            (changed if is_new else declined).append(remark)
        return PassResult(graph, tuple(changed), tuple(declined))
