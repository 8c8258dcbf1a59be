"""SmoothQuant: outliers among the channels of an activation move into the weights that read it.

A few channels far larger than the others leave few codes to all of them, as an activation has one scale. For channel j
of what a layer reads,

    s_j = max |X_j|^alpha / max |W_j|^(1 - alpha),    X_j is divided by s_j,    column j of W is multiplied by s_j

(Xiao et al., "SmoothQuant: Accurate and efficient post-training quantization for large language models", 2023, equation
4). The division is done where X is made: by a layer or batch norm (its rows and bias), a layer or RMS norm (its factors
and offsets), or a product with a constant. Layers that read the same X share s, with the largest weights of all. What
the network computes stays, up to the rounding of floats. What may stand between: see `channel_scaling`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penjing.compress.observe import Batch, observe
from penjing.compress.quantize.channel_scaling import (
    Reader,
    channel_axis,
    column_peaks,
    divide_rows,
    divide_vector,
    find_readers,
    is_layer,
    made_by,
    multiply_columns,
    norm_behind,
    reason_to_keep_rows,
)
from penjing.core.errors import CalibrationError, InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ops.layer_norm import LayerNorm
from penjing.ops.layers import check_finite, check_names, weight_of
from penjing.ops.operator import Operator
from penjing.ops.rms_norm import RmsNorm

_Float64 = NDArray[np.float64]


def collect_channel_peaks(
    graph: Graph, batches: Iterable[Batch], progress: Callable[[int], None] | None = None
) -> dict[str, _Float64]:
    """Name of a weight -> (C,), the largest |x| of each channel that its layer reads.

    Args:
        graph: any float stage.
        batches: float32 inputs (N, ...), normalised as in training; a tuple per batch for several inputs.
        progress: called with the number of samples seen so far.

    Raises:
        CalibrationError: no batches, or NaN or infinity in an activation.
        InvalidInput: a batch does not fit the graph's inputs.
    """
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if is_layer(node):
            readers.setdefault(node.inputs[0], []).append(node)
    peaks: dict[str, _Float64] = {}

    def watch(name: str, array: np.ndarray) -> None:
        for node in readers.get(name, ()):
            axis = array.ndim - 1 if node.op.name == "linear" else 1
            seen = np.abs(array).max(axis=tuple(i for i in range(array.ndim) if i != axis)).astype(np.float64)
            if not np.isfinite(seen).all():
                raise CalibrationError("NaN or infinity in what a layer reads", where=str(node))
            peaks[weight_of(node)] = np.maximum(seen, peaks.get(weight_of(node), 0.0))

    observe(graph, batches, watch, progress)
    return peaks


@dataclass(frozen=True)
class SmoothActivations(Pass):
    """Move outlier channels of activations into the weights that read them.

    Attributes:
        peaks: from `collect_channel_peaks`, of this graph.
        alpha: 0 leaves all of the difficulty in the activations, 1 moves all of it into the weights.
    """

    name = "smooth-activations"

    peaks: Mapping[str, _Float64]
    alpha: float = 0.5

    def run(self, graph: Graph) -> PassResult:
        """The same function with other weights.

        Raises:
            InvalidInput: `alpha` outside 0..1, peaks that are not of this graph, or NaN or infinity in a weight or a
                batch norm.
        """
        if not 0 <= self.alpha <= 1:
            raise InvalidInput(f"alpha must lie in 0..1, not {self.alpha}")
        graph = graph.copy()
        wanted = [weight_of(node) for node in graph.nodes if is_layer(node)]
        check_names(self.peaks, wanted, "peaks")
        reasons = dict.fromkeys(wanted, "what it reads is made by no layer, norm or constant factor")
        changed = []
        for output in [node.output for node in graph.nodes if len(node.outputs) == 1]:
            node = graph.producers()[output]
            place = _place(graph, node)
            if place is None:
                continue
            found = find_readers(graph, *place)
            if isinstance(found, str):
                for name in _reached(graph, place[0]):
                    reasons[name] = f"what it reads cannot be scaled: {found}"
                continue
            reason = self._reason_to_decline(graph, node, found)
            if reason is None:
                span = self._smooth(graph, node, found)
                changed += [Remark(weight_of(reader.node), span) for reader in found]
            reasons |= {weight_of(reader.node): reason or "" for reader in found}
        return PassResult(graph, tuple(changed), tuple(Remark(name, text) for name, text in reasons.items() if text))

    def _reason_to_decline(self, graph: Graph, node: Node, readers: list[Reader]) -> str | None:
        missing = [weight_of(reader.node) for reader in readers if weight_of(reader.node) not in self.peaks]
        if missing:
            return f"there are no peaks of {', '.join(missing)}"
        return reason_to_keep_rows(graph, node) if is_layer(node) else None

    def _smooth(self, graph: Graph, node: Node, readers: list[Reader]) -> str:
        columns = np.max([column_peaks(graph, reader) for reader in readers], axis=0)
        check_finite(columns, weight_of(readers[0].node))
        seen = [self.peaks[weight_of(reader.node)] for reader in readers]
        if any(peaks.size != columns.size * reader.repeat for peaks, reader in zip(seen, readers, strict=True)):
            raise InvalidInput("peaks of other channels than this layer has", where=weight_of(readers[0].node))
        largest = [peaks.reshape(columns.size, -1).max(axis=1) for peaks in seen]
        peaks = np.max(largest, axis=0)
        alive = (peaks > 0) & (columns > 0)
        # in logarithms, as powers of tiny numbers could leave the range of floats
        powers = self.alpha * np.log(np.where(alive, peaks, 1.0))
        powers -= (1 - self.alpha) * np.log(np.where(alive, columns, 1.0))
        s = np.exp(np.where(alive, powers, 0.0))
        for reader in readers:
            multiply_columns(graph, reader, s)
        _divide(graph, node, s)
        return f"channels divided by {s.min():.3g} to {s.max():.3g} where {node.output} is made"


def _place(graph: Graph, node: Node) -> tuple[str, int] | None:
    """(value, axis of its channels) of what can absorb a division, or None."""
    if is_layer(node):
        return made_by(graph, node), channel_axis(graph, node)
    producer = graph.producers().get(node.inputs[0])
    constant = all(not name or name in graph.constants for name in node.inputs[1:])
    if node.op.name == "batch_norm" and constant:
        behind = producer is not None and is_layer(producer) and norm_behind(graph, producer) is node
        return None if behind else (node.output, 1)  # else it is the layer's
    if isinstance(node.op, LayerNorm | RmsNorm) and constant and node.op.axes == 1:
        return node.output, graph.types[node.output].rank - 1
    if node.op.name == "mul":
        axis = _factor_axis(graph, node)
        return None if axis is None else (node.output, axis)
    return None


def _factor_position(graph: Graph, node: Node) -> int:
    return 1 if node.inputs[1] in graph.constants else 0


def _factor_axis(graph: Graph, node: Node) -> int | None:
    """The axis along which a product has one constant factor per channel."""
    rank = graph.types[node.output].rank
    factor = graph.constants.get(node.inputs[_factor_position(graph, node)])
    if factor is None or factor.array.ndim > rank:
        return None
    shape = (1,) * (rank - factor.array.ndim) + factor.array.shape
    long = [axis for axis, extent in enumerate(shape) if extent > 1]
    return long[0] if len(long) == 1 and long[0] > 0 else None


def _divide(graph: Graph, node: Node, s: _Float64) -> None:
    if is_layer(node):
        divide_rows(graph, node, s)
    elif node.op.name == "mul":
        divide_vector(graph, node, _factor_position(graph, node), s, 1.0)
    else:
        divide_vector(graph, divide_vector(graph, node, 1, s, 1.0), 2, s, 0.0)


def _reached(graph: Graph, value: str) -> list[str]:
    """Weights of the layers that read `value`, at once or through a clamp."""
    found = []
    for node in graph.users()[value]:
        if is_layer(node) and node.inputs[0] == value:
            found.append(weight_of(node))
        elif isinstance(node.op, Operator) and node.op.clamp_range() is not None:
            found += _reached(graph, node.output)
    return found
