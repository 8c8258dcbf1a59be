"""How much each weight matters to its layer's outputs, by second moments of what the layer reads.

    I = w^2 / (2 [H^-1]_pp)

the squared error of the outputs if this weight alone goes and the others make up for it. (Hassibi and Stork, "Second
order derivatives for network pruning: Optimal Brain Surgeon", 1993, equation 5.) Of layers, it compares the errors as
they are; a network may bear more in one than in another.
"""

from collections.abc import Mapping

import numpy as np

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.prune.obs import Float64, check_fits, costs, damped
from penjing.compress.prune.pattern_layers import pattern_layers
from penjing.ir.graph import Graph


def hessian_importance(graph: Graph, inputs: Mapping[str, LayerInputs], damping: float = 0.01) -> dict[str, Float64]:
    """Name of a weight -> importances of its shape, for every layer in `inputs`.

    Args:
        graph: any float stage.
        inputs: of this very graph, from `collect_layer_inputs`.
        damping: as in `PruneObs`.

    Raises:
        PruningError: no layer with a weight.
        InvalidInput: statistics that do not fit the graph.
    """
    found = {}
    for name, layer in pattern_layers(graph).items():
        if layer.impossible or name not in inputs:
            continue
        gram = inputs[name].gram
        w = layer.weight.astype(np.float64).reshape(len(gram), -1, gram.shape[2])
        check_fits(len(w), w.shape[2], gram, name)
        alone = np.arange(w.shape[2])[:, None]
        parts = [costs(w[i], damped(gram[i], damping), w[i] != 0, alone) for i in range(len(w))]
        found[name] = np.stack(parts).reshape(layer.weight.shape) / 2
    return found
