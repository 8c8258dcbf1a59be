"""The residual blocks of a graph: y = shortcut + branch, where the branch starts from what the shortcut carries.

The branch is every node that y alone needs and the shortcut does not. Without it, y = shortcut: the block is gone and
the network still has its shape (Veit, Wilber and Belongie, "Residual Networks Behave Like Ensembles of Relatively
Shallow Networks", 2016, section 4.1).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from penjing.compress.observe import Batch, observe
from penjing.core.errors import CalibrationError
from penjing.ir.graph import Graph, Node
from penjing.ops.add import Add
from penjing.ops.layers import weight_of


@dataclass(frozen=True)
class ResidualBlock:
    """One addition of a graph and its two operands.

    Attributes:
        output: the sum, which names the block.
        shortcut: what is left of the block without its branch.
        branch: the other operand.
        nodes: the branch, in order of execution.
    """

    output: str
    shortcut: str
    branch: str
    nodes: tuple[Node, ...]


def residual_blocks(graph: Graph) -> tuple[tuple[ResidualBlock, ...], dict[str, str]]:
    """(Blocks in order of execution, name of every other sum -> why it is no block whose branch can go)."""
    blocks, reasons = [], {}
    for node in graph.nodes:
        if isinstance(node.op, Add):
            found = _block(graph, node)
            if isinstance(found, str):
                reasons[node.output] = found
            else:
                blocks.append(found)
    return tuple(blocks), reasons


def block_effects(
    graph: Graph, batches: Iterable[Batch], progress: Callable[[int], None] | None = None
) -> dict[str, float]:
    """Name of each block -> ||branch|| / ||shortcut||, root of the sums of squares over all samples.

    Args:
        graph: any float stage.
        batches: float32 inputs (N, ...), normalised as in training; a tuple per batch for several inputs.
        progress: called with the number of samples seen so far.

    Raises:
        CalibrationError: no batches, or NaN or infinity in an activation.
        InvalidInput: a batch does not fit the graph's inputs.
    """
    blocks, _ = residual_blocks(graph)
    squares = {name: 0.0 for block in blocks for name in (block.branch, block.shortcut)}

    def watch(name: str, array: np.ndarray) -> None:
        if name in squares:
            squares[name] += float(np.square(array, dtype=np.float64).sum())

    observe(graph, batches, watch, progress)
    if not np.isfinite(list(squares.values())).all():
        raise CalibrationError("NaN or infinity in a residual block", where=f"graph {graph.name}")
    tiny = np.finfo(np.float64).tiny
    return {b.output: float(np.sqrt(squares[b.branch] / max(squares[b.shortcut], tiny))) for b in blocks}


def _block(graph: Graph, node: Node) -> ResidualBlock | str:
    a, b = node.inputs
    if a == b or not graph.types[a].shape == graph.types[b].shape == graph.types[node.output].shape:
        return "its operands have other shapes than the sum"
    if node.output in graph.sinks():
        return "it is an output of the graph"
    if a in graph.constants or b in graph.constants:
        return "it adds a constant"
    candidates = []
    for shortcut, branch in ((a, b), (b, a)):
        needed = {shortcut, *_ancestors(graph, shortcut)}
        nodes = [n for n in _makers(graph, branch) if not needed.intersection(n.outputs)]
        if any(weight_of(n) for n in nodes):
            candidates.append((shortcut, branch, tuple(nodes), needed))
    if len(candidates) != 1:
        return "both operands hold layers" if candidates else "neither operand holds a layer"
    shortcut, branch, nodes_, needed = candidates[0]
    outside = {name for n in nodes_ for name in n.inputs if name} - {name for n in nodes_ for name in n.outputs}
    if not outside - graph.constants.keys() <= needed:
        return "its branch reads what the shortcut does not carry"
    reader = _outside_reader(graph, nodes_, node)
    if reader is not None:
        return f"{reader} reads its branch too"
    return ResidualBlock(node.output, shortcut, branch, nodes_)


def _outside_reader(graph: Graph, nodes: tuple[Node, ...], sum_: Node) -> str | None:
    inside = {id(n) for n in (*nodes, sum_)}
    users = graph.users()
    for name in (name for n in nodes for name in n.outputs):
        if name in graph.sinks():
            return "the caller"
        for user in users[name]:
            if id(user) not in inside:
                return str(user)
    return None


def _ancestors(graph: Graph, value: str) -> set[str]:
    return {name for node in _makers(graph, value) for name in (*node.outputs, *node.inputs) if name}


def _makers(graph: Graph, value: str) -> Iterator[Node]:
    """The nodes that `value` needs, in order of execution."""
    needed, found = {value}, []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            found.append(node)
    return reversed(found)
