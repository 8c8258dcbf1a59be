"""Mixed precision: which layer gets how many bits, under a budget for all of them together.

A sensitivity says what each layer costs in accuracy at each number of bits, the others being as they are. Two measures:

* `output_sensitivity`: the squared error of what the layer computes, as a share of what it computes (from
  `collect_layer_inputs`, without running the network again);
* `loss_sensitivity`: how much a loss of yours rises; one run of it per layer and number of bits.

Costs of layers count as independent, as usual (Dong et al., "HAWQ-V2", 2020, section 3.2). Under a budget of bytes the
least sum is then found, up to what one step of one layer saves, by the greedy rule on convex hulls: of each layer keep
the choices on the lower convex hull of (bytes, cost), start with the smallest, and go on with the step that saves most
cost per byte among those that fit (Shoham and Gersho, "Efficient bit allocation for an arbitrary set of quantizers",
1988, section III).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.quantize.affine_map import Clip
from penjing.compress.quantize.choose_grid import GridOptions, check_bits, choose_grid
from penjing.compress.quantize.gptq import output_error
from penjing.compress.quantize.layers import channel_rows, weights
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.graph import Graph
from penjing.ops.layers import check_names

Sensitivity = Mapping[str, Mapping[int, float]]

CHOICES = (2, 3, 4, 5, 6, 8)


def output_sensitivity(
    graph: Graph, inputs: Mapping[str, LayerInputs], choices: Sequence[int] = CHOICES, clip: Clip = "mse"
) -> dict[str, dict[int, float]]:
    """Name of a weight -> bits -> squared error of its layer's outputs, divided by their mean square without bias.

    Args:
        graph: cleaned, with float weights.
        inputs: from `collect_layer_inputs`, of this graph.
        choices: bits to try, 2 to 8.
        clip: as in `round-weights`.

    Raises:
        InvalidInput: choices out of their range, or inputs of a layer that there is not.
    """
    found = weights(graph)
    check_names(inputs, found, "inputs")
    options = GridOptions(clip=clip)
    sensitivity: dict[str, dict[int, float]] = {}
    for name, known in inputs.items():
        axis = found[name].axis
        if axis is None:
            continue
        rows = channel_rows(graph.constants[name].array, axis)
        signal = float(output_error(rows, np.zeros_like(rows), known.gram).sum())
        sensitivity[name] = {}
        for bits in _checked(choices):
            grid = choose_grid(rows, bits, options, name)
            error = float(output_error(rows, grid.codes(rows) * grid.scales[:, None], known.gram).sum())
            sensitivity[name][bits] = error / signal if signal > 0 else 0.0
    return sensitivity


def loss_sensitivity(
    graph: Graph, loss: Callable[[Graph], float], choices: Sequence[int] = CHOICES, clip: Clip = "mse"
) -> dict[str, dict[int, float]]:
    """Name of a weight -> bits -> how much `loss` rises when this weight alone is rounded.

    Args:
        graph: cleaned, with float weights.
        loss: of a graph, the lower the better; it runs once for each layer and choice, and once for `graph`.
        choices: bits to try, 2 to 8.
        clip: as in `round-weights`.

    Raises:
        InvalidInput: choices out of their range, or a loss that is not finite.
    """
    rounded = {bits: RoundWeights(bits, clip=clip).run(graph).graph for bits in _checked(choices)}
    before = _finite(loss(graph))
    sensitivity: dict[str, dict[int, float]] = {}
    for name, layer in weights(graph).items():
        if layer.axis is None or graph.constants[name].quant is not None:
            continue
        sensitivity[name] = {}
        for bits, all_rounded in rounded.items():
            alone = graph.copy()
            alone.set_constant(name, all_rounded.constants[name])
            sensitivity[name][bits] = _finite(loss(alone)) - before
    return sensitivity


def assign_bits(
    graph: Graph, sensitivity: Sensitivity, *, average_bits: float | None = None, max_bytes: int | None = None
) -> dict[str, int]:
    """Name of a weight -> bits, for `overrides` of `round-weights` and `gptq`: the least sum of costs in the budget.

    Args:
        graph: the graph whose weights the sensitivity names.
        sensitivity: name of a weight -> bits -> cost; only these layers get bits and count in the budget.
        average_bits: at most so many bits per weight, on average.
        max_bytes: at most so many bytes for the codes of all these weights.

    Raises:
        InvalidInput: not exactly one budget, or a sensitivity that is empty, not finite or of other layers.
        QuantizationError: even the smallest choices do not fit.
    """
    if (average_bits is None) == (max_bytes is None):
        raise InvalidInput("bits are assigned under average_bits or max_bytes, one of the two")
    found = weights(graph)
    check_names(sensitivity, found, "sensitivity")
    if not sensitivity or not all(sensitivity.values()):
        raise InvalidInput("a sensitivity holds at least one layer, and one choice for each")
    for costs in sensitivity.values():
        _checked(list(costs))
        for cost in costs.values():
            _finite(cost)
    sizes = {name: graph.constants[name].array.size for name in sensitivity}
    total = sum(sizes.values())
    budget = average_bits * total if average_bits is not None else 8.0 * (max_bytes or 0)
    hulls = {name: _hull(costs) for name, costs in sensitivity.items()}
    chosen = dict.fromkeys(hulls, 0)
    spent = sum(hulls[name][0] * sizes[name] for name in hulls)
    if spent > budget:
        raise QuantizationError(
            f"{total} weights take {spent / total:.2f} bits on average, {-(-spent // 8)} bytes, at the least; "
            f"the budget allows {budget / total:.2f}, {int(budget // 8)} bytes",
            hint="allow more, or offer fewer bits as a choice",
        )
    while True:
        gains = {}
        for name, at in chosen.items():
            less, more = hulls[name][at], hulls[name][min(at + 1, len(hulls[name]) - 1)]
            if more > less and spent + (more - less) * sizes[name] <= budget:
                gains[name] = _slope(sensitivity[name], less, more) / sizes[name]
        if not gains:
            return {name: hulls[name][at] for name, at in chosen.items()}
        best = max(gains, key=lambda name: gains[name])
        spent += (hulls[best][chosen[best] + 1] - hulls[best][chosen[best]]) * sizes[best]
        chosen[best] += 1


def _hull(costs: Mapping[int, float]) -> list[int]:
    """Bits on the lower convex hull of (bits, cost), ascending and with falling cost; the smallest comes first."""
    hull: list[int] = []
    for bits in sorted(costs):
        if hull and costs[bits] >= costs[hull[-1]]:
            continue
        while len(hull) > 1 and _slope(costs, hull[-2], hull[-1]) < _slope(costs, hull[-1], bits):
            hull.pop()
        hull.append(bits)
    return hull


def _slope(costs: Mapping[int, float], less: int, more: int) -> float:
    """Cost saved per bit."""
    return (costs[less] - costs[more]) / (more - less)


def _checked(choices: Sequence[int]) -> list[int]:
    if not choices:
        raise InvalidInput("there are no bits to choose from")
    if any(isinstance(bits, str) for bits in choices):
        raise InvalidInput("bits are assigned as numbers, 2 to 8; 'ternary' is an override of your own")
    return [int(check_bits(bits)) for bits in choices]


def _finite(cost: float) -> float:
    if not np.isfinite(cost):
        raise InvalidInput(f"a cost must be finite, not {cost}")
    return float(cost)
