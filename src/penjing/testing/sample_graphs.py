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
    """(label, sample) of every sample of the named operators; of all operators when no name is given."""
    table = operators()
    for name in names or sorted(table):
        for i, sample in enumerate(table[name].samples()):
            yield f"{name}_{i}", sample


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
