"""GPTQ: weights are rounded one input after the other, and those still to come make up for the error so far.

For one output channel w of a layer, with G the mean of x^T x over what the layer reads (`layer_inputs`), the output's
squared error of a change d is d G d^T. Let U be the upper Cholesky factor of (G + damping)^-1 = U^T U. For i = 1, 2, ..

    q_i = nearest point of the grid,    e = (w_i - q_i) / U_ii,    w_j <- w_j - e U_ij  for all j > i

which after each step is the best that the remaining weights can do (Frantar et al., "GPTQ: Accurate post-training
quantization for generative pre-trained transformers", 2023, section 3, equations 2 and 3, algorithm 1). Columns are
treated in blocks, so that most of the work is one matrix product per block.

A weight that was zero gets q_i = 0, and its error is made up for likewise (Frantar and Alistarh, "SparseGPT", 2023,
section 3.5): pruned weights stay pruned. The grid is that of `round-weights`. An output channel for which plain
rounding has the smaller error d G d^T keeps plain rounding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.quantize.affine_map import Clip
from penjing.compress.quantize.choose_grid import Bits, GridOptions, Per, RowGrid, check_bits, choose_grid
from penjing.compress.quantize.layers import Layer, channel_rows, reason_to_keep, weights
from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ops.layers import check_finite, check_names

_Float64 = NDArray[np.float64]
_BLOCK = 128


@dataclass(frozen=True)
class Gptq(Pass):
    """Put weights on grids of `bits` with the least error of what their layers compute.

    Attributes:
        inputs: from `collect_layer_inputs`, of this graph.
        bits: 8 to 2, or "ternary".
        per, group, clip, overrides: as in `round-weights`.
        damping: added to the diagonal of G, as a share of its mean.
        act_order: treat inputs of the largest mean square first, while all others can still make up for them.
    """

    name = "gptq"

    inputs: Mapping[str, LayerInputs]
    bits: Bits = 4
    per: Per = "channel"
    group: int | None = None
    clip: Clip = "mse"
    damping: float = 0.01
    act_order: bool = True
    overrides: Mapping[str, Bits] = field(default_factory=dict)

    def run(self, graph: Graph) -> PassResult:
        """The same graph with weights on grids; those that lie on one already are left alone.

        Raises:
            InvalidInput: an option out of its range, inputs or an override of a layer that there is not, or NaN or
                infinity in a weight.
            QuantizationError: a group that does not divide, or too little damping.
        """
        options = GridOptions(self.per, self.group, self.clip)
        if not (self.damping > 0 and np.isfinite(self.damping)):
            raise InvalidInput(f"damping must be above 0, not {self.damping}")
        for bits in (self.bits, *self.overrides.values()):
            check_bits(bits)
        graph = graph.copy()
        found = weights(graph)
        check_names(self.overrides, found, "overrides")
        check_names(self.inputs, found, "inputs")
        changed, declined = [], []
        for name, layer in found.items():
            reason = reason_to_keep(graph, layer)
            if reason is None and name not in self.inputs:
                reason = "nothing is known of what it reads"
            if reason is not None:
                declined.append(Remark(name, reason))
                continue
            changed.append(Remark(name, self._round(graph, layer, options)))
        return PassResult(graph, tuple(changed), tuple(declined))

    def _round(self, graph: Graph, layer: Layer, options: GridOptions) -> str:
        name, constant = layer.weight, graph.constants[layer.weight]
        assert layer.axis is not None
        check_finite(constant.array, name)
        rows = channel_rows(constant.array, layer.axis)
        gram = self.inputs[name].gram
        if gram.shape[2] != rows.shape[1] or rows.shape[0] % gram.shape[0]:
            raise InvalidInput(f"inputs of {gram.shape[2]} weights for rows of {rows.shape[1]}", where=name)
        bits = self.overrides.get(name, self.bits)
        grid = choose_grid(rows, bits, options, name)
        nearest = grid.codes(rows)
        try:
            chosen = _rounded(rows, grid, gram, self.damping, self.act_order)
        except np.linalg.LinAlgError as error:
            raise QuantizationError(
                "what the layer reads has no inverse second moment", where=name, hint="raise damping; 0.01 is usual"
            ) from error
        plain, better = (output_error(rows, codes * grid.scales[:, None], gram) for codes in (nearest, chosen))
        codes = np.where((better < plain)[:, None], chosen, nearest)
        graph.set_constant(name, grid.constant(codes, constant, layer.axis))
        left = np.minimum(better, plain).sum() / max(plain.sum(), np.finfo(np.float64).tiny)
        form = "ternary" if bits == "ternary" else f"{bits} bits"
        return f"{form}, {100 * left:.0f} % of the output error of plain rounding"


def output_error(rows: np.ndarray, changed: np.ndarray, gram: _Float64) -> _Float64:
    """(O,): the mean squared error of each output channel when weights `rows` (O, k) become `changed`."""
    difference = (changed.astype(np.float64) - rows).reshape(gram.shape[0], -1, gram.shape[1])
    return np.asarray(np.einsum("gok,gok->go", difference @ gram, difference).reshape(-1))


def _rounded(rows: np.ndarray, grid: RowGrid, gram: _Float64, damping: float, act_order: bool) -> NDArray[np.int8]:
    """Codes (O, k), all groups of a layer side by side."""
    groups, k = gram.shape[:2]
    diagonal = np.einsum("gkk->gk", gram)
    order = np.argsort(-diagonal, axis=1, kind="stable") if act_order else np.tile(np.arange(k), (groups, 1))
    lane = np.arange(groups)[:, None]

    def arranged(array: np.ndarray) -> np.ndarray:
        whole = np.broadcast_to(array, rows.shape).reshape(groups, -1, k)
        return np.take_along_axis(whole, order[:, None, :], axis=2)

    mean = diagonal.mean(axis=1)
    damped = gram + (damping * np.where(mean > 0, mean, 1.0))[:, None, None] * np.eye(k)
    damped = damped[lane[:, :, None], order[:, :, None], order[:, None, :]]
    # (G^-1 = L L^T, L lower) gives U = L^T
    factor = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    w, kept = arranged(rows).astype(np.float64), arranged(rows != 0)
    steps, multipliers = arranged(grid.steps).astype(np.float64), arranged(grid.multipliers)
    codes = np.zeros(w.shape, np.int64)
    for start in range(0, k, _BLOCK):
        stop = min(start + _BLOCK, k)
        errors = np.zeros((*w.shape[:2], stop - start))
        for i in range(start, stop):
            nearest = np.clip(np.rint(w[:, :, i] / steps[:, :, i]), -grid.top, grid.top) * kept[:, :, i]
            codes[:, :, i] = nearest * multipliers[:, :, i]
            error = (w[:, :, i] - nearest * steps[:, :, i]) / factor[:, i, i, None]
            w[:, :, i + 1 : stop] -= error[:, :, None] * factor[:, None, i, i + 1 : stop]
            errors[:, :, i - start] = error
        w[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    back = np.argsort(order, axis=1)
    return np.take_along_axis(codes, back[:, None, :], axis=2).reshape(rows.shape).astype(np.int8)
