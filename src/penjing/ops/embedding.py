"""Embedding, a look-up of rows:  y[..., d] = table[ids[...], d].

The codes of the table are those of the output, so that a look-up copies them and computes nothing. Ids are integers and
no codes: an input that holds them has no scale. Whoever runs a graph checks them first (`id_rows`), so that no row
outside the table is ever read.
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ir.types import MAX_RANK, DType, Type
from penjing.ops.coupling import Coupling, alone, on_input, on_output
from penjing.ops.integer_samples import LENGTHS, codes
from penjing.ops.lowering import Epilogue, Lowering, identity
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import Cost, IntegerOperator, Operator, Param, QuantRule, Sample, expect
from penjing.ops.torch_call import Imported, TorchCall

_FEWEST_ROWS = 2
_NO_TABLE = 2**31 - 1


def _looked_up(table: Type, ids: Type, dtype: DType) -> Type:
    expect(ids.dtype is DType.S32 and 1 <= ids.rank < MAX_RANK, f"ids of {ids.dtype} and rank {ids.rank}")
    expect(table.rank == 2 and isinstance(table.shape[0], int), f"a table of shape {table.shape}")
    expect(table.bounds[0] >= _FEWEST_ROWS, "a table of one row, which is a constant")
    return Type((*ids.shape, table.shape[1]), dtype)


def _rows(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    check_ids(ids, len(table), "ids")
    rows: np.ndarray = table[ids]
    return rows


def check_ids(ids: np.ndarray, rows: int, name: str) -> None:
    """Raise InvalidInput unless all ids are 0..rows - 1; `name` is that of the input."""
    if ids.size and not (ids.min() >= 0 and ids.max() < rows):
        wrong = ids[(ids < 0) | (ids >= rows)].flat[0]
        raise InvalidInput(f"input {name} holds {wrong}, and its table has rows 0..{rows - 1}")


def id_rows(graph: Graph) -> Mapping[str, int]:
    """Input that holds ids -> how many rows the smallest table has that they look up; in floats or in integers."""
    rows = {name: _NO_TABLE for name in graph.inputs if name not in graph.real_inputs}
    for node in graph.nodes:
        if isinstance(node.op, Embedding | QEmbedding):
            table, ids = node.inputs
            rows[ids] = min(graph.types[table].bounds[0], rows[ids])
    return rows


def random_inputs(
    graph: Graph, samples: int, rng: np.random.Generator, steps: int | None = None
) -> tuple[np.ndarray, ...]:
    """For every input of a float graph, normal values or ids of all rows: (samples, ...).

    Sequences have so many steps; they are the longest when None.
    """
    rows = id_rows(graph)

    def made(name: str) -> np.ndarray:
        type_ = graph.types[name] if steps is None else graph.types[name].at_length(steps)
        shape = (samples, *type_.bounds[1:])
        ids = name in rows
        return rng.integers(0, rows[name], shape, np.int32) if ids else rng.normal(size=shape).astype(np.float32)

    return tuple(made(name) for name in graph.inputs)


@dataclass(frozen=True)
class Embedding(Operator):
    """Inputs table (rows, D), a constant, and ids s32 (...) of 0..rows - 1; output (..., D)."""

    name = "embedding"
    torch = ("aten.embedding.default",)
    quant_rule = QuantRule.SAME

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        return Imported(cls(), (call.ref("weight").name, call.ref("indices").name))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        """Of `Gather`, whose other meaning is that of `select`."""
        table, ids = call.weight(0), call.activation(1)
        call.require(ids.type.dtype is DType.S32, "places that are computed from real data")
        call.require(table.type.rank == 2 and call.integer("axis", 0) in (0, -2), "a table that is no matrix of rows")
        return Imported(cls(), (table.name, ids.name))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        table, ids = inputs
        return (_looked_up(table, ids, DType.F32),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_rows(*inputs),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        table, ids = inputs
        return torch.nn.functional.embedding(ids, table)

    def to_onnx(self, form: OnnxForm) -> None:
        form.result("Gather", form.input(0), form.input(1), axis=0)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        y = outputs[0]
        columns = alone(y.bounds[-1])
        return Coupling(((on_input(0, 1, columns), on_output(y.rank - 1, columns)),))

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(0, inputs[1].nbytes + 2 * outputs[0].nbytes)

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        table, ids = node.inputs
        order = identity(lowering.graph.types[node.output].rank)
        placed = (lowering.placed(table, identity(2)), lowering.placed(ids, order[:-1]))
        lowering.finish(epilogue, QEmbedding(), placed, order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(80)
        for rows, width, shape in ((7, 5, (2, 3)), (300, 17, (2, 4)), (2, 1, (3,)), (9, 4, (2, 2, 3))):
            table = rng.normal(size=(rows, width)).astype(np.float32)
            ids = rng.integers(0, rows, shape).astype(np.int32)
            ids.flat[:2] = 0, rows - 1
            yield Sample(cls(), (table, ids), constant=(0,))


@dataclass(frozen=True)
class QEmbedding(IntegerOperator):
    """table u8 or s16 (rows, D), ids s32 (...) of 0..rows - 1; output (..., D) of the table's type."""

    name = "q_embedding"

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        table, ids = inputs
        expect(table.dtype in (DType.U8, DType.S16), f"a table of {table.dtype}")
        return (_looked_up(table, ids, table.dtype),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_rows(*inputs),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        table, ids = inputs
        return {"n": ids.elements, "bytes": table.bounds[1] * table.dtype.itemsize}

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(0, inputs[1].nbytes + 2 * outputs[0].nbytes)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(81)
        for i, n in enumerate(LENGTHS):
            rows = (2, 3, 256, 257)[i % 4]
            table = codes(rng, (rows, LENGTHS[-1 - i]))
            ids = rng.integers(0, rows, (1 + i % 2, n)).astype(np.int32)
            ids.flat[0], ids.flat[-1] = 0, rows - 1
            yield Sample(cls(), (table, ids), constant=(0,))
        wide = rng.integers(-(2**15), 2**15, (5, 33)).astype(np.int16)
        yield Sample(cls(), (wide, np.array([[4, 0, 3], [1, 2, 4]], np.int32)), constant=(0,))
        yield Sample(cls(), (codes(rng, (70000, 3)), np.array([69999, 65536, 1], np.int32)), constant=(0,))
