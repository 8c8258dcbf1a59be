"""How far rounded weights move the mean of each output channel: what `correct-bias` takes back.

With the error of the weights W~ - W and what they are multiplied by, x,

    E[y~] - E[y] = (W~ - W) E[x]

(Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, section 4.2, equations 17
to 19). `expected_drift` computes this from known means, collected (`collect_layer_inputs`) or derived from batch norms
(`data_free`). It takes each layer by itself. `measured_drift` runs both networks, layer by layer, and lets each layer
read what the corrected layers before it make (appendix D there), so that errors that pass through activations are met
as well.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from penjing.compress.observe import Batch
from penjing.compress.quantize.layers import layers, weights
from penjing.core.errors import CalibrationError, InvalidGraph, InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ir.inputs import named_inputs
from penjing.ops.layers import check_names
from penjing.ops.operator import Operator

_Float64 = NDArray[np.float64]
_Values = dict[str, list[np.ndarray]]


def expected_drift(original: Graph, rounded: Graph, means: Mapping[str, np.ndarray]) -> dict[str, _Float64]:
    """Name of a weight -> (O,), the drift of each output channel of its layer.

    Args:
        original: the graph before its weights were rounded.
        rounded: the graph after.
        means: name of a weight -> (groups, k), the mean of what it is multiplied by, as `LayerInputs.mean` is.

    Raises:
        InvalidInput: graphs of different nodes, or means that do not fit.
    """
    _check_alike(original, rounded)
    found = weights(original)
    check_names(means, found, "means")
    drift = {}
    for name, mean in means.items():
        error = rounded.constants[name].array.astype(np.float64) - original.constants[name].array
        if found[name].axis != 0 or error[0].size != mean.shape[1] or len(error) % len(mean):
            raise InvalidInput(f"means of {mean.shape[1]} weights for {error[0].size}", where=name)
        drift[name] = np.einsum("gok,gk->go", error.reshape(len(mean), -1, mean.shape[1]), mean).reshape(-1)
    return drift


def measured_drift(original: Graph, rounded: Graph, batches: Iterable[Batch]) -> dict[str, _Float64]:
    """Name of a weight -> (O,), the drift of each output channel when all layers before it are corrected.

    Memory holds what all samples make of the layers at hand: 100 to 500 samples do.

    Args:
        original: the graph before its weights were rounded; any float stage.
        rounded: the graph after.
        batches: float32 inputs (N, ...), normalised as in training; a tuple per batch for several inputs.

    Raises:
        CalibrationError: no batches, or NaN or infinity in an activation.
        InvalidInput: graphs of different nodes, or a batch that does not fit.
        InvalidGraph: the graph carries states.
    """
    _check_alike(original, rounded)
    if original.states:
        raise InvalidGraph("states have no float meaning of a single call", where=f"graph {original.name}")
    given = [batch if isinstance(batch, tuple) else (batch,) for batch in batches]
    if not given:
        raise CalibrationError("the calibration set is empty", hint="give at least one batch; 100 to 500 samples do")
    named = [named_inputs(original, inputs) for inputs in given]
    values: _Values = {name: [inputs[name] for inputs in named] for name in original.inputs}
    moved: _Values = dict(values)
    names = {layer.nodes[0].output: name for name, layer in layers(original).items() if len(layer.nodes) == 1}
    last_use = {name: i for i, node in enumerate(original.nodes) for name in node.inputs}
    drift = {}
    for i, (node, other) in enumerate(zip(original.nodes, rounded.nodes, strict=True)):
        _run(original, node, values)
        _run(rounded, other, moved)
        if node.outputs[0] in names:
            axis = values[node.output][0].ndim - 1 if node.op.name == "linear" else 1
            difference = _mean(moved[node.output], axis, node) - _mean(values[node.output], axis, node)
            shape = [1] * values[node.output][0].ndim
            shape[axis] = difference.size
            step = difference.astype(np.float32).reshape(shape)
            moved[node.output] = [array - step for array in moved[node.output]]
            drift[names[node.output]] = difference
        for name in node.inputs:
            if last_use[name] == i:
                values.pop(name, None)
                moved.pop(name, None)
    return drift


def _check_alike(original: Graph, rounded: Graph) -> None:
    alike = [node.outputs for node in original.nodes] == [node.outputs for node in rounded.nodes]
    names = [(name, c.array.shape) for name, c in original.constants.items() if c.array.ndim > 1]
    if not alike or any(name not in rounded.constants or rounded.constants[name].array.shape != s for name, s in names):
        raise InvalidInput(
            "the two graphs differ in more than the numbers in their weights",
            hint="give the graph that the rounding pass was given, and the one that it returned",
        )


def _run(graph: Graph, node: Node, values: _Values) -> None:
    """One node on all batches."""
    assert isinstance(node.op, Operator)
    counts = [len(values[name]) for name in node.inputs if name in values]
    results = []
    for i in range(max(counts, default=1)):
        arguments = [_argument(graph, values, name, i) for name in node.inputs]
        results.append(node.op.float_reference(*arguments))
    for position, name in enumerate(node.outputs):
        values[name] = [outputs[position] for outputs in results]


def _argument(graph: Graph, values: _Values, name: str, batch: int) -> np.ndarray | None:
    if not name:
        return None
    if name in graph.constants:
        return graph.constants[name].array
    return values[name][batch if len(values[name]) > 1 else 0]


def _mean(arrays: list[np.ndarray], axis: int, node: Node) -> _Float64:
    rest = tuple(i for i in range(arrays[0].ndim) if i != axis)
    total = np.sum([array.sum(axis=rest, dtype=np.float64) for array in arrays], axis=0)
    if not np.isfinite(total).all():
        raise CalibrationError("NaN or infinity in what a layer makes", where=str(node))
    return np.asarray(total * arrays[0].shape[axis] / sum(array.size for array in arrays))
