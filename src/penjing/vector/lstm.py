"""Long short-term memory on packed weights: the meaning of q_lstm, with zero points folded into the biases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from penjing.ir.graph import Operation
from penjing.ir.types import DType, Type
from penjing.ops.lstm import QLstm
from penjing.ops.operator import Cost, Param, Sample
from penjing.ops.recurrent import integer_cost
from penjing.vector.operator import Taken
from penjing.vector.packing import LANES, round_up
from penjing.vector.recurrent import VRecurrent, expect_packed, state_step
from penjing.vector.recurrent_packing import by_block, by_gate, gates_problem, pack_gates, packed_shapes, unpack_gates
from penjing.vector.recurrent_samples import lstm_samples

PROJECTION = 9  # the position of w_hr


@dataclass(frozen=True)
class VLstm(VRecurrent):
    """As q_lstm, with w_ih, w_hh and their biases and multipliers packed, and w_hr and its multiplier likewise.

    w_hr has no bias: the kernel measures what its sums are for codes that mean 0.
    """

    name = "v_lstm"
    replaces = "q_lstm"
    gates = 4

    hidden: int
    y_zero: int
    reverse: bool
    projected: bool
    stateful: bool

    @property
    def plain(self) -> QLstm:
        return QLstm(self.x_zero, self.y_zero, self.reverse, self.projected, self.stateful)

    @property
    def width(self) -> int:
        return self.hidden

    @property
    def h_zero(self) -> int:
        return self.y_zero

    @classmethod
    def of(cls, op: Operation, features: int, units: int, width: int) -> VLstm:
        lstm = cast(QLstm, op)
        return cls(features, units, lstm.x_zero, width, lstm.y_zero, lstm.reverse, lstm.projected, lstm.stateful)

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        taken = super().take(op, types, constants)
        if isinstance(taken, str) or not cast(QLstm, op).projected:
            return taken
        w, m = constants[PROJECTION : PROJECTION + 2]
        if w is None or m is None:
            return "its projection is no constant of the program"
        problem = gates_problem((w, np.zeros(len(w), np.int32), m))
        if problem is not None:
            return problem
        return Taken(taken.op, taken.constants | {PROJECTION: pack_gates(w, 1), PROJECTION + 1: by_block(m, 1)})

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        if not self.projected:
            return super().infer(*inputs)
        w, m = inputs[PROJECTION : PROJECTION + 2]
        bias = Type(packed_shapes(1, self.hidden, self.units)[1], DType.S32)
        expect_packed((w, bias, m), 1, self.hidden, self.units)
        plain = (Type((self.hidden, self.units), DType.S8), Type((self.hidden,), DType.F32))
        return super().infer(*inputs[:PROJECTION], *plain, *inputs[PROJECTION + 2 :])

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        if not self.projected:
            return super().integer_reference(*inputs)
        w, m = inputs[PROJECTION : PROJECTION + 2]
        plain = (unpack_gates(w, 1, self.hidden, self.units), by_gate(m, 1, self.hidden))
        return super().integer_reference(*inputs[:PROJECTION], *plain, *inputs[PROJECTION + 2 :])

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        states = inputs[-2:] if self.stateful else ()
        return {
            **super().kernel_params(inputs, outputs),
            "width": self.hidden,
            "reverse": int(self.reverse),
            "projected": int(self.projected),
            "stateful": int(self.stateful),
            "h_step": state_step(states[0]) if states else 0,
            "c_step": state_step(states[1]) if states else 0,
            "y_zero": self.y_zero,
        }

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        units, width = round_up(self.units, LANES), round_up(self.hidden, LANES)
        projected = 4 * width + units if self.projected else 0
        return self.read_bytes(inputs) + 2 * units + 2 * width + projected

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        weights = (inputs[1], inputs[4], *inputs[PROJECTION : PROJECTION + self.projected])
        return integer_cost(inputs[0], weights, (*inputs, *outputs))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QLstm.samples())
        yield from cls.taken(lstm_samples())
