"""Quantized graph -> integer program: fuse epilogues, then let every operator emit its integer form."""

from dataclasses import replace

from penjing.core.errors import InvalidGraph, UnsupportedOp
from penjing.ir.dump import dump
from penjing.ir.graph import Graph
from penjing.ir.types import is_batch
from penjing.ir.verify import verify
from penjing.ops.floats import float_values, kept_weights
from penjing.ops.fusion import fuse
from penjing.ops.lowering import Lowering, identity
from penjing.ops.operator import Operator
from penjing.program.check import check_accumulators
from penjing.program.fold_pad import FoldPadIntoConvolution
from penjing.program.simplify import FoldTransposeIntoLinear


def lower(graph: Graph) -> Graph:
    """The program of a quantized graph, in stage `lowered`.

    Raises:
        QuantizationError: a value has no quantization, or an accumulator could overflow int32.
        UnsupportedOp: an output whose batch is not its axis 0.
    """
    _check_outputs(graph)
    if graph.stage != "compressed":
        raise InvalidGraph(f"only a compressed graph can be lowered, not {graph.stage}", hint="quantize it first")
    groups = fuse(graph)
    lowering = Lowering(graph, float_values(graph, kept_weights(graph)))
    for name in graph.inputs:
        lowering.add_input(name)
    for name in graph.states:
        lowering.add_state(name)
    for node in graph.nodes:
        group = groups.get(id(node))
        if group is None:
            continue  # done in passing by another node
        lowering.start(group.anchor)
        operator = group.anchor.op
        assert isinstance(operator, Operator)
        operator.lower(lowering, group.anchor, group.epilogue)
    program = lowering.program
    _end(lowering)
    program.drop_unused_constants()
    program = FoldTransposeIntoLinear().run(program).graph
    program = FoldPadIntoConvolution().run(program).graph
    verify(program)
    check_accumulators(program)
    dump(program, "lowered")
    return program


def _check_outputs(graph: Graph) -> None:
    for name in graph.outputs:
        axes = [axis for axis, extent in enumerate(graph.types[name].shape) if is_batch(extent)]
        if axes[:1] not in ([], [0]):
            what = f"output %{name} has its batch on axis {axes[0]}; a library computes one sample at a time"
            raise UnsupportedOp(what, hint="let the model return it batch first, or leave that output out")


def _end(lowering: Lowering) -> None:
    """Outputs and updates of states, each a value of its own that a node makes."""
    graph, program = lowering.graph, lowering.program
    ends: list[str] = []
    for name in (*graph.outputs, *(state.update for state in graph.states.values())):
        placed = lowering.placed(name, identity(graph.types[name].rank))
        own = placed not in (*ends, *program.inputs, *program.states, *program.constants)
        ends.append(placed if own else lowering.copy(placed))
    program.outputs, updates = tuple(ends[: len(graph.outputs)]), ends[len(graph.outputs) :]
    for (name, state), update in zip(list(program.states.items()), updates, strict=True):
        program.states[name] = replace(state, update=update)
