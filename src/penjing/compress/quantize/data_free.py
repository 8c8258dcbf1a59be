"""Ranges and means without any data: batch norms tell how what they make is distributed.

What a batch norm makes has mean beta and deviation |gamma| in each channel, as it was trained (Nagel et al.,
"Data-free quantization through weight equalization and bias correction", 2019, sections 4.1.3 and 4.2.1). From there
it is followed through the graph (`spread`):

* batch norm: normal numbers within beta +- sigmas |gamma|, whatever comes in;
* clamps such as relu: the clipped normal distribution; other element-wise functions: the same by quadrature;
* layers without a batch norm, sums, differences and products: terms count as independent. Bounds by interval
  arithmetic, for layers and sums cut to the mean +- sigmas deviations;
* maximum and mean over windows or positions, resizing: as what they read, which is too wide rather than too narrow;
* concatenation, slices, flattening, transposition: the channels go where the values go; where channels are mixed up,
  one mean, deviation and range for all of them;
* inputs: the ranges that are given; those with zero inside are taken as normalised (mean 0, deviation 1), others as
  uniform.

What no rule covers (a softmax apart, whose range is fixed) is known again behind the next batch norm. Give the graph as
it was captured: `clean` folds the batch norms away. Names in the results are those after `clean`.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from penjing.compress.quantize.calibrate import Ranges, observed_values
from penjing.compress.quantize.layers import layers
from penjing.compress.quantize.spread import Spread
from penjing.compress.quantize.spread_rules import follow
from penjing.compress.structure.fold_batch_norm import FoldBatchNorm
from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.graph import Graph
from penjing.ops.operator import Operator


def ranges_from_batch_norm(graph: Graph, inputs: Mapping[str, tuple[float, float]], sigmas: float = 6.0) -> Ranges:
    """The range of every activation that `calibrate` would observe after `clean`; its `samples` are 0.

    Args:
        graph: as captured, with its batch norms.
        inputs: name of each graph input -> (low, high), normalised as in training.
        sigmas: how many standard deviations a range spans on either side of the mean.

    Raises:
        InvalidInput: ranges that do not fit the graph's inputs, or `sigmas` not above 0.
        QuantizationError: no batch norm, one with computed statistics, or values whose range cannot be known.
    """
    cleaned, spreads = _after_clean(graph, inputs, sigmas)
    wanted = observed_values(cleaned)
    unknown = [name for name in wanted if spreads[name] is None]
    if unknown:
        producers = cleaned.producers()
        places = ", ".join(f"%{name} ({producers[name].op.name})" for name in unknown)
        raise QuantizationError(
            f"the range of {places} cannot be known without data", hint="calibrate with a few samples"
        )
    return Ranges({name: spread.range for name in wanted if (spread := spreads[name]) is not None}, 0)


def means_from_batch_norm(
    graph: Graph, inputs: Mapping[str, tuple[float, float]], sigmas: float = 6.0
) -> dict[str, NDArray[np.float64]]:
    """Name of a weight after `clean` -> (groups, k), the mean of what it is multiplied by, for `expected_drift`.

    Layers of which nothing is known, or whose weight others share, are left out. Arguments and errors as in
    `ranges_from_batch_norm`.
    """
    cleaned, spreads = _after_clean(graph, inputs, sigmas)
    means = {}
    for name, layer in layers(cleaned).items():
        node = layer.nodes[0]
        spread = spreads.get(node.inputs[0])
        assert isinstance(node.op, Operator)
        if spread is None or len(layer.nodes) > 1:
            continue
        shape = (1, *cleaned.types[node.inputs[0]].bounds[1:])
        column = [1] * len(shape)
        if spread.axis is not None:
            column[spread.axis] = shape[spread.axis]
        x = np.broadcast_to(spread.mean.reshape(column), shape)  # zeros of the padding come in with the operands
        operands = node.op.weight_operands(x, cleaned.constants[name].array)
        if operands is not None:
            means[name] = operands.mean(axis=1)
    return means


def _after_clean(
    graph: Graph, inputs: Mapping[str, tuple[float, float]], sigmas: float
) -> tuple[Graph, dict[str, Spread | None]]:
    """The cleaned graph, and what is known of each of its values."""
    if not (np.isfinite(sigmas) and sigmas > 0):
        raise InvalidInput(f"sigmas must be above 0, not {sigmas}")
    if not any(node.op.name == "batch_norm" for node in graph.nodes):
        raise QuantizationError(
            "the graph holds no batch norm from which ranges could follow",
            where=f"graph {graph.name}",
            hint="give the graph before `clean`, or calibrate with a few samples",
        )
    spreads: dict[str, Spread | None] = dict.fromkeys(graph.states)
    spreads |= _of_inputs(graph, inputs)
    for node in graph.nodes:
        spreads |= dict(zip(node.outputs, follow(graph, node, spreads, sigmas), strict=True))
    cleaned = FoldBatchNorm().run(graph).graph
    users = graph.users()
    known = {}
    for name in cleaned.activations():
        source = name
        while len(users[source]) == 1 and users[source][0].op.name == "batch_norm":
            behind = users[source][0].output
            if behind in cleaned.types:
                break
            source = behind  # folded: the layer's output is now what the norm's was
        known[name] = spreads[source]
    return cleaned, known


def _of_inputs(graph: Graph, inputs: Mapping[str, tuple[float, float]]) -> dict[str, Spread | None]:
    if set(inputs) != set(graph.real_inputs):
        raise InvalidInput(f"ranges for inputs {sorted(inputs)}, but the graph has {sorted(graph.real_inputs)}")
    found: dict[str, Spread | None] = {}
    for name, (low, high) in inputs.items():
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise InvalidInput(f"a range cannot be {low}..{high}", where=f"input {name}")
        width = high - low
        mean, std = (0.0, min(1.0, width / 2)) if low < 0 < high else ((low + high) / 2, width / np.sqrt(12))
        found[name] = Spread(None, *(np.array([x], np.float64) for x in (mean, std, low, high)))
    return found
