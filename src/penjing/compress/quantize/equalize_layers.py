"""Cross-layer equalization: weights of two layers in a row are brought to the same range, channel by channel.

For channel i between them, with r1_i = max |row i of W1| and r2_i = max |column i of W2|,

    s_i = sqrt(r1_i / r2_i),    W1 row i and b1_i are divided by s_i,    W2 column i is multiplied by s_i

after which both have the range sqrt(r1_i r2_i), and no channel wastes the codes that another one needs (Nagel et al.,
"Data-free quantization through weight equalization and bias correction", 2019, section 4.1, equation 11). Pairs that
share a layer, as in chains and around depthwise convolutions, are visited in turns until nothing moves. What the
network computes stays, up to the rounding of floats. Which places allow it: `channel_scaling`.

A channel whose weights all but vanish beside its bias would be scaled up until that bias alone widened the range of all
activations. So s_i is at least |b_i| / max |b|: no bias grows beyond the largest of its layer.

A batch norm between a layer and its activation counts as folded into the layer, and is scaled in its stead, so that the
statistics which it holds stay true (`data_free`).

Absorbing high biases (section 4.1.3 there) is left out: it holds only as long as no activation falls three standard
deviations below its mean, and so would change what the network computes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penjing.compress.quantize.channel_scaling import (
    Reader,
    channel_axis,
    column_peaks,
    divide_rows,
    find_readers,
    folded_bias,
    made_by,
    multiply_columns,
    norm_behind,
    norm_factors,
    reason_to_keep_rows,
)
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ops.layers import check_finite, weight_of

_Float64 = NDArray[np.float64]
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class EqualizeLayers(Pass):
    """Equalize the channel ranges of layers that follow one another.

    Attributes:
        rounds: how often all pairs are visited at most.
        tolerance: it ends when no channel is scaled by more than this share.
    """

    name = "equalize-layers"

    rounds: int = 20
    tolerance: float = 1e-3

    def run(self, graph: Graph) -> PassResult:
        """The same function with other weights.

        Raises:
            InvalidInput: fewer than one round, a tolerance that is not above 0, or NaN or infinity in a weight, a bias
                or a batch norm.
        """
        if self.rounds < 1 or not self.tolerance > 0:
            raise InvalidInput(f"equalization takes rounds >= 1 and tolerance > 0, not {self.rounds}, {self.tolerance}")
        graph = graph.copy()
        outputs, declined = _sources(graph)
        scaled = dict.fromkeys(outputs, np.ones(1))
        for _ in range(self.rounds):
            moved = 0.0
            for output in outputs:
                s = _equalize(graph, _node(graph, output))
                scaled[output] = scaled[output] * s
                moved = max(moved, float(np.abs(s - 1).max()))
            if moved < self.tolerance:
                break
        changed = []
        for output in outputs:
            node = _node(graph, output)
            readers = ", ".join(weight_of(reader.node) for reader in _readers(graph, node))
            span = f"{scaled[output].min():.3g} to {scaled[output].max():.3g}"
            changed.append(Remark(weight_of(node), f"channels divided by {span}, for {readers}"))
        return PassResult(graph, tuple(changed), tuple(declined))


def _sources(graph: Graph) -> tuple[list[str], list[Remark]]:
    """Outputs of the layers whose channels can be scaled, and why others cannot."""
    outputs, declined = [], []
    for node in graph.nodes:
        if not weight_of(node):
            continue
        reason = _reason_to_decline(graph, node)
        if reason is None:
            outputs.append(node.output)
        else:
            declined.append(Remark(weight_of(node), reason))
    return outputs, declined


def _reason_to_decline(graph: Graph, node: Node) -> str | None:
    reason = reason_to_keep_rows(graph, node)
    if reason is not None:
        return reason
    readers = find_readers(graph, made_by(graph, node), channel_axis(graph, node))
    return readers if isinstance(readers, str) else None


def _equalize(graph: Graph, node: Node) -> _Float64:
    """Equalize one layer with those behind it; returns s."""
    rows, columns = _ranges(graph, node)
    biases = np.abs(folded_bias(graph, node))
    check_finite(rows + columns + biases, weight_of(node))
    alive = (rows > 0) & (columns > 0)
    s = np.sqrt(np.where(alive, rows, 1.0) / np.where(alive, columns, 1.0))
    s = np.where(alive, np.maximum(s, biases / max(float(biases.max()), _TINY)), 1.0)
    for reader in _readers(graph, node):
        multiply_columns(graph, reader, s)
    divide_rows(graph, node, s)
    return s


def _ranges(graph: Graph, node: Node) -> tuple[_Float64, _Float64]:
    """Per channel: max |row| of the layer, and max |column| of all that read it."""
    weight = graph.constants[weight_of(node)].array.astype(np.float64)
    rows = np.abs(weight).reshape(weight.shape[0], -1).max(axis=1)
    norm = norm_behind(graph, node)
    rows = rows if norm is None else rows * np.abs(norm_factors(graph, norm))
    columns = np.max([column_peaks(graph, reader) for reader in _readers(graph, node)], axis=0)
    return rows, columns


def _readers(graph: Graph, node: Node) -> list[Reader]:
    found = find_readers(graph, made_by(graph, node), channel_axis(graph, node))
    assert not isinstance(found, str)
    return found


def _node(graph: Graph, output: str) -> Node:
    """Looked up anew, as scaling a shared bias replaces its node."""
    return graph.producers()[output]
