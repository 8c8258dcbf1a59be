"""Block pruning (裁剪) as a pass: blocks of output channels by input channels stay or go as a whole.

The kernels leave out blocks of 16 x 4. Blocks of 8 x 4 run as fast only where both halves of 16 output channels go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from penjing.compress.prune.magnitude import Mask
from penjing.compress.prune.pattern_layers import PatternLayer, chosen_layers, importance_of, prune_by_mask
from penjing.compress.prune.patterns import Blocks, block_masks
from penjing.core.errors import PruningError
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassResult, Remark


@dataclass(frozen=True)
class PruneBlocks(Pass):
    """Zero the `ratio` least important blocks of the layers that gain from it, or of those in `layers`.

    Attributes:
        ratio: share of blocks that go, in [0, 1).
        shape: output channels, and input channels at one tap, of a block.
        scope: whether the ratio holds for each layer, or for all blocks together.
        layers: names of weights to prune as well, that would be left alone.
        importance: name of a weight -> importances of its shape; w^2 when None. A block has the sum of its weights'.
    """

    name = "prune-blocks"

    ratio: float
    shape: tuple[int, int] = (16, 4)
    scope: Literal["layer", "global"] = "layer"
    layers: tuple[str, ...] = ()
    importance: Mapping[str, np.ndarray] | None = None

    def run(self, graph: Graph) -> PassResult:
        """A graph with zeros in its weights; shapes stay.

        Raises:
            PruningError: a ratio outside [0, 1), an impossible shape, no layer to prune, a name in `layers` that is
                none, a layer pruned away whole, NaN or infinity.
            InvalidInput: importances that do not fit.
        """
        graph = graph.copy()
        pattern = Blocks(self.ratio, *self.shape)
        layers, declined = chosen_layers(graph, self.layers)
        given = {layer.name: importance_of(self.importance, layer.name) for layer in layers}
        if self.scope == "global":
            masks = self._global_masks(layers, given)
        elif self.scope == "layer":
            masks = {layer.name: layer.mask(pattern, given[layer.name]) for layer in layers}
        else:
            raise PruningError(f"there is no scope {self.scope!r}", hint="choose layer or global")
        changed: list[Remark] = []
        for layer in layers:
            remark, is_new = prune_by_mask(graph, layer, masks[layer.name], str(pattern))
            (changed if is_new else declined).append(remark)
        return PassResult(graph, tuple(changed), tuple(declined))

    def _global_masks(self, layers: Sequence[PatternLayer], given: Mapping[str, np.ndarray | None]) -> dict[str, Mask]:
        if not layers:
            return {}
        seen = {layer.name: layer.weight.reshape(layer.view) for layer in layers}
        values = {layer.name: layer.seen(array) for layer in layers if (array := given[layer.name]) is not None}
        masks = block_masks(seen, self.shape, self.ratio, values or None)
        return {layer.name: masks[layer.name].reshape(layer.weight.shape) for layer in layers}
