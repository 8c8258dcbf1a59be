"""What a layer's weight is multiplied by, summed up over calibration samples: second moments and means.

For a layer y = x w^T the squared error that a changed weight causes is

    sum over rows |x (w - w~)^T|^2  =  (w - w~) G (w - w~)^T,    G = sum of x^T x

so G (k, k) is all that a method needs to know of the samples (Hassibi and Stork, "Second order derivatives for network
pruning: Optimal Brain Surgeon", 1993; Frantar and Alistarh, "Optimal Brain Compression", 2022, section 3).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penjing.compress.observe import Batch, observe
from penjing.core.errors import CalibrationError
from penjing.ir.graph import Graph
from penjing.ops.layers import WeightNode, weight_nodes

_Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LayerInputs:
    """Of one layer whose weight reads as (groups, O / groups, k).

    Attributes:
        gram: (groups, k, k), the mean of x^T x over rows.
        mean: (groups, k), the mean of x.
        rows: how many rows were seen: samples times positions.
    """

    gram: _Float64
    mean: _Float64
    rows: int


def collect_layer_inputs(
    graph: Graph, batches: Iterable[Batch], progress: Callable[[int], None] | None = None
) -> dict[str, LayerInputs]:
    """Name of a weight -> what it is multiplied by. A weight that several layers share gets the rows of all.

    Args:
        graph: any float stage.
        batches: float32 inputs (N, ...), normalised as in training; a tuple per batch for several inputs.
        progress: called with the number of samples seen so far.

    Raises:
        CalibrationError: no batches, or NaN or infinity in an activation.
        InvalidInput: a batch does not fit the graph's inputs.
    """
    readers: dict[str, list[WeightNode]] = {}
    for weight in weight_nodes(graph):
        if not weight.place.of_output:
            readers.setdefault(weight.node.inputs[0], []).append(weight)
    sums: dict[str, tuple[_Float64, _Float64, int]] = {}

    def watch(name: str, array: np.ndarray) -> None:
        for layer in readers.get(name, ()):
            _add(sums, graph, layer, array)

    observe(graph, batches, watch, progress)
    return {name: LayerInputs(gram / rows, mean / rows, rows) for name, (gram, mean, rows) in sums.items()}


def _add(sums: dict[str, tuple[_Float64, _Float64, int]], graph: Graph, layer: WeightNode, x: np.ndarray) -> None:
    weight, node, op, _ = layer
    operands = op.weight_operands(x, graph.constants[weight].array)
    if operands is None:
        return
    if not np.isfinite(operands).all():
        raise CalibrationError("NaN or infinity in what a layer reads", where=str(node))
    # float32 products of one batch, float64 sums over batches: the error stays that of one batch
    gram = np.matmul(operands.transpose(0, 2, 1), operands).astype(np.float64)
    mean = operands.sum(axis=1, dtype=np.float64)
    before = sums.get(weight)
    if before is not None:
        gram, mean = gram + before[0], mean + before[1]
    sums[weight] = gram, mean, operands.shape[1] + (before[2] if before is not None else 0)
