"""Graphs made of the operators' own samples: each sample is an island with inputs, constants and outputs of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from penjing.ir.graph import Graph
from penjing.ir.types import Constant, DType, Type
from penjing.ops import operators
from penjing.ops.operator import Operator, Sample


@dataclass(frozen=True, eq=False)
class SampleGraph:
    """A float graph and the samples' arrays for its inputs, in order."""

    graph: Graph
    inputs: tuple[np.ndarray, ...]


def operator_samples(names: Sequence[str] = ()) -> Iterator[tuple[str, Sample]]:
    """(label, sample) of every sample of the named operators; of all of whole networks when no name is given."""
    table = operators()
    for name in names or network_operators():
        for i, sample in enumerate(table[name].samples()):
            yield f"{name}_{i}", sample


def network_operators() -> list[str]:
    """Names of the operators of networks as they are captured, not cut into steps."""
    return sorted(name for name, operator in operators().items() if not operator.of_streams)


def knows_position(sample: Sample) -> bool:
    """Whether a sample is that of a stream: one of its constants is a position."""
    return any(i in sample.constant and x is not None and x.dtype == np.int32 for i, x in enumerate(sample.inputs))


def sample_graph(name: str, samples: Sequence[tuple[str, Sample]]) -> SampleGraph:
    """One graph that holds all `samples`; shapes are those of the samples' arrays, with no symbolic extent."""
    graph, arrays = Graph(name), []
    outputs: list[str] = []
    for label, sample in samples:
        values = []
        for position, array in enumerate(sample.inputs):
            value = f"{label}_x{position}"
            if array is None:
                values.append("")
            elif position in sample.constant:
                values.append(graph.add_constant(value, Constant(array)))
            else:
                values.append(graph.add_input(value, Type(tuple(array.shape), DType.of(array))))
                arrays.append(array)
        assert isinstance(sample.op, Operator)
        made = tuple(f"{label}_y{k}" for k in range(len(sample.op.infer(*sample.types))))
        graph.add_node(sample.op, tuple(values), made)
        outputs += made
    graph.outputs = tuple(outputs)
    return SampleGraph(graph, tuple(arrays))
