"""Which values of a network its program holds in 16 bits: the sums that norms read, and what is added up there.

In a Transformer a few channels of these sums are far larger than all others, and a norm divides by what they add to the
variance: codes of 8 bits would leave a handful of steps to everything else. Nobody but norms and such sums reads them,
so that only three operators know of 16 bits.
"""

import numpy as np

from penjing.core.arithmetic import S16_MAX
from penjing.ir.graph import Graph, Node
from penjing.ir.types import Quant

# Outliers beyond the range that calibration chose for 8 bits are kept; steps are still 16 times as fine, or more.
HEADROOM = 8
_NORMS = ("layer_norm", "rms_norm")
_SUMMANDS = ("linear", "add")


def wide_quant(quant: Quant) -> Quant:
    """The 16-bit codes of a value that has `quant` in 8 bits."""
    scale, zero = float(quant.scale), quant.zero_point
    largest = scale * max(zero, 255 - zero)
    return Quant((float(np.float32(HEADROOM * largest / S16_MAX)),), 0)


def wide_values(graph: Graph) -> set[str]:
    """Outputs of additions and linear layers that nothing reads but norms, and such additions of the same shape."""
    producers, users, sinks = graph.producers(), graph.users(), graph.sinks()

    def may_be(node: Node) -> bool:
        # a convolution adds in passing, in 8 bits
        made_by = [producers[name].op.name for name in node.inputs if name in producers]
        return node.op.name in _SUMMANDS and not (node.op.name == "add" and "conv2d" in made_by)

    wide = {node.output for node in graph.nodes if node.op.name in _SUMMANDS and may_be(node)} - sinks

    def stays(name: str) -> bool:
        for reader in users[name]:
            is_sum = reader.op.name == "add" and reader.output in wide
            same = is_sum and graph.types[reader.output].bounds == graph.types[name].bounds
            if not (same or (reader.op.name in _NORMS and reader.inputs.index(name) == 0)):
                return False
        return bool(users[name])

    while gone := {name for name in wide if not stays(name)}:
        wide -= gone
    return wide
