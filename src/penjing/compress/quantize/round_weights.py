"""Round weights to few bits (量化): each goes to the nearest point of its grid, which `choose_grid` describes.

Codes of 8 to 2 bits are symmetric, -(2^(bits-1) - 1) .. 2^(bits-1) - 1, so that zero stays zero and pruned weights
stay pruned. Two bits and "ternary" have the same codes, -1, 0 and 1; "ternary" has the scale of least squares.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from penjing.compress.quantize.affine_map import Clip
from penjing.compress.quantize.choose_grid import Bits, GridOptions, Per, check_bits, choose_grid
from penjing.compress.quantize.layers import channel_rows, reason_to_keep, weights
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ops.layers import check_finite, check_names


@dataclass(frozen=True)
class RoundWeights(Pass):
    """Put the weight of every convolution and linear layer on a grid of `bits`, or of its own in `overrides`.

    Attributes:
        bits: 8 to 2, or "ternary".
        per: one scale per "tensor" or per output "channel".
        group: how many neighbouring input weights share a whole multiplier of the scale; it must divide their number.
        clip: "max" or "mse"; "ternary" is always of least squares.
        overrides: name of a weight -> its bits.
    """

    name = "round-weights"

    bits: Bits = 8
    per: Per = "channel"
    group: int | None = None
    clip: Clip = "max"
    overrides: Mapping[str, Bits] = field(default_factory=dict)

    def run(self, graph: Graph) -> PassResult:
        """The same graph with weights on grids; those that lie on one already are left alone.

        Raises:
            InvalidInput: an option out of its range, an override for a layer that there is not, or NaN or infinity in a
                weight.
            QuantizationError: a group that does not divide.
        """
        options = GridOptions(self.per, self.group, self.clip)
        for bits in (self.bits, *self.overrides.values()):
            check_bits(bits)
        graph = graph.copy()
        found = weights(graph)
        check_names(self.overrides, found, "overrides")
        changed, declined = [], []
        for name, layer in found.items():
            reason = reason_to_keep(graph, layer)
            if reason is not None:
                declined.append(Remark(name, reason))
                continue
            assert layer.axis is not None
            constant = graph.constants[name]
            check_finite(constant.array, name)
            bits = self.overrides.get(name, self.bits)
            rows = channel_rows(constant.array, layer.axis)
            grid = choose_grid(rows, bits, options, name)
            graph.set_constant(name, grid.constant(grid.codes(rows), constant, layer.axis))
            changed.append(Remark(name, grid_text(bits, constant.array, graph.constants[name].array)))
        return PassResult(graph, tuple(changed), tuple(declined))


def grid_text(bits: Bits, before: np.ndarray, after: np.ndarray) -> str:
    """What a layer's remark says."""
    signal = float(np.square(before, dtype=np.float64).sum())
    noise = float(np.square(after.astype(np.float64) - before).sum())
    form = "ternary" if bits == "ternary" else f"{bits} bits"
    return form if not noise or not signal else f"{form}, {10 * np.log10(signal / noise):.1f} dB above the rounding"
