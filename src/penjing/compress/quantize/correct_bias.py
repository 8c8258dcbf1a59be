"""Bias correction: rounded weights shift the mean of what a layer makes, and its bias takes the shift back.

    b~ = b - (E[y~] - E[y])

(Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, section 4.2, equation
18). The weights stay as they are, on their grid; a bias costs nothing at run time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penjing.compress.quantize.layers import weights
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ops.layers import add_to_bias, bias_beside, check_names, weight_of


@dataclass(frozen=True)
class CorrectBias(Pass):
    """Subtract from the bias of each layer how far its rounded weights move the mean of its output channels.

    Attributes:
        drift: name of a weight -> (O,), from `measured_drift` or `expected_drift`.
    """

    name = "correct-bias"

    drift: Mapping[str, NDArray[np.float64]]

    def run(self, graph: Graph) -> PassResult:
        """The graph with other biases; a layer without one gets one.

        Raises:
            InvalidInput: a drift of a layer that there is not, of another shape, or not finite.
        """
        graph = graph.copy()
        found = weights(graph)
        check_names(self.drift, found, "drift")
        changed, declined = [], []
        for name, layer in found.items():
            reason = self._reason_to_decline(graph, name, layer.nodes)
            if reason is not None:
                declined.append(Remark(name, reason))
                continue
            largest = float(np.abs(self.drift[name]).max(initial=0.0))
            _subtract(graph, layer.nodes[0], name, self.drift[name])
            changed.append(Remark(name, f"means moved back by up to {largest:.3g}"))
        graph.drop_unused_constants()
        return PassResult(graph, tuple(changed), tuple(declined))

    def _reason_to_decline(self, graph: Graph, name: str, nodes: tuple[Node, ...]) -> str | None:
        if name not in self.drift:
            return "its drift is not known"
        if len(nodes) > 1:
            return f"{len(nodes)} layers share it, each with a drift of its own"
        bias = bias_beside(nodes[0], name)
        if bias and bias not in graph.constants:
            return "its bias is computed"
        return "nothing moved" if not np.any(self.drift[name]) else None


def _subtract(graph: Graph, node: Node, weight: str, drift: NDArray[np.float64]) -> None:
    channels = _channels(graph, node, weight)
    if drift.shape != (channels,) or not np.isfinite(drift).all():
        raise InvalidInput(f"a drift of shape {drift.shape} for {channels} channels, or not finite", where=str(node))
    add_to_bias(graph, node, weight, -drift)


def _channels(graph: Graph, node: Node, weight: str) -> int:
    """How many sums a node makes with a weight."""
    if not weight_of(node):
        return graph.types[weight].bounds[0]
    return graph.types[node.output].bounds[-1 if node.op.name == "linear" else 1]
