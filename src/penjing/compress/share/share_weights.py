"""Shared parameters (参数共享): the weights of a layer take few values, which all share.

    w~[o, i] = s[o] * c[a[o, i]],    c: 2 to 256 codes in -127..127,  a: the index that is stored

(Han, Mao and Dally, "Deep Compression", 2016, section 3.) Entries come from k-means, and lie on the grid of the
kernels, so that `quantize-static` keeps them: a layer of at most 16 entries is then stored in 4 bits a weight, and read
so by the kernel for linear layers. Scales for each output channel cost nothing there, and let channels of different
spread share one table: w = s u is alternately cut into s by least squares, s = sum h w c / sum h c^2, and c by
k-means over u with weights h s^2, which counts errors as those of w.

h is 1, or the second moment of the input that a weight is multiplied by: the diagonal of the layer's gram.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.share.codebook import MOST_ENTRIES, codes_of_entries, fit_codebook, nearest
from penjing.compress.structure.layers import readers_of_weights
from penjing.core.errors import CalibrationError, InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.grid import on_grid
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Constant, Encoding
from penjing.ops.layers import check_finite, check_names, float_weights
from penjing.ops.operator import Operator

_Float64 = NDArray[np.float64]

_ROUNDS = 6  # of scales and entries in turns; more change the error by less than 1 %
_UNHEARD = 1e-3  # what an input counts that no sample excites, relative to the mean of all


@dataclass(frozen=True)
class ShareWeights(Pass):
    """Every layer's weights take at most `entries` values; a mapping by name takes only the layers that it names.

    Zeros of a pruned layer stay zero, in an entry of their own. `scales` are one for each output channel, or one for
    the tensor. `rounded=False` leaves the entries as floats, off the grid, for training: that takes scales="tensor" and
    `RoundCodebooks` afterwards. `inputs`, from `collect_layer_inputs`, say how much each weight counts.
    """

    name = "share-weights"

    entries: int | Mapping[str, int] = 16
    scales: Literal["channel", "tensor"] = "channel"
    rounded: bool = True
    inputs: Mapping[str, LayerInputs] | None = None

    def run(self, graph: Graph) -> PassResult:
        """A graph whose weights are `Encoding.CODEBOOK` constants; shapes stay.

        Raises:
            InvalidInput: a number of entries outside 2..256; more entries than a tensor named has weights, or than any
                tensor has; a name that is no layer's; options that exclude one another; NaN in a weight.
            CalibrationError: `inputs` are those of another graph.
        """
        self._check(graph)
        graph = graph.copy()
        changed, declined = [], []
        for name, weight in float_weights(graph).items():
            entries = self.entries.get(name) if isinstance(self.entries, Mapping) else self.entries
            if entries is None:
                continue
            if entries > weight.size:
                declined.append(Remark(name, f"a codebook of {entries} is larger than its {weight.size} weights"))
                continue
            check_finite(weight, name)
            constant = self._shared(graph, name, weight.astype(np.float64), entries)
            graph.set_constant(name, constant)
            changed.append(Remark(name, _description(weight, constant)))
        if not changed:
            raise InvalidInput(
                "no layer has as many weights as its codebook entries", where=f"graph {graph.name}", hint="use fewer"
            )
        return PassResult(graph, tuple(changed), tuple(declined))

    def _check(self, graph: Graph) -> None:
        named = self.entries if isinstance(self.entries, Mapping) else {}
        check_names(named, float_weights(graph), "entries")
        for entries in named.values() if named else (self.entries,):
            if not isinstance(entries, int) or not 2 <= entries <= MOST_ENTRIES:
                raise InvalidInput(f"a codebook has 2 to {MOST_ENTRIES} entries, not {entries}")
        for name, entries in named.items():
            size = graph.constants[name].array.size
            if entries > size:
                raise InvalidInput(
                    f"a codebook of {entries} entries is larger than the tensor of {size} weights", where=name
                )
        if self.scales not in ("channel", "tensor"):
            raise InvalidInput(f"scales are for each 'channel' or for the 'tensor', not {self.scales!r}")
        if not self.rounded and self.scales != "tensor":
            raise InvalidInput('entries that are not rounded are one table of floats: take scales="tensor"')

    def _shared(self, graph: Graph, name: str, weight: _Float64, entries: int) -> Constant:
        node = readers_of_weights(graph)[name][0]
        assert isinstance(node.op, Operator)
        axis = node.op.weight_axis
        importance = self._importance(name, weight)
        zero = bool((weight == 0).any())
        if self.scales == "tensor":
            codebook = fit_codebook(weight.ravel(), importance.ravel(), entries, zero=zero)
            if not self.rounded:
                return Constant(codebook[nearest(weight, codebook)].astype(np.float32), Encoding.CODEBOOK)
            held = _held(nearest(weight, codebook), importance, codebook.size)
            codes, step = codes_of_entries(codebook, held)
            table = np.unique(codes)
            return on_grid(table[nearest(weight / step, table)], np.array([step]), None, Encoding.CODEBOOK)
        rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
        counted = np.moveaxis(importance, axis, 0).reshape(rows.shape)
        codes, scales = _scaled_codebook(rows, counted, entries, zero)
        front = codes.reshape(weight.shape[axis], *np.delete(weight.shape, axis))
        return on_grid(np.moveaxis(front, 0, axis), scales, axis, Encoding.CODEBOOK)

    def _importance(self, name: str, weight: _Float64) -> _Float64:
        seen = None if self.inputs is None else self.inputs.get(name)
        if seen is None:
            return np.ones_like(weight)
        diagonal = np.diagonal(seen.gram, axis1=1, axis2=2)  # (groups, k)
        if weight.size != len(weight) * diagonal.shape[1] or not np.isfinite(diagonal).all():
            raise CalibrationError(
                f"sums of shape {seen.gram.shape} do not fit a weight of shape {weight.shape}",
                where=name,
                hint="collect the layer's inputs on this very graph",
            )
        mean = float(diagonal.mean())
        heard = np.maximum(diagonal, _UNHEARD * mean) if mean > 0 else np.ones_like(diagonal)
        return np.repeat(heard, len(weight) // len(heard), axis=0).reshape(weight.shape)


def _scaled_codebook(
    rows: _Float64, importance: _Float64, entries: int, zero: bool
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 codes (channels, n) of at most `entries` values, and scales (channels,)."""
    scales = np.sqrt(np.mean(np.square(rows), axis=1))
    scales = np.where(scales > 0, scales, 1.0)
    best: tuple[float, NDArray[np.int8], NDArray[np.float32]] | None = None
    for _ in range(_ROUNDS):
        units = rows / scales[:, None]
        counted = importance * np.square(scales)[:, None]
        codebook = fit_codebook(units.ravel(), counted.ravel(), entries, zero=zero)
        held = _held(nearest(units, codebook), counted, codebook.size)
        table, step = codes_of_entries(codebook, held)
        table = np.unique(table)
        codes = table[nearest(units / step, table)]
        scales = _least_squares(rows, importance, codes, scales * step)
        codes = table[nearest(rows / scales[:, None], table)]
        error = float(np.sum(importance * np.square(rows - codes * scales[:, None])))
        if best is not None and error >= best[0]:
            break
        best = error, codes, scales.astype(np.float32)
    assert best is not None
    return best[1], best[2]


