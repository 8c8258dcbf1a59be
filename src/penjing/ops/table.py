"""A look-up in 256 entries: every element-wise non-linearity on 8-bit codes, and every change of codes.

    y[i] = table[x[i]],   or per channel (the last axis)   y[..., c] = table[c, x[..., c]]

The compressor builds the tables once, in float64, so no device ever evaluates a sigmoid.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.coupling import Coupling, broadcast_axes
from penjing.ops.integer_samples import LENGTHS, codes
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.operator import IntegerOperator, Operator, Param, Pieces, Sample, expect

_LEAST_PIECE = 32  # bytes; to look up shorter pieces one by one costs more than to copy them afterwards


@dataclass(frozen=True)
class QTable(IntegerOperator):
    """x u8 (..., C), table u8 (256) or (C, 256); output u8 of x's shape."""

    name = "q_table"
    in_place = True

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, table = inputs
        expect((x.dtype, table.dtype) == (DType.U8, DType.U8), "q_table maps u8 to u8")
        expect(table.bounds in ((256,), (x.bounds[-1] if x.rank else 1, 256)), f"a table of shape {table.bounds}")
        return (Type(x.shape, DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, table = inputs
        if table.ndim == 1:
            return (table[x],)
        return (table[np.arange(table.shape[0]), x],)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return self.placed_params(inputs, outputs, None, (0, 1))

    def writes_pieces(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...], nbytes: int) -> bool:
        return nbytes >= _LEAST_PIECE and (inputs[1].rank == 1 or nbytes == inputs[1].bounds[0])

    def placed_params(
        self, inputs: tuple[Type, ...], outputs: tuple[Type, ...], pieces: Pieces | None, moved: Sequence[int]
    ) -> dict[str, Param]:
        channels = inputs[1].bounds[0] if inputs[1].rank == 2 else 1
        width = pieces.nbytes if pieces else channels if channels > 1 else inputs[0].elements
        step = pieces.step if pieces else width
        return {"rows": inputs[0].elements // width, "width": width, "step": step, "channels": channels}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(4)
        for n in LENGTHS:
            yield Sample(cls(), (codes(rng, (1, n)), codes(rng, (256,))), constant=(1,))
        yield Sample(cls(), (codes(rng, (2, 130, 3)), codes(rng, (3, 256))), constant=(1,))
        for channels in (17, 33):
            yield Sample(cls(), (codes(rng, (1, 33, channels)), codes(rng, (channels, 256))), constant=(1,))
        yield Sample(cls(), (codes(rng, (1, 5, 65)), codes(rng, (256,))), constant=(1,))


class Elementwise(Operator):
    """Base of the operators y = f(x) that act on each element alone; they become one table."""

    def function(self, x: np.ndarray) -> np.ndarray:
        """f, on float32 or float64 arrays, in the dtype given."""
        raise NotImplementedError

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return (Type(inputs[0].shape),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (self.function(inputs[0]).astype(np.float32),)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        return Coupling(broadcast_axes(inputs, outputs[0]))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        order = lowering.order(value)
        low, high = epilogue.low, epilogue.high
        function: Callable[[np.ndarray], np.ndarray] = lambda real: np.clip(self.function(real), low, high)  # noqa: E731
        table = lowering.table(f"{node.output}.table", lowering.quant(value), lowering.quant(epilogue.output), function)
        lowering.finish(epilogue, QTable(), (lowering.placed(value, order), table), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(5)
        yield Sample(cls(), (np.linspace(-8, 8, 257, dtype=np.float32).reshape(1, 257),))
        yield Sample(cls(), (rng.normal(size=(2, 3, 4, 5)).astype(np.float32),))
