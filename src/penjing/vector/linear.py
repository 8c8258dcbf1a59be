"""Fully connected layers on packed weights: the meaning of q_linear, with the zero point of x folded into the bias."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from penjing.core.arithmetic import S16_MAX, S16_MIN
from penjing.ir.graph import Operation
from penjing.ir.types import DType, Type
from penjing.ops.conv2d import check_requantize
from penjing.ops.linear import QLinear
from penjing.ops.linear_wide import QLinearWide
from penjing.ops.operator import Cost, Param, Sample, expect
from penjing.vector.linear_packing import group_sizes, pack_biases, pack_groups, unpack_groups, weights_problem
from penjing.vector.linear_samples import tile_samples
from penjing.vector.operator import Taken, VectorOperator
from penjing.vector.packing import LANES, QUAD, blocks, fill, round_up, unfolded_bias

FEWEST_ROWS, MOST_ROWS = 3, 6  # that any instruction set takes at once


@dataclass(frozen=True)
class VLinear(VectorOperator):
    """x u8 (..., K), w s8 (blocks * ceil(K / 4), 16, 4), bias s32 (2, blocks * 16), multiplier f32 (blocks * 16).

    The first row of the bias goes with codes of x, the second with their differences from 128. Output u8 (..., O), or
    `wide`, s16.
    """

    name = "v_linear"
    replaces = "q_linear"
    also_replaces = ("q_linear_wide",)
    splits = True

    features: int
    channels: int
    x_zero: int
    y_zero: int
    qmin: int
    qmax: int
    wide: bool = False

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        if any(constants[i] is None for i in (1, 2, 3)):
            return "its weights are not constants of the program"
        w, bias, m = (cast(np.ndarray, constants[i]) for i in (1, 2, 3))
        problem = weights_problem(w, bias, m)
        if problem is not None:
            return problem
        if isinstance(op, QLinearWide):
            made = cls(w.shape[1], w.shape[0], op.x_zero, 0, S16_MIN, S16_MAX, wide=True)
        else:
            linear = cast(QLinear, op)
            made = cls(w.shape[1], w.shape[0], linear.x_zero, linear.y_zero, linear.qmin, linear.qmax)
        return Taken(made, {1: pack_groups(w), 2: pack_biases(w, bias, made.x_zero), 3: fill(m, LANES)})

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w, bias, m = inputs
        expect(x.rank >= 1 and x.bounds[-1] == self.features, f"x (..., {x.bounds[-1]}), not (..., {self.features})")
        want = (blocks(self.channels) * -(-self.features // QUAD), LANES, QUAD)
        expect(w.bounds == want, f"packed weights of shape {w.bounds}, not {want}")
        lanes = blocks(self.channels) * LANES
        expect(bias.bounds == (2, lanes), f"bias of shape {bias.bounds}, not {(2, lanes)}")
        check_requantize(x, w, Type(m.shape, bias.dtype), m, lanes)
        return (Type((*x.shape[:-1], self.channels), DType.S16 if self.wide else DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, packed, bias, m = inputs
        w = unpack_groups(packed, self.channels, self.features)
        plain_bias = unfolded_bias(w, bias[0, : self.channels], self.x_zero)
        clamp = self.y_zero, self.qmin, self.qmax
        plain = QLinearWide(self.x_zero) if self.wide else QLinear(self.x_zero, *clamp)
        return plain.integer_reference(x, w, plain_bias, m[: self.channels])

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        size = {"rows": inputs[0].elements // self.features, "k": self.features, "oc": self.channels}
        return {**size, "wide": int(self.wide), "y_zero": self.y_zero, "qmin": self.qmin, "qmax": self.qmax}

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        if self.features % QUAD == 0:
            return 0
        rows = inputs[0].elements // self.features
        return round_up(self.features, QUAD) * min(rows, MOST_ROWS)

    def inner_loops(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, set[int]]:
        rows, groups = inputs[0].elements // self.features, set(group_sizes(blocks(self.channels)))
        # instruction sets with few registers take rows one by one
        return {"PJ_LINEAR_GROUPS_1": groups, "PJ_LINEAR_GROUPS": groups if rows >= FEWEST_ROWS else set()}

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * self.features, sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QLinear.samples())
        yield from cls.taken(QLinearWide.samples())
        yield from cls.taken(tile_samples())
