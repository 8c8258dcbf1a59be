"""Layers that are alike share one weight (参数共享): weights of the same shape within a relative distance become one.

    |w_j - w_i| <= tolerance * |w_j|    ->    both read (w_i + w_j) / 2, or the mean of however many there are

What is read by several layers is stored once in a tray, and trained as one by `trainable`.
"""

from dataclasses import dataclass

import numpy as np

from penjing.compress.structure.layers import readers_of_weights
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Constant
from penjing.ops.layers import check_finite, check_names, float_weights
from penjing.ops.operator import Operator


@dataclass(frozen=True)
class TieLayers(Pass):
    """Weights of equal shape within `tolerance` of one another become one constant, under the first one's name.

    All layers are looked at, or those in `layers`. Exactly equal weights keep their grid and encoding.
    """

    name = "tie-layers"

    tolerance: float = 0.0
    layers: tuple[str, ...] | None = None

    def run(self, graph: Graph) -> PassResult:
        """A graph of the same layers with fewer constants.

        Raises:
            InvalidInput: a tolerance outside [0, 1), a name that is no layer's, NaN in a weight.
        """
        if not 0 <= self.tolerance < 1:
            raise InvalidInput(f"a relative distance lies in [0, 1), not {self.tolerance}")
        check_names(self.layers or (), float_weights(graph), "layers")
        graph = graph.copy()
        changed, declined = [], []
        for group in self._groups(graph):
            first, *others = group
            if not others:
                declined.append(Remark(first, f"no weight of its shape is within {self.tolerance:g} of it"))
                continue
            constant = _shared(graph, group)
            saved = sum(graph.types[name].nbytes for name in others)
            graph.nodes = [_reading(node, others, first) for node in graph.nodes]
            graph.set_constant(first, constant)
            changed.append(Remark(first, f"stands for {', '.join(others)} too: {saved} bytes fewer"))
        graph.drop_unused_constants()
        return PassResult(graph, tuple(changed), tuple(declined))

    def _groups(self, graph: Graph) -> list[list[str]]:
        """Weights that are near the first of their group, in order."""
        groups: list[list[str]] = []
        for name, readers in readers_of_weights(graph).items():
            if self.layers is not None and name not in self.layers:
                continue
            check_finite(graph.constants[name].array, name)
            near = (group for group in groups if self._near(graph, group[0], name))
            home = next((group for group in near if _axis(graph, group[0]) == _weight_axis(readers[0])), None)
            if home is None:
                groups.append([name])
            else:
                home.append(name)
        return groups

    def _near(self, graph: Graph, a: str, b: str) -> bool:
        first, second = (graph.constants[name].array.astype(np.float64) for name in (a, b))
        if first.shape != second.shape:
            return False
        return float(np.linalg.norm(first - second)) <= self.tolerance * float(np.linalg.norm(second))


def _axis(graph: Graph, name: str) -> int:
    return _weight_axis(readers_of_weights(graph)[name][0])


def _weight_axis(node: Node) -> int:
    assert isinstance(node.op, Operator)
    return node.op.weight_axis


def _shared(graph: Graph, group: list[str]) -> Constant:
    constants = [graph.constants[name] for name in group]
    first = constants[0]
    if all(
        np.array_equal(first.array, c.array) and (c.quant, c.encoding) == (first.quant, first.encoding)
        for c in constants
    ):
        return first
    return Constant(np.mean([c.array.astype(np.float64) for c in constants], axis=0).astype(np.float32))


def _reading(node: Node, old: list[str], new: str) -> Node:
    if not set(old) & set(node.inputs):
        return node
    return Node(node.op, tuple(new if name in old else name for name in node.inputs), node.outputs, node.source)
