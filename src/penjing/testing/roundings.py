"""A quantized network cut at every value that it rounds, so that each rounding can be compared by itself.

In a deep network a code that lies on a tie, and that another engine rounds the other way, changes what follows. Cut,
each group of fused operators gets our own codes, and what it makes is one rounding away from them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from penjing.core.arithmetic import dequantize
from penjing.ir.graph import Graph, Node
from penjing.ir.types import Names
from penjing.ops.fusion import between_roundings
from penjing.program.interpret import interpret
from penjing.program.lower import lower
from penjing.runtime.engines import to_codes


def cut_at_roundings(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """The graph with every rounded value as an output, which is read as an input of its own.

    Args:
        graph: stage `compressed`.

    Returns:
        The cut graph, and name of each new input -> the output that it stands for.
    """
    cut = graph.copy()
    names = Names(set(cut.types))
    unrounded = between_roundings(graph)
    rounded = [name for node in graph.nodes for name in node.outputs if name not in unrounded]
    users = graph.users()
    stands_for = {}
    for name in rounded:
        if users[name]:
            stands_for[cut.add_input(names.fresh(f"{name}.in"), graph.types[name])] = name
    instead = {name: new for new, name in stands_for.items()}
    cut.nodes = [
        Node(node.op, tuple(instead.get(name, name) for name in node.inputs), node.outputs, node.source)
        for node in graph.nodes
    ]
    cut.outputs = tuple(rounded)
    return cut, stands_for


def reals_at_roundings(
    graph: Graph, cut: Graph, stands_for: Mapping[str, str], inputs: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Inputs of the cut network: those of `graph`, and what its program has at each rounding, as reals."""
    whole = graph.copy()
    whole.outputs = cut.outputs
    found = dict(zip(whole.outputs, interpret(lower(whole), *to_codes(graph, inputs)), strict=True))
    inner = [(found[name], graph.types[name].quant) for name in stands_for.values()]
    return [*inputs, *(dequantize(c, q.scale, q.zero_point) for c, q in inner if q is not None)]
