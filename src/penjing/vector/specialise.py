"""The program as one kind of target runs it: operators that have SIMD kernels there take the place of the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from penjing.core.errors import InvalidGraph
from penjing.core.targets import Target
from penjing.ir.graph import Graph, Node, Operation
from penjing.ir.lengths import check_any_length
from penjing.ir.passes import Pass, PassResult, Remark, run_passes
from penjing.ir.types import Constant, Names, Type, is_length
from penjing.program.lengths import length_fault
from penjing.vector import vector_operators
from penjing.vector.fuse_max_pool import FuseMaxPool, fusions
from penjing.vector.operator import Taken, VectorOperator


def specialise(program: Graph, target: Target) -> Graph:
    """`program` with vector operators, for a target that has instruction sets to choose from; else as it is."""
    return run_passes(program, [UseVectorKernels(), FuseMaxPool()])[0] if target.isas else program


@dataclass(frozen=True)
class KernelChoice:
    """What computes one operator of a program: its own kernel, that of a vector operator, or that of another operator.

    `why` says which one that is, or why more preferred kernels do not; '' where there are none.
    """

    name: str
    op: str
    kernel: str
    why: str


def kernel_choices(program: Graph, target: Target) -> list[KernelChoice]:
    """The kernel of every operator on `target`, as `specialise` chooses it."""
    if not target.isas:
        return [KernelChoice(node.outputs[0], node.op.name, node.op.name, "") for node in program.nodes]
    choices = [choose(node.op, program.input_types(node), _known(program, node)) for node in program.nodes]
    graph = _with_kernels(program, choices)
    fused = fusions(graph)
    rows = []
    for node, runs, (_, reasons) in zip(program.nodes, graph.nodes, choices, strict=True):
        kernel, why = runs.op.name, "; ".join(reasons)
        found = fused.get(node.outputs[0])
        if isinstance(found, Node):
            kernel, why = found.op.name, f"part of {found.output}"
        elif found is not None:
            why = f"not part of {node.inputs[0]}: {found}"
        rows.append(KernelChoice(node.outputs[0], node.op.name, kernel, why))
    return rows


@dataclass(frozen=True)
class UseVectorKernels(Pass):
    """Let the most preferred vector operator that can stand in an operator's place stand there."""

    name = "use-vector-kernels"

    def run(self, graph: Graph) -> PassResult:
        """Rewrite node by node; no output byte changes."""
        choices = [choose(node.op, graph.input_types(node), _known(graph, node)) for node in graph.nodes]
        changed, declined = [], []
        for node, (taken, reasons) in zip(graph.nodes, choices, strict=True):
            why = "; ".join(reasons)
            if taken is not None:
                changed.append(Remark(str(node), f"runs as {taken.op.name}" + (f" ({why})" if why else "")))
            elif reasons:
                declined.append(Remark(str(node), why))
        return PassResult(_with_kernels(graph, choices), tuple(changed), tuple(declined))


Choice = tuple[Taken | None, list[str]]


def choose(op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Choice:
    """The most preferred vector operator that can stand in the place of `op`, and why those before it cannot.

    Arguments as in `VectorOperator.take`.
    """
    reasons: list[str] = []
    for cls in _by_name().get(op.name, ()):
        taken = cls.take(op, types, constants)
        why = _length_fault(taken, types) if isinstance(taken, Taken) else taken
        if isinstance(taken, Taken) and not why:
            return taken, reasons
        reasons.append(f"not {cls.name}: {why}")
    return None, reasons


def _length_fault(taken: Taken, types: Sequence[Type]) -> str:
    """Why a kernel cannot run on sequences of any length, though its operator may; '' when it can."""
    bounds = {extent.max for type_ in types for extent in type_.shape if is_length(extent)}
    if not bounds:
        return ""
    read = [Constant(taken.constants[i]).type if i in taken.constants else type_ for i, type_ in enumerate(types)]
    outputs = taken.op.infer(*read)
    try:
        check_any_length(taken.op, read, outputs)
    except InvalidGraph as error:
        return error.what
    return length_fault(taken.op, tuple(read), outputs, max(bounds)) or ""


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


def _with_kernels(graph: Graph, choices: Sequence[Choice]) -> Graph:
    graph = graph.copy()
    names = Names(set(graph.types))
    for i, (node, (taken, _)) in enumerate(zip(graph.nodes, choices, strict=True)):
        if taken is not None:
            graph.nodes[i] = _replaced(graph, names, node, taken)
    graph.drop_unused_constants()
    return graph


def _replaced(graph: Graph, names: Names, node: Node, taken: Taken) -> Node:
    inputs = list(node.inputs)
    for position, array in taken.constants.items():
        inputs[position] = names.fresh(f"{node.inputs[position]}.packed")
        graph.add_constant(inputs[position], Constant(array))
    return Node(taken.op, tuple(inputs), node.outputs, node.source)
