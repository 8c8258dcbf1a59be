"""Gated recurrent units on packed weights: the meaning of q_gru, with zero points folded into the biases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from penjing.ir.graph import Operation
from penjing.ir.types import Type
from penjing.ops.gru import QGru
from penjing.ops.operator import Param, Sample
from penjing.vector.packing import LANES, round_up
from penjing.vector.recurrent import VRecurrent, state_step
from penjing.vector.recurrent_samples import gru_samples


@dataclass(frozen=True)
class VGru(VRecurrent):
    """As q_gru, with w_ih, w_hh and their biases and multipliers packed."""

    name = "v_gru"
    replaces = "q_gru"
    gates = 3

    reverse: bool
    stateful: bool

    @property
    def plain(self) -> QGru:
        return QGru(self.x_zero, self.reverse, self.stateful)

    @classmethod
    def of(cls, op: Operation, features: int, units: int, width: int) -> VGru:
        gru = cast(QGru, op)
        return cls(features, units, gru.x_zero, gru.reverse, gru.stateful)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {
            **super().kernel_params(inputs, outputs),
            "reverse": int(self.reverse),
            "stateful": int(self.stateful),
            "h_step": state_step(inputs[-1]) if self.stateful else 0,
        }

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return self.read_bytes(inputs) + 4 * round_up(self.units, LANES)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QGru.samples())
        yield from cls.taken(gru_samples())
