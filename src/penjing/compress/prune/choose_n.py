"""Which n of N:M each layer gets for an average density: layers that bear it give more.

    minimise  sum of errors[layer][n]    so that    sum of size * n / m  <=  density * sum of size

greedily: from the largest n of every layer, the step that adds least error for each unit of size saved, until the
average is met. (The greedy solution of a separable budget; Frantar and Alistarh, "SPDY", 2022, treat the exact one.)
"""

from collections.abc import Iterable, Mapping

import numpy as np

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.prune.obs import check_fits, damped, refit, squared_error, sweep
from penjing.compress.prune.pattern_layers import pattern_layers
from penjing.compress.prune.patterns import NOfM
from penjing.core.errors import InvalidInput, PruningError
from penjing.ir.graph import Graph

CANDIDATES = (8, 6, 4, 3, 2, 1)


def n_of_m_errors(
    graph: Graph,
    inputs: Mapping[str, LayerInputs],
    candidates: Iterable[int] = CANDIDATES,
    m: int = 16,
    damping: float = 0.01,
) -> dict[str, dict[int, float]]:
    """For each layer that gains from N:M: the relative squared error of its outputs for each n, with the best weights.

    Args:
        graph: any float stage.
        inputs: of this very graph, from `collect_layer_inputs`.
        candidates: values of n.
        m: weights in a group.
        damping: as in `PruneObs`.

    Raises:
        PruningError: n outside 1..m, or no layer with a weight.
        InvalidInput: statistics that do not fit the graph.
    """
    patterns = [NOfM(n, m) for n in candidates]
    found = {}
    for name, layer in pattern_layers(graph).items():
        if layer.reason is not None or name not in inputs or not layer.weight.any():
            continue
        gram = inputs[name].gram
        w = layer.weight.astype(np.float64).reshape(len(layer.weight), -1)
        check_fits(1, w.shape[1], gram, name)
        h = damped(gram[0], damping)
        whole = squared_error(w, gram[0]) or 1.0
        found[name] = {
            pattern.n: squared_error(refit(w, h, sweep(w, h, pattern, layer.view[1:])) - w, gram[0]) / whole
            for pattern in patterns
        }
    return found


def choose_n(
    errors: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], density: float, m: int = 16
) -> dict[str, int]:
    """Name of a weight -> n, for an average density of at most `density`.

    Args:
        errors: name -> what each n costs, from `n_of_m_errors` or measured. A layer starts at its largest n.
        sizes: name -> weights or multiply-accumulates; layers that have no errors count as dense.
        density: the average to meet, in (0, 1].
        m: weights in a group.

    Raises:
        InvalidInput: no errors, an error that is negative or not finite, n outside 1..m, or a size that is missing.
        PruningError: a density outside (0, 1], or one that the smallest n of every layer does not meet.
    """
    _check(errors, sizes, density, m)
    chosen = {name: max(costs) for name, costs in errors.items()}
    allowed = density * sum(sizes.values())
    used = float(sum(size * chosen[name] / m if name in chosen else size for name, size in sizes.items()))
    while used > allowed * (1 + 1e-12):
        steps = [
            ((costs[n] - costs[chosen[name]]) / (sizes[name] * (chosen[name] - n)), name, n)
            for name, costs in errors.items()
            for n in costs
            if n < chosen[name]
        ]
        if not steps:
            raise PruningError(
                f"an average density of {density} cannot be met: the smallest n of every layer leaves "
                f"{used / sum(sizes.values()):.4f}",
                hint="allow smaller n, leave fewer layers dense, or ask for more",
            )
        _, name, n = min(steps)
        used -= sizes[name] * (chosen[name] - n) / m
        chosen[name] = n
    return chosen


def _check(errors: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], density: float, m: int) -> None:
    if not 0 < density <= 1:
        raise PruningError(f"a density lies in (0, 1], not {density}")
    if not errors or not all(errors.values()):
        raise InvalidInput("there is no layer to choose n for, or one without candidates", where="errors")
    for name, costs in errors.items():
        if sizes.get(name, 0) < 1:
            raise InvalidInput("its size is missing", where=name)
        if not all(1 <= n <= m for n in costs):
            raise InvalidInput(f"n lies in 1..{m}, not {sorted(costs)}", where=name)
        if not all(np.isfinite(cost) and cost >= 0 for cost in costs.values()):
            raise InvalidInput("an error is negative or not finite", where=name)
