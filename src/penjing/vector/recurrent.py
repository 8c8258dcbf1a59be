"""What recurrent layers on packed weights share: they mean what the plain ones mean.

The products of x are made for many steps at once, as a fully connected layer makes them; those of h follow step by
step, all gates of 16 units side by side, so that the step of these units ends in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from penjing.ir.graph import Operation
from penjing.ir.types import DType, Type
from penjing.ops.operator import Cost, IntegerOperator, Param, expect
from penjing.ops.recurrent import integer_cost
from penjing.vector.operator import Taken, VectorOperator
from penjing.vector.packing import LANES, QUAD, round_up, unfolded_bias
from penjing.vector.recurrent_packing import Matrix, by_gate, gates_problem, packed_matrix, packed_shapes, unpack_gates

STEPS_READ = 24  # PJ_STEPS_READ of the kernels
MATRICES = (1, 4)  # the positions of w_ih and w_hh, which bias and multiplier follow


@dataclass(frozen=True)
class VRecurrent(VectorOperator):
    """Base: x u8 (N, T, I), then weights s8, bias s32 and multiplier f32 of x and of h, packed; the rest as it is."""

    gates: ClassVar[int]

    features: int
    units: int
    x_zero: int

    @property
    def plain(self) -> IntegerOperator:
        """The operator that this one stands for."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """Of the hidden state."""
        return self.units

    @property
    def h_zero(self) -> int:
        """The zero point of the hidden state's codes."""
        return 128

    @classmethod
    def of(cls, op: Operation, features: int, units: int, width: int) -> VRecurrent:
        """This operator for a plain one of this size."""
        raise NotImplementedError

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        if any(constants[i + k] is None for i in MATRICES for k in range(3)):
            return "its weights are not constants of the program"
        matrices = [cast(Matrix, tuple(constants[i : i + 3])) for i in MATRICES]
        problem = gates_problem(*matrices)
        if problem is not None:
            return problem
        (w_ih, _, _), (w_hh, _, _) = matrices
        made = cls.of(op, w_ih.shape[1], len(w_ih) // cls.gates, w_hh.shape[1])
        packed: dict[int, np.ndarray] = {}
        for first, matrix, zero in zip(MATRICES, matrices, (made.x_zero, made.h_zero), strict=True):
            packed |= dict(enumerate(packed_matrix(matrix, zero, cls.gates), first))
        return Taken(made, packed)

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        plain = list(inputs)
        for first, k in zip(MATRICES, (self.features, self.width), strict=True):
            expect_packed(inputs[first : first + 3], self.gates, self.units, k)
            rows = self.gates * self.units
            plain[first : first + 3] = Type((rows, k), DType.S8), Type((rows,), DType.S32), Type((rows,), DType.F32)
        return self.plain.infer(*plain)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        plain = list(inputs)
        for first, k, zero in zip(MATRICES, (self.features, self.width), (self.x_zero, self.h_zero), strict=True):
            packed, bias, m = inputs[first : first + 3]
            w = unpack_gates(packed, self.gates, self.units, k)
            folded = by_gate(bias[0], self.gates, self.units)
            plain[first : first + 3] = w, unfolded_bias(w, folded, zero), by_gate(m, self.gates, self.units)
        return self.plain.integer_reference(*plain)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        n, steps, _ = inputs[0].bounds
        return {"n": n, "steps": steps, "features": self.features, "units": self.units}

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return integer_cost(inputs[0], (inputs[1], inputs[4]), (*inputs, *outputs))

    def read_bytes(self, inputs: tuple[Type, ...]) -> int:
        """Of scratch memory for the products of x and for its rows, where these have to be filled up."""
        steps = min(inputs[0].bounds[1], STEPS_READ)
        staged = round_up(self.features, QUAD) if self.features % QUAD else 0
        return steps * (4 * self.gates * round_up(self.units, LANES) + staged)


def expect_packed(types: Sequence[Type], gates: int, units: int, k: int) -> None:
    """Check the types of a packed matrix (G * H, K)."""
    dtypes = (DType.S8, DType.S32, DType.F32)
    for type_, dtype, shape in zip(types, dtypes, packed_shapes(gates, units, k), strict=True):
        expect((type_.dtype, type_.bounds) == (dtype, shape), f"{type_.dtype}{type_.bounds}, not {dtype}{shape}")


def state_step(state: Type) -> int:
    """Elements from one sample's state to the next; 0 where all have the same."""
    return state.bounds[1] if state.bounds[0] > 1 else 0