def _held(index: NDArray[np.intp], importance: _Float64, entries: int) -> _Float64:
    """The importance of all weights that each entry stands for."""
    return np.bincount(index.ravel(), importance.ravel(), entries).astype(np.float64)


def _least_squares(rows: _Float64, importance: _Float64, codes: NDArray[np.int8], scales: _Float64) -> _Float64:
    """The scale of each channel with which its codes come nearest; the present one where codes say nothing of it."""
    across = np.sum(importance * rows * codes, axis=1)
    along = np.sum(importance * np.square(codes.astype(np.float64)), axis=1)
    fitted = across / np.where(along > 0, along, 1)
    return np.maximum(np.where(fitted > 0, fitted, scales), float(np.finfo(np.float32).tiny))


def _description(weight: np.ndarray, constant: Constant) -> str:
    if constant.quant is None:
        table = np.unique(constant.array).size
    else:
        steps = constant.quant.scale_array()
        shape = [1] * weight.ndim
        if constant.quant.axis is not None:
            shape[constant.quant.axis] = steps.size
        table = np.unique(np.rint(constant.array / steps.reshape(shape))).size
    energy = float(np.linalg.norm(weight.astype(np.float64)))
    error = float(np.linalg.norm(weight.astype(np.float64) - constant.array)) / (energy or 1.0)
    bits = max(1, int(np.ceil(np.log2(table))))
    return f"{table} values, {bits} bits a weight ({weight.size} weights), relative error {error:.3f}"
