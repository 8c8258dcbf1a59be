"""The program as one kind of target runs it: operators that have SIMD kernels there take the place of the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from penjing.core.targets import Target
from penjing.ir.graph import Graph, Node, Operation
from penjing.ir.passes import Pass, PassResult, Remark, run_passes
from penjing.ir.types import Constant, Names, Type
from penjing.vector import vector_operators
from penjing.vector.operator import Taken, VectorOperator


def specialise(program: Graph, target: Target) -> Graph:
    """`program` with vector operators, for a target that has instruction sets to choose from; else as it is."""
    return run_passes(program, [UseVectorKernels()])[0] if target.isas else program


@dataclass(frozen=True)
class KernelChoice:
    """What computes one operator of a program: its own kernel, or that of a vector operator.

    `why` says why more preferred kernels do not; '' where there are none.
    """

    name: str
    op: str
    kernel: str
    why: str


def kernel_choices(program: Graph, target: Target) -> list[KernelChoice]:
    """The kernel of every operator on `target`, as `specialise` chooses it."""
    rows = []
    for node in program.nodes:
        taken: Taken | None = None
        reasons: list[str] = []
        if target.isas:
            taken, reasons = choose(node.op, program.input_types(node), _known(program, node))
        kernel = taken.op.name if taken else node.op.name
        rows.append(KernelChoice(node.outputs[0], node.op.name, kernel, "; ".join(reasons)))
    return rows


@dataclass(frozen=True)
class UseVectorKernels(Pass):
    """Let the most preferred vector operator that can stand in an operator's place stand there."""

    name = "use-vector-kernels"

    def run(self, graph: Graph) -> PassResult:
        """Rewrite node by node; no output byte changes."""
        graph = graph.copy()
        names = Names(set(graph.types))
        changed, declined = [], []
        for i, node in enumerate(graph.nodes):
            taken, reasons = choose(node.op, graph.input_types(node), _known(graph, node))
            why = "; ".join(reasons)
            if taken is not None:
                graph.nodes[i] = _replaced(graph, names, node, taken)
                changed.append(Remark(str(node), f"runs as {taken.op.name}" + (f" ({why})" if why else "")))
            elif reasons:
                declined.append(Remark(str(node), why))
        graph.drop_unused_constants()
        return PassResult(graph, tuple(changed), tuple(declined))


def choose(
    op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]
) -> tuple[Taken | None, list[str]]:
    """The most preferred vector operator that can stand in the place of `op`, and why those before it cannot.

    Arguments as in `VectorOperator.take`.
    """
    reasons: list[str] = []
    for cls in _by_name().get(op.name, ()):
        taken = cls.take(op, types, constants)
        if isinstance(taken, Taken):
            return taken, reasons
        reasons.append(f"not {cls.name}: {taken}")
    return None, reasons


@cache
def _by_name() -> dict[str, list[type[VectorOperator]]]:
    """Name of an integer operator -> what can stand in its place, most preferred first."""
    by_name: dict[str, list[type[VectorOperator]]] = {}
    for cls in sorted(vector_operators().values(), key=lambda cls: (-cls.preference, cls.name)):
        for replaced in (cls.replaces, *cls.also_replaces):
            by_name.setdefault(replaced, []).append(cls)
    return by_name


def _known(graph: Graph, node: Node) -> list[np.ndarray | None]:
    """The node's inputs where they are constants."""
    return [graph.constants[name].array if name in graph.constants else None for name in node.inputs]


def _replaced(graph: Graph, names: Names, node: Node, taken: Taken) -> Node:
    inputs = list(node.inputs)
    for position, array in taken.constants.items():
        inputs[position] = names.fresh(f"{node.inputs[position]}.packed")
        graph.add_constant(inputs[position], Constant(array))
    return Node(taken.op, tuple(inputs), node.outputs, node.source)
