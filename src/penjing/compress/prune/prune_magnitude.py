"""Magnitude pruning (裁剪) as a pass: weights below a threshold, or the smallest share of them, become zero.

    w~ = 0 if |w| < T else w

(Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015, section 3.)
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from penjing.compress.prune.magnitude import global_ratio_masks, ratio_mask, sparsity, threshold_mask
from penjing.core.errors import PruningError
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Constant
from penjing.ops.layers import float_weights


@dataclass(frozen=True)
class PruneMagnitude(Pass):
    """Zero the weights of convolutions and linear layers by `threshold`, or by `ratio` (per layer or global)."""

    name = "prune-magnitude"

    ratio: float | None = None
    threshold: float | None = None
    scope: Literal["layer", "global"] = "layer"

    def run(self, graph: Graph) -> PassResult:
        """A graph with zeros in its weights; shapes stay.

        Raises:
            PruningError: neither or both options given, a ratio outside [0, 1), no layer to prune, or one pruned away
                whole.
        """
        if (self.ratio is None) == (self.threshold is None):
            raise PruningError("pruning needs a ratio or a threshold, one of the two")
        graph = graph.copy()
        tensors = float_weights(graph)
        if not tensors:
            raise PruningError("no layer has a weight to prune", where=f"graph {graph.name}")
        masks = self._masks(tensors)
        changed, declined = [], []
        for name, array in tensors.items():
            if masks[name].all():
                declined.append(Remark(name, "no weight is small enough"))
                continue
            pruned = np.where(masks[name], array, np.float32(0))
            graph.set_constant(name, Constant(pruned, graph.constants[name].encoding))
            changed.append(Remark(name, f"{100 * sparsity(pruned):.1f} % of {pruned.size} weights are zero"))
        return PassResult(graph, tuple(changed), tuple(declined))

    def _masks(self, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.threshold is not None:
            return {name: threshold_mask(array, self.threshold, name) for name, array in tensors.items()}
        assert self.ratio is not None
        if self.scope == "global":
            return dict(global_ratio_masks(tensors, self.ratio))
        return {name: ratio_mask(array, self.ratio, name) for name, array in tensors.items()}
