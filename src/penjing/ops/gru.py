"""Gated recurrent unit, one layer in one direction:

    r, z = sigmoid(pre-activation of each)
    n    = tanh(w_in x_t + b_in + r * (w_hn h_(t-1) + b_hn))                             pre-activations: see recurrent
    h_t  = (1 - z) * n + z * h_(t-1)                                                     y_t = h_t

with gates in torch's order r, z, n and its bias inside of the reset product (Cho et al., "Learning phrase
representations using RNN encoder-decoder", 2014; the reset after the product is that of its revision, and of cuDNN). In
integers, gates and h in units of 2^-15, h in s16 beside its codes in u8:

    g_n = rne(clamp(float32(acc_x) * m_x + float32(r) * 2^-15 * (float32(acc_h) * m_h), -1024, 1023))
    h16 = (z * h16 + (2^15 - z) * n + 2^14) >> 15
    h   = clamp((h16 + 128) >> 8, -128, 127) + 128

The float operations of g_n: a = acc_x * m_x, b = acc_h * m_h, b = (r * 2^-15) * b, a + b, each rounded to float32 (the
inner product with 2^-15 is exact). z and 2^15 - z sum up to 2^15 and are not negative, as sigmoid is not, so that the
sum for h16 is at most 2^30 + 2^14, and h16 needs no clamp: it stays between the extremes of n and of what it was.
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.ir.graph import Node
from penjing.ir.types import DType, Quant, Type
from penjing.ops.lowering import Epilogue, Lowering, identity
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.onnx_recurrent import GRU, read_layer
from penjing.ops.onnx_recurrent_form import write_layer
from penjing.ops.operator import Carried, Cost, IntegerOperator, Param, Sample, expect
from penjing.ops.recurrent import (
    HIDDEN,
    ONE,
    Recurrent,
    check_biases,
    check_state,
    check_tables,
    dot,
    fine_outputs,
    gate_constants,
    gate_params,
    gate_scratch,
    gate_types,
    hidden_units,
    initial_wide_codes,
    integer_cost,
    read_steps,
    rounded_gate,
    saturated,
    sigmoid_table,
    state_or_zeros,
    steps_of,
    tanh_table,
    torch_weights,
    with_absent,
)
from penjing.ops.recurrent_samples import both_ways, gate_sample, gru_ties
from penjing.ops.sigmoid import logistic
from penjing.ops.torch_call import Composed, TorchCall
from penjing.ops.torch_recurrent import compose

FINE_HIDDEN = Quant((2.0**-15,))


@dataclass(frozen=True)
class Gru(Recurrent):
    """Inputs x (N, T, I), w_ih (3H, I), w_hh (3H, H), b_ih, b_hh (3H), h0 (N, H); outputs y (N, T, H), last h (N, H).

    Biases and h0 may be absent. A state of one row (1, H) is that of every sample. One in 16-bit codes leads to one
    more output, the last h in these.
    """

    name = "gru"
    torch = ("aten.gru.input",)
    onnx = ("GRU",)
    parameter_inputs = (5,)
    gates = 3
    carried = (Carried(5, FINE_HIDDEN),)

    reverse: bool = False

    @classmethod
    def from_torch(cls, call: TorchCall) -> Composed:
        return compose(call, cls.gates, lambda reverse, _: cls(reverse))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Composed:
        return read_layer(call, GRU, lambda reverse, _: cls(reverse))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        units, width = hidden_units(inputs, self.gates)
        expect(width == units, f"recurrent weights of {width} columns for {units} units")
        check_biases(inputs, self.gates * units)
        states = [t for t in inputs[3:] if t.rank != 1]
        expect(len(states) <= 1, f"{len(states)} hidden states")
        for state in states:
            check_state(state, inputs[0].shape[0], units, "hidden state")
        batch, steps = inputs[0].shape[:2]
        more = fine_outputs(states[0] if states else None, batch, units)
        return (Type((batch, steps, units)), Type((batch, units)), *more)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w_ih, w_hh, b_ih, b_hh, h0 = with_absent(inputs, 6)
        steps, units = x.shape[1], w_hh.shape[1]
        read = x @ w_ih.T if b_ih is None else x @ w_ih.T + b_ih
        h = state_or_zeros(h0, len(x), units, 0, np.float32)
        y = np.empty((len(x), steps, units), np.float32)
        for t in steps_of(steps, reverse=self.reverse):
            again = h @ w_hh.T if b_hh is None else h @ w_hh.T + b_hh
            (r, z, n), (r_h, z_h, n_h) = (np.split(part, 3, axis=-1) for part in (read[:, t], again))
            z = logistic(z + z_h)
            n = np.tanh(n + logistic(r + r_h) * n_h)
            h = (1 - z) * n + z * h
            y[:, t] = h
        return y, h

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x, w_ih, w_hh, b_ih, b_hh, h0 = with_absent(inputs, 6)
        flat = torch_weights(x, w_ih, w_hh, b_ih, b_hh)
        h = x.new_zeros(len(x), w_hh.shape[1]) if h0 is None else h0.expand(len(x), -1)
        x = x.flip(1) if self.reverse else x
        y, last = torch._VF.gru(x, h.unsqueeze(0).contiguous(), flat, True, 1, 0.0, False, False, True)
        return y.flip(1) if self.reverse else y, last[0]

    def to_onnx(self, form: OnnxForm) -> None:
        write_layer(form, GRU, reverse=self.reverse)

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        y, last, *fine = node.outputs
        state = node.inputs[5] if len(node.inputs) > 5 else ""
        tables = (lowering.shared("sigmoid.table", sigmoid_table), lowering.shared("tanh.table", tanh_table))
        names = [read_steps(lowering, node), *gate_constants(lowering, node, HIDDEN), *tables]
        if state:
            names.append(initial_wide_codes(lowering, state, FINE_HIDDEN))
        op = QGru(lowering.quant(node.inputs[0]).zero_point, self.reverse, bool(state))
        made, h16 = lowering.emit_all(op, tuple(names), (f"{y}.h", f"{last}.s16"), (HIDDEN, FINE_HIDDEN))
        made = lowering.rescaled(made, lowering.quant(y))
        lowering.define(y, made, identity(3))
        if lowering.is_read(last):
            lowering.define(last, step_of(lowering, made, self.reverse, lowering.quant(last)), identity(2))
        if fine:
            lowering.define(fine[0], h16, identity(2))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(75)
        yield from both_ways(rng, cls)


def step_of(lowering: Lowering, y: str, reverse: bool, target: Quant) -> str:
    """The step of y (N, T, H) that was computed last, (N, H)."""
    from penjing.ops.slice import QSlice

    batch, steps, units = lowering.program.types[y].shape
    end = steps - 1 if isinstance(steps, int) else -1  # of a sequence of any length
    part = lowering.emit(QSlice(1, 0 if reverse else end, 1, 1), (y,), f"{y}.last", target)
    return lowering.reshape(part, (batch, units))


@dataclass(frozen=True)
class QGru(IntegerOperator):
    """x u8 (N, T, I), w_ih s8 (3H, I), bias s32 (3H), m f32 (3H), w_hh s8 (3H, H), bias, m; tables s16 (2048).

    The tables are of sigmoid and tanh. If stateful, then h0 s16 (N, H) or (1, H). Outputs y u8 (N, T, H) and the
    last h s16 (N, H).
    """

    name = "q_gru"

    x_zero: int
    reverse: bool
    stateful: bool

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x = inputs[0]
        units, width = gate_types(inputs[:7], 3)
        expect(width == units, f"recurrent weights of {width} columns for {units} units")
        check_tables(*inputs[7:9])
        expect(len(inputs) == 9 + self.stateful, f"{len(inputs)} inputs")
        if self.stateful:
            expect(inputs[9].dtype is DType.S16, "the state is s16")
            check_state(inputs[9], x.shape[0], units, "hidden state")
        return (Type((*x.shape[:2], units), DType.U8), Type((x.shape[0], units), DType.S16))

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w_ih, bias_ih, m_ih, w_hh, bias_hh, m_hh, sigmoid, tanh, *states = inputs
        h16 = state_or_zeros(states[0] if states else None, len(x), w_hh.shape[1], 0, np.int32)
        read = dot(x, self.x_zero, w_ih, bias_ih).astype(np.float32) * m_ih
        y = np.empty((*x.shape[:2], w_hh.shape[1]), np.uint8)
        h = fine_codes(h16)
        for t in steps_of(x.shape[1], reverse=self.reverse):
            again = dot(h, HIDDEN.zero_point, w_hh, bias_hh).astype(np.float32) * m_hh
            (r, z, n), (r_h, z_h, n_h) = (np.split(part, 3, axis=-1) for part in (read[:, t], again))
            r, z = (sigmoid[rounded_gate(gate)].astype(np.int32) for gate in (r + r_h, z + z_h))
            n = tanh[rounded_gate(n + (r.astype(np.float32) * np.float32(2**-15)) * n_h)].astype(np.int32)
            h16 = (z * h16 + (ONE - z) * n + 2**14) >> 15
            h = fine_codes(h16)
            y[:, t] = h
        return y, h16.astype(np.int16)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        more_rows = self.stateful and inputs[9].bounds[0] > 1
        return {
            **gate_params(inputs, 3),
            "reverse": int(self.reverse),
            "stateful": int(self.stateful),
            "h_step": inputs[9].bounds[1] if more_rows else 0,
            "x_zero": self.x_zero,
        }

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return gate_scratch(inputs)

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return integer_cost(inputs[0], (inputs[1], inputs[4]), (*inputs, *outputs))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(76)
        tables = (sigmoid_table(), tanh_table())

        def sample(
            n: int, steps: int, features: int, units: int, *, x_zero: int = 128,
            reverse: bool = False, rows: int = 0, reach: float = 400.0,
        ) -> Sample:  # fmt: skip
            parts = gate_sample(rng, 3, n, steps, features, units, units, reach)
            state = [rng.integers(-(2**15), 2**15, (rows, units)).astype(np.int16)] if rows else []
            op = cls(x_zero, reverse, rows > 0)
            return Sample(op, (*parts, *tables, *state), constant=tuple(range(1, 9)))

        for i, units in enumerate((1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64)):
            yield sample(1, (1, 2, 5, 17)[i % 4], (7, 16, 33, 1)[i % 4], units, reverse=i % 2 == 1)
        yield sample(2, 33, 13, 5, x_zero=0, reach=3000.0)  # every gate saturates
        yield sample(1, 40, 5, 9, x_zero=255, reach=60.0, reverse=True)
        yield sample(3, 6, 4, 10, rows=3)
        yield sample(3, 6, 4, 10, rows=1, reverse=True)
        yield from gru_ties(cls, tables)


def fine_codes(h16: np.ndarray) -> np.ndarray:
    """u8 codes of a hidden state in units of 2^-15."""
    codes: np.ndarray = (saturated((h16 + 128) >> 8, 8) + 128).astype(np.uint8)
    return codes
