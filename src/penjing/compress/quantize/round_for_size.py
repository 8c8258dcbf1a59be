"""Round weights so that they take few bits on disk: the nearest code, unless a cheaper one is nearly as good.

    code = argmin over q of  h (w / s - q)^2 + strength * bits(q),   q among the nearest code, its neighbours and 0

(Wiedemann et al., "DeepCABAC: A universal compression algorithm for deep neural networks", 2020, section III-C,
equation 5.) bits(q) is what q costs in a layer that holds the codes chosen so far, so choosing and counting take turns
until they agree; codes that are rare, and far from 0, get rarer. h weighs each input of the layer by its mean square
over calibration samples, 1 on average; without samples every weight counts alike. `strength` is the squared error, in
steps of the grid, that one bit is worth.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.quantize.affine_map import symmetric_per_channel
from penjing.core.entropy import code_bits
from penjing.core.errors import CalibrationError, InvalidInput, QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.grid import TOP_CODE, grid_codes, on_grid
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ops.layers import float_weights, weight_nodes

_ROUNDS = 6  # choosing and counting agree after three or four
_LEAST_INPUT = 1e-3  # of the mean: an input that samples never excited may still matter


@dataclass(frozen=True)
class RoundForSize(Pass):
    """Put the weights of convolutions and linear layers on a grid of `bits` bits, codes chosen by error and by size.

    A weight that lies on a grid keeps it. Zeros stay zero. `statistics` is what `collect_layer_inputs` returns.
    """

    name = "round-for-size"

    strength: float
    bits: int = 8
    statistics: Mapping[str, LayerInputs] | None = None

    def run(self, graph: Graph) -> PassResult:
        """A graph whose weights lie on a grid; shapes and biases stay.

        Raises:
            InvalidInput: a strength that is not finite and 0 or more, or bits outside 2..8.
            CalibrationError: statistics that do not fit a weight.
            QuantizationError: a layer would lose all its weights.
        """
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise InvalidInput(f"strength must be a finite number >= 0, not {self.strength}")
        if not 2 <= self.bits <= 8:
            raise InvalidInput(f"weights take 2 to 8 bits, not {self.bits}")
        graph = graph.copy()
        changed: list[Remark] = []
        declined: list[Remark] = []
        axes = _weight_axes(graph)
        for name in float_weights(graph):
            remark, moved = self._round(graph, name, axes[name])
            (changed if moved else declined).append(remark)
        return PassResult(graph, tuple(changed), tuple(declined))

    def _round(self, graph: Graph, name: str, axis: int) -> tuple[Remark, bool]:
        constant = graph.constants[name]
        if constant.quant is None:
            nearest, scales = symmetric_per_channel(constant.array, self.bits, axis)
            top = 2 ** (self.bits - 1) - 1
            along: int | None = axis
        else:
            nearest, scales = grid_codes(constant), constant.quant.scale_array()
            top, along = TOP_CODE, constant.quant.axis
        steps = scales if along is None else scales.reshape(-1, *(1,) * (constant.array.ndim - 1 - along))
        exact = constant.array.astype(np.float64) / steps
        codes = rounded(exact, nearest, self._importance(name, constant.array.shape, axis), self.strength, top)
        if nearest.any() and not codes.any():
            raise QuantizationError("every weight of a layer would become 0", where=name, hint="lower the strength")
        graph.set_constant(name, on_grid(codes, scales, along, constant.encoding))
        before, after = entropy_bits(nearest), entropy_bits(codes)
        text = f"{before:.2f} bits a weight as nearest codes, {after:.2f} as chosen"
        moved = bool((codes != nearest).any())
        return Remark(name, text if moved else "no cheaper code is near enough"), moved or constant.quant is None

    def _importance(self, name: str, shape: tuple[int, ...], axis: int) -> NDArray[np.float64]:
        """Of each weight, 1 on average; broadcasts to `shape`."""
        found = None if self.statistics is None else self.statistics.get(name)
        if found is None:
            return np.ones((1,) * len(shape))
        power = np.diagonal(found.gram, axis1=1, axis2=2)
        if axis != 0 or shape[0] % len(power) or power.shape[1] != math.prod(shape[1:]):
            raise CalibrationError(
                f"statistics of {power.shape} inputs do not fit a weight of shape {shape}",
                where=name,
                hint="collect them on this very graph",
            )
        mean = power.mean()
        relative = np.maximum(power / mean, _LEAST_INPUT) if mean > 0 else np.ones_like(power)
        return np.repeat(relative, shape[0] // len(power), axis=0).reshape(shape)


def rounded(
    exact: NDArray[np.float64], nearest: NDArray[np.int8], importance: np.ndarray, strength: float, top: int
) -> NDArray[np.int8]:
    """The codes that cost least, of the shape of `exact`, in -top..top.

    Args:
        exact: weights in steps of their grid.
        nearest: the codes nearest to them.
        importance: of each squared error, broadcasts to `exact`.
        strength: squared error that one bit is worth.
        top: the largest code.
    """
    sides = (nearest + d for d in (-1, 1))
    # a weight of 0 was pruned, and stays
    candidates = np.stack([nearest, *(np.where(exact == 0, 0, np.clip(q, -top, top)) for q in sides), 0 * nearest])
    errors = importance * np.square(exact - candidates)
    codes = nearest
    for _ in range(_ROUNDS):
        bits = code_bits(np.bincount(codes.reshape(-1).astype(np.int64) + TOP_CODE, minlength=2 * TOP_CODE + 1))
        cost = errors + strength * bits[candidates.astype(np.int64) + TOP_CODE]
        chosen = np.take_along_axis(candidates, cost.argmin(axis=0)[None], axis=0)[0].astype(np.int8)
        if np.array_equal(chosen, codes):
            break
        codes = chosen
    return codes


def entropy_bits(codes: np.ndarray) -> float:
    """Bits a code takes on average, by how often each occurs."""
    counts = np.unique(codes, return_counts=True)[1]
    share = counts / codes.size
    return float(-(share * np.log2(share)).sum())


def _weight_axes(graph: Graph) -> dict[str, int]:
    """Name of each weight -> its output-channel axis."""
    return {layer.weight: layer.op.weight_axis for layer in weight_nodes(graph)}
