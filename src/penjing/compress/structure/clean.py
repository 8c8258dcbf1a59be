"""The cleaning that every road begins with: the same function in fewer layers."""

from penjing.compress.structure.fold_batch_norm import FoldBatchNorm
from penjing.compress.structure.fold_rotary import FoldRotary
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes

CLEANING = (FoldRotary, FoldBatchNorm)


def clean(graph: Graph) -> Graph:
    """The same function in fewer layers: batch norms go into the layers before them, a rotary embedding becomes one."""
    return run_passes(graph, [kind() for kind in CLEANING])[0]
