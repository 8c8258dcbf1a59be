"""How much is lost with a channel: scores of the slices of constants, of which a group's units take the sum.

Scores are given per place, that is per constant and axis, one number >= 0 for each slice. Three ways to make them:

* magnitude: the squared norm of the slice, over the mean of its axis. For weights whose scale means something: fold
  batch norms first.
* an array of importances per weight, such as (w * dL/dw)^2 of a Taylor expansion (Molchanov et al., "Importance
  Estimation for Neural Network Pruning", 2019, equation 8): the sum over each slice.
* removal: the squared error of a layer's output that the loss of an input channel adds, when all weights that are left
  make up for it. Channels (blocks of features where they are flattened) go one by one, the one that adds least first.
  With the layer's gram matrix G = mean of x^T x and S the columns of the channel,

      added error = sum over outputs of w_S (G^-1)_SS^-1 w_S^T,    as a share of  sum of w G w^T

  and then w and G^-1 are those of the layer without it (Hassibi and Stork, "Optimal Brain Surgeon", 1993, equation 5,
  for a block of weights). So the n lowest scores of a layer sum up to the error without these n channels. Where the
  layer has a bias, that takes the mean, and G is the covariance.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.prune.dependency_groups import ChannelGroup, Indices, Place, dependency_groups
from penjing.core.errors import PruningError
from penjing.ir.graph import Graph
from penjing.ops.layers import bias_beside, float_weights, weight_nodes

Scores = Mapping[Place, NDArray[np.float64]]

_Float64 = NDArray[np.float64]
DAMPING = 1e-3  # of the mean diagonal of G: grams of few samples, or of channels that are always zero, have no inverse
TINY = 1e-30  # stands for 0 as a divisor
INPUT_AXIS = 1  # of the weights of convolutions and linear layers


def magnitude_scores(graph: Graph) -> Scores:
    """Squared norms of the slices of all weights, 1 on average along each axis."""
    return sliced_scores({name: np.square(w, dtype=np.float64) for name, w in float_weights(graph).items()})


def sliced_scores(importance: Mapping[str, np.ndarray]) -> Scores:
    """Scores from an importance of every weight: name -> array of the weight's shape, at most 1 on average per axis.

    Raises:
        PruningError: NaN, infinity, or an importance below 0.
    """
    scores = {}
    for name, array in importance.items():
        if not np.isfinite(array).all() or array.min(initial=0) < 0:
            raise PruningError("an importance is a finite number >= 0", where=name)
        for axis in range(array.ndim):
            sums = array.sum(axis=tuple(a for a in range(array.ndim) if a != axis), dtype=np.float64)
            scores[name, axis] = sums / max(float(sums.mean()), TINY)
    return scores


def removal_scores(graph: Graph, inputs: Mapping[str, LayerInputs]) -> Scores:
    """Share of each layer's output that its input channels alone can give; layers in groups have no scores.

    Args:
        graph: any float stage.
        inputs: from `collect_layer_inputs` on this graph.
    """
    groups = dependency_groups(graph).groups
    scores = {}
    for name, w in float_weights(graph).items():
        units = [group.slices[name, INPUT_AXIS] for group in groups if (name, INPUT_AXIS) in group.slices]
        if units and name in inputs and is_summed(w, inputs[name]):
            scores[name, INPUT_AXIS] = _removal(w, moments(graph, name, inputs[name]), units)
    return scores


def is_summed(w: np.ndarray, seen: LayerInputs) -> bool:
    """Whether every output of the layer reads every input channel."""
    return seen.gram.shape == (1, w[0].size, w[0].size)


def moments(graph: Graph, name: str, seen: LayerInputs) -> _Float64:
    """(k, k): the covariance of what a weight is multiplied by, if all its readers have a bias, else the gram."""
    gram: _Float64 = seen.gram[0]
    mean = seen.mean[0]
    return gram - np.outer(mean, mean) if all(biases_of(graph, name)) else gram


def biases_of(graph: Graph, name: str) -> list[str]:
    """Of every node that has this weight, the name of its constant bias, or ''."""
    biases = [bias_beside(weight.node, name) for weight in weight_nodes(graph) if weight.weight == name]
    return [bias if bias in graph.constants else "" for bias in biases]


def group_scores(group: ChannelGroup, scores: Scores) -> _Float64 | None:
    """(units,): the sum over all slices of each unit that have scores; None if none has.

    Raises:
        PruningError: scores that do not fit their constant, or are no finite numbers >= 0.
    """
    known = [place for place in group.slices if place in scores]
    if not known:
        return None
    total = np.zeros(group.size)
    for place in known:
        values, indices = np.asarray(scores[place], np.float64), group.slices[place]
        if values.ndim != 1 or indices.max() >= len(values):
            raise PruningError(f"scores of shape {values.shape} do not fit axis {place[1]}", where=place[0])
        if not np.isfinite(values).all() or values.min() < 0:
            raise PruningError("a score is a finite number >= 0", where=place[0])
        total += values[indices].sum(axis=1)
    return total


def _removal(w: np.ndarray, gram: _Float64, units: Sequence[Indices]) -> _Float64:
    """Scores of the input channels in `units`, one array (units, n) per group; 0 for all others.

    The added error of a unit is shared out evenly among its n channels.
    """
    rows = w.reshape(len(w), -1).astype(np.float64)
    energy = float(np.einsum("oi,ij,oj->", rows, gram, rows))
    inverse = np.linalg.inv(damped(gram))
    taps = rows.shape[1] // w.shape[INPUT_AXIS]
    left = [(channels[:, :, None] * taps + np.arange(taps)).reshape(len(channels), -1) for channels in units]
    added, highest = np.zeros(w.shape[INPUT_AXIS]), 0.0
    while any(map(len, left)):
        errors = [_errors(rows, inverse, columns) for columns in left]
        group = int(np.argmin([some.min(initial=np.inf) for some in errors]))
        unit = int(np.argmin(errors[group]))
        highest = max(highest, float(errors[group][unit]))  # of equals, rounding may lower the next
        gone = left[group][unit]
        left[group] = np.delete(left[group], unit, axis=0)
        added[gone // taps] = highest * taps / len(gone)
        shared = np.linalg.solve(inverse[np.ix_(gone, gone)], inverse[gone])
        rows = rows - rows[:, gone] @ shared
        inverse = inverse - inverse[:, gone] @ shared
    return added / max(energy, TINY)


def _errors(rows: np.ndarray, inverse: np.ndarray, columns: Indices) -> _Float64:
    """(units,): what the loss of each unit's columns (units, m) would add."""
    corners = inverse[columns[:, :, None], columns[:, None, :]]
    weights = rows[:, columns].transpose(1, 2, 0)
    errors: _Float64 = np.einsum("umo,umo->u", weights, np.linalg.solve(corners, weights))
    return errors


def damped(gram: _Float64) -> _Float64:
    """The gram matrix with a small multiple of the identity, so that it has an inverse."""
    level = max(DAMPING * float(np.diag(gram).mean()), TINY)
    return gram + level * np.eye(len(gram))
