"""The context in which operators become integer operators: layouts, constants, quantization, epilogues.

A value of the network has logical axes (NCHW); in the program it has a physical *order*: `order[i]` is the logical axis
that stands at physical axis i. Operators ask for the order they need; a transpose appears only where orders disagree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from penjing.core.arithmetic import U8_MAX, U8_MIN
from penjing.core.errors import QuantizationError
from penjing.ir.graph import Graph, Node
from penjing.ir.types import Constant, DType, Names, Quant, Shape, Type, bounds
from penjing.ops.operator import IntegerOperator
from penjing.ops.wide import wide_quant, wide_values

Order = tuple[int, ...]


def channels_last(rank: int) -> Order:
    """NHWC for rank 4, NLC for rank 3; identity below."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


def identity(rank: int) -> Order:
    """The logical order itself."""
    return tuple(range(rank))


@dataclass(frozen=True)
class Epilogue:
    """What an operator does in passing: add `residual`, clamp to [low, high] (reals), and store as value `output`."""

    output: str
    low: float = -math.inf
    high: float = math.inf
    residual: str | None = None


class Lowering:
    """Builds the program of a quantized graph, one operator at a time."""

    def __init__(self, graph: Graph, floats: Collection[str] = ()) -> None:
        """`floats` are the values to be computed in float32 (see `float_values`)."""
        self.graph = graph
        self._in_float = floats
        self._floats: dict[str, dict[Order, str]] = {}
        self.program = Graph(graph.name, stage="lowered")
        self._names = Names()
        self._placed: dict[str, dict[Order, str]] = {}
        self._node: Node | None = None
        self._shared: dict[str, str] = {}
        self._wide = wide_values(graph)
        self._read = {name for node in graph.nodes for name in node.inputs} | graph.sinks()

    def start(self, node: Node) -> None:
        """Say which node is being lowered, for source locations and errors."""
        self._node = node

    def add_input(self, value: str) -> None:
        """Program inputs keep their logical order, and ids their type."""
        type_ = self.graph.types[value]
        is_real = value in self.graph.real_inputs
        codes = _codes(type_.shape, self.quant(value)) if is_real else type_
        name = self.program.add_input(self._names.fresh(value), codes)
        self.define(value, name, identity(type_.rank))

    def add_state(self, value: str) -> None:
        """So do states, in 16 bits where the network has them so; what replaces one has to have its codes.

        Integers that stand for no reals, as a count of steps, are their own codes.
        """
        state = self.graph.states[value]
        quants = [self.graph.types[name].quant for name in (value, state.update)]
        if state.type.dtype is DType.F32 or quants != [None, None]:
            quants = [self.quant(value), self.quant(state.update)]
        if quants[0] != quants[1]:
            raise QuantizationError(f"state %{value} and its update %{state.update} have different codes")
        name = self._names.fresh(value)
        dtype = DType.U8 if state.type.dtype is DType.F32 else state.type.dtype
        self.program.types[name] = Type(state.type.shape, dtype, quants[0])
        self.program.states[name] = replace(state, type=self.program.types[name])
        self.define(value, name, identity(state.type.rank))

    def shape(self, value: str) -> Shape:
        """Logical shape of a value of the network."""
        return self.graph.types[value].shape

    def is_wide(self, value: str) -> bool:
        """Whether the program holds a value in 16 bits."""
        return value in self._wide

    def is_float(self, value: str) -> bool:
        """Whether the program computes a value in float32."""
        return value in self._in_float

    def quant(self, value: str) -> Quant:
        """Quantization of a value of the network as the program has it."""
        quant = self._quant8(value)
        return wide_quant(quant) if value in self._wide else quant

    def _quant8(self, value: str) -> Quant:
        quant = self.graph.types[value].quant
        if quant is None:
            where = str(self._node) if self._node else f"graph {self.graph.name}"
            raise QuantizationError(f"%{value} has no quantization", where=where, hint="calibrate and quantize first")
        return quant

    def clamp_codes(self, epilogue: Epilogue) -> tuple[int, int]:
        """(qmin, qmax): the epilogue's clamp in codes of its output."""
        quant = self.quant(epilogue.output)

        def code(real: float, otherwise: int) -> int:
            if math.isinf(real):
                return otherwise
            return int(np.clip(np.rint(real / float(quant.scale)) + quant.zero_point, U8_MIN, U8_MAX))

        return code(epilogue.low, U8_MIN), code(epilogue.high, U8_MAX)

    def define(self, value: str, placed: str, order: Order) -> None:
        """Record that program value `placed` holds network value `value` in `order`."""
        self._placed.setdefault(value, {})[order] = placed

    def order(self, value: str) -> Order:
        """The order in which a value was first made; identity for constants."""
        if value in self.graph.constants:
            return identity(self.graph.types[value].rank)
        return next(iter({**self._floats.get(value, {}), **self._placed.get(value, {})}))

    def placed(self, value: str, order: Order) -> str:
        """The program value that holds `value` in `order`; a transpose is emitted when there is none yet."""
        known = self._placed.setdefault(value, {})
        if order in known:
            return known[order]
        if value in self.graph.constants:
            array = self.graph.constants[value].array
            known[order] = self.constant(value, np.transpose(array, order), self.quant(value))
            return known[order]
        if not known:  # it is in float32; codes of 16 bits are not moved
            made = order if self.is_wide(value) else next(iter(self._floats[value]))
            known[made] = self._to_codes(value, self.floats(value, made))
            return self.placed(value, order)
        known[order] = self._permuted(known, order)
        return known[order]

    def floats(self, value: str, order: Order) -> str:
        """The program value that holds `value` in float32; its codes become floats when there are none yet."""
        known = self._floats.setdefault(value, {})
        if order in known:
            return known[order]
        if value in self.graph.constants:
            known[order] = self.constant(value, np.transpose(self.graph.constants[value].array, order))
        elif known:
            known[order] = self._permuted(known, order)
        else:
            known[order] = self._to_floats(value, self.placed(value, order))
        return known[order]

    def _to_codes(self, value: str, source: str) -> str:
        from penjing.ops.f_quantize import FQuantize

        quant = self.quant(value)
        op = FQuantize(float(quant.scale), quant.zero_point, self.is_wide(value))
        return self.emit(op, (source,), value, quant)

    def _to_floats(self, value: str, source: str) -> str:
        from penjing.ops.f_dequantize import FDequantize

        quant = self.quant(value)
        return self.emit(FDequantize(float(quant.scale), quant.zero_point), (source,), f"{value}.float", None)

    def _permuted(self, known: dict[Order, str], order: Order) -> str:
        source_order, source = next(iter(known.items()))
        return self.transpose(source, tuple(source_order.index(axis) for axis in order))

    def transpose(self, source: str, perm: Order) -> str:
        """`source` with permuted axes: a reshape when only axes of extent 1 move."""
        from penjing.ops.f_transpose import FTranspose
        from penjing.ops.reshape import QReshape
        from penjing.ops.transpose import QTranspose

        shape, is_float = self.program.types[source].shape, self.program.types[source].dtype is DType.F32
        if perm == identity(len(perm)):
            return source
        moved = tuple(shape[axis] for axis in perm)
        solid = [axis for axis in perm if bounds(shape)[axis] != 1 or not isinstance(shape[axis], int)]
        moving = FTranspose(perm) if is_float else QTranspose(perm)
        op: IntegerOperator = QReshape(moved) if solid == sorted(solid) else moving
        return self.emit(op, (source,), f"{source}.t", self.program.types[source].quant)

    def integers(self, value: str) -> str:
        """The program value that holds integers which stand for no reals: a constant as it is, or what was made."""
        if value in self.graph.constants:
            return self.constant(value, self.graph.constants[value].array)
        return next(iter(self._placed[value].values()))

    def aligned(self, value: str, rank: int, order: Order) -> str:
        """`value` in `order`, its shape first extended to `rank` by leading ones, as broadcasting does."""
        return self._aligned(value, rank, order, self.placed)

    def aligned_floats(self, value: str, rank: int, order: Order) -> str:
        """The same in float32."""
        return self._aligned(value, rank, order, self.floats)

    def _aligned(self, value: str, rank: int, order: Order, place: Callable[[str, Order], str]) -> str:
        shape = self.shape(value)
        if len(shape) == rank:
            return place(value, order)
        padded: Shape = (1,) * (rank - len(shape)) + shape
        if value in self.graph.constants:
            array = self.graph.constants[value].array.reshape(bounds(padded))
            return self.constant(value, np.transpose(array, order), self.graph.constants[value].quant)
        return self.transpose(self.reshape(place(value, identity(len(shape))), padded), order)

    def reshape(self, source: str, shape: Shape) -> str:
        """The same bytes under another shape."""
        from penjing.ops.reshape import QReshape

        if self.program.types[source].shape == shape:
            return source
        return self.emit(QReshape(shape), (source,), f"{source}.r", self.program.types[source].quant)

    def copy(self, source: str) -> str:
        """The same codes as a value of its own, for an output that would otherwise be an input or another output."""
        from penjing.ops.reshape import QReshape

        type_ = self.program.types[source]
        return self.emit(QReshape(type_.shape), (source,), f"{source}.copy", type_.quant)

    def constant(self, stem: str, array: np.ndarray, quant: Quant | None = None) -> str:
        """A constant of the program."""
        return self.program.add_constant(self._names.fresh(stem), Constant(array, quant=quant))

    def shared(self, name: str, make: Callable[[], np.ndarray]) -> str:
        """A constant that all who ask for `name` share."""
        if name not in self._shared:
            self._shared[name] = self.constant(name, make())
        return self._shared[name]

    def is_read(self, value: str) -> bool:
        """Whether a value of the network has a reader or leaves it."""
        return value in self._read

    def emit(self, op: IntegerOperator, inputs: tuple[str, ...], stem: str, quant: Quant | None) -> str:
        """Append an integer operator with one output."""
        return self.emit_all(op, inputs, (stem,), (quant,))[0]

    def emit_all(
        self, op: IntegerOperator, inputs: tuple[str, ...], stems: tuple[str, ...], quants: tuple[Quant | None, ...]
    ) -> tuple[str, ...]:
        """Append an integer operator with an output for each stem."""
        names = tuple(self._names.fresh(stem) for stem in stems)
        source = self._node.source if self._node else None
        self.program.add_node(op, inputs, names, *([source] if source else []))
        for name, quant in zip(names, quants, strict=True):
            self.program.types[name] = self.program.types[name].with_quant(quant)
        return names

    def finish(self, epilogue: Epilogue, op: IntegerOperator, inputs: tuple[str, ...], order: Order) -> None:
        """Emit the operator that makes the epilogue's output."""
        name = self.emit(op, inputs, epilogue.output, self.quant(epilogue.output))
        self.define(epilogue.output, name, order)

    def finish_floats(self, epilogue: Epilogue, op: IntegerOperator, inputs: tuple[str, ...], order: Order) -> None:
        """The same of an operator that makes it in float32."""
        self.define_floats(epilogue.output, self.emit(op, inputs, f"{epilogue.output}.float", None), order)

    def define_floats(self, value: str, placed: str, order: Order) -> None:
        """Record that program value `placed` holds network value `value` in float32 and in `order`."""
        self._floats.setdefault(value, {})[order] = placed

    def table(self, stem: str, source: Quant, target: Quant, function: object = None) -> str:
        """A 256-entry table: codes of `source` through `function` (float64 -> float64) to codes of `target`."""
        return self.constant(stem, code_table(source, target, function))

    def rescaled(self, placed: str, target: Quant) -> str:
        """`placed` in the codes of `target`, by a table when they differ."""
        from penjing.ops.table import QTable

        source = self.program.types[placed].quant
        if source is None or source == target:
            return placed
        return self.emit(QTable(), (placed, self.table(f"{placed}.codes", source, target)), f"{placed}.q", target)


def code_table(source: Quant, target: Quant, function: object = None) -> np.ndarray:
    """u8[256]: for each code of `source`, the nearest code of `target` to f(real); computed in float64."""
    real = float(source.scale) * (np.arange(256, dtype=np.float64) - source.zero_point)
    if callable(function):
        real = np.asarray(function(real), dtype=np.float64)
    codes = np.rint(real / float(target.scale)) + target.zero_point
    table: np.ndarray = np.clip(codes, U8_MIN, U8_MAX).astype(np.uint8)
    return table


def _codes(shape: Shape, quant: Quant) -> Type:
    return Type(shape, DType.U8, quant)
