"""Let what is left of a layer's inputs make up for the channels that go.

For a layer y = x w^T + b that keeps the columns K of its weight and loses R, the weights that come closest to y are

    w'_K = w_K + w_R G_RK G_KK^-1,    b' = b + w m - w'_K m_K

with G the gram matrix of x, or its covariance and m its mean where there is a bias (He, Zhang and Sun, "Channel Pruning
for Accelerating Very Deep Neural Networks", 2017, section 3.1, equation 2, solved in closed form).
"""

from collections.abc import Mapping

import numpy as np

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.prune.channel_scores import INPUT_AXIS, biases_of, damped, is_summed, moments
from penjing.compress.prune.dependency_groups import Indices, Place
from penjing.ir.graph import Graph
from penjing.ir.types import Constant
from penjing.ops.layers import float_weights


def compensate_channels(graph: Graph, removed: Mapping[Place, Indices], inputs: Mapping[str, LayerInputs]) -> Graph:
    """A graph of the same shapes whose layers no longer need the input channels in `removed`: zero weights read them.

    Layers in groups, and those without inputs, keep their weights.
    """
    graph = graph.copy()
    for name, w in float_weights(graph).items():
        gone = removed.get((name, INPUT_AXIS))
        if gone is None or name not in inputs or not is_summed(w, inputs[name]):
            continue
        columns = np.zeros((w.shape[INPUT_AXIS], w[0].size // w.shape[INPUT_AXIS]), np.bool_)
        columns[gone] = True
        lost = columns.ravel()
        rows = w.reshape(len(w), -1).astype(np.float64)
        made = _least_squares(rows, lost, damped(moments(graph, name, inputs[name])))
        shift = (rows - made) @ inputs[name].mean[0]
        graph.set_constant(name, Constant(made.reshape(w.shape).astype(np.float32), graph.constants[name].encoding))
        biases = biases_of(graph, name)
        for bias in dict.fromkeys(biases) if all(biases) else ():
            graph.set_constant(bias, Constant((graph.constants[bias].array + shift).astype(np.float32)))
    return graph


def _least_squares(rows: np.ndarray, lost: np.ndarray, gram: np.ndarray) -> np.ndarray:
    made = np.where(lost, 0.0, rows)
    kept = ~lost
    change = np.linalg.solve(gram[np.ix_(kept, kept)], gram[np.ix_(kept, lost)] @ rows[:, lost].T)
    made[:, kept] += change.T
    return made
