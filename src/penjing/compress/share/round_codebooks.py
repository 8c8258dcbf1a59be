"""Codebooks of floats, as training leaves them, move to the grid of the kernels:

    c~ = s * rne(c / s),    one s for the tensor, such that the largest entry gets a code of 63 to 127

whichever of these leaves the least squared error over all weights. Two entries may meet in one code.
"""

from dataclasses import dataclass

import numpy as np

from penjing.compress.share.codebook import MOST_ENTRIES, codes_of_entries
from penjing.core.errors import QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.grid import on_grid
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Encoding
from penjing.ops.layers import check_finite, float_weights


@dataclass(frozen=True)
class RoundCodebooks(Pass):
    """Weights that are codebooks and not yet on a grid are rounded to one, entry by entry."""

    name = "round-codebooks"

    def run(self, graph: Graph) -> PassResult:
        """A graph whose codebooks `quantize-static` takes as they are.

        Raises:
            QuantizationError: a codebook of more than 256 different values.
            InvalidInput: NaN in a weight.
        """
        graph = graph.copy()
        changed, declined = [], []
        for name, weight in float_weights(graph).items():
            constant = graph.constants[name]
            if constant.encoding is not Encoding.CODEBOOK or constant.quant is not None:
                reason = "not a codebook" if constant.quant is None else "on a grid already"
                declined.append(Remark(name, reason))
                continue
            check_finite(weight, name)
            entries, index, counts = np.unique(weight, return_inverse=True, return_counts=True)
            if entries.size > MOST_ENTRIES:
                raise QuantizationError(
                    f"{entries.size} different values are no codebook",
                    where=name,
                    hint="train its entries, not weights",
                )
            codes, step = codes_of_entries(entries.astype(np.float64), counts.astype(np.float64))
            rounded = on_grid(codes[index].reshape(weight.shape), np.array([step]), None, Encoding.CODEBOOK)
            graph.set_constant(name, rounded)
            moved = float(np.abs(rounded.array - weight).max())
            changed.append(
                Remark(name, f"{np.unique(codes).size} codes of {entries.size} entries, moved by {moved:.2g}")
            )
        return PassResult(graph, tuple(changed), tuple(declined))
