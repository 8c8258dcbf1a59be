"""Plain recurrent layers on packed weights: the meaning of q_rnn, with zero points folded into the biases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from penjing.ir.graph import Operation
from penjing.ir.types import Type
from penjing.ops.operator import Param, Sample
from penjing.ops.rnn import QRnn
from penjing.vector.packing import LANES, round_up
from penjing.vector.recurrent import VRecurrent, state_step
from penjing.vector.recurrent_samples import rnn_samples


@dataclass(frozen=True)
class VRnn(VRecurrent):
    """As q_rnn, with w_ih, w_hh and their biases and multipliers packed."""

    name = "v_rnn"
    replaces = "q_rnn"
    gates = 1

    y_zero: int
    reverse: bool
    rectified: bool
    stateful: bool

    @property
    def plain(self) -> QRnn:
        return QRnn(self.x_zero, self.y_zero, self.reverse, self.rectified, self.stateful)

    @property
    def h_zero(self) -> int:
        return self.y_zero

    @classmethod
    def of(cls, op: Operation, features: int, units: int, width: int) -> VRnn:
        rnn = cast(QRnn, op)
        return cls(features, units, rnn.x_zero, rnn.y_zero, rnn.reverse, rnn.rectified, rnn.stateful)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {
            **super().kernel_params(inputs, outputs),
            "reverse": int(self.reverse),
            "rectified": int(self.rectified),
            "stateful": int(self.stateful),
            "h_step": state_step(inputs[-1]) if self.stateful else 0,
            "y_zero": self.y_zero,
        }

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return self.read_bytes(inputs) + 2 * round_up(self.units, LANES)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls.taken(QRnn.samples())
        yield from cls.taken(rnn_samples())
