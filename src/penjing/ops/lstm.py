"""Long short-term memory, one layer in one direction:

    i, f, o = sigmoid(pre-activation of each),  g = tanh(its own)                       pre-activations: see recurrent
    c_t = f * c_(t-1) + i * g
    h_t = o * tanh(c_t),   with a projection  h_t = w_hr (o * tanh(c_t))                y_t = h_t

with gates in torch's order i, f, g, o (Hochreiter and Schmidhuber, "Long short-term memory", 1997; with the forget gate
of Gers et al., 2000). In integers, gates in units of 2^-15 and the cell s16 in units of 2^-11, that is -16..16:

    c = sat16((f * c + ((i * g) >> 4) + 2^14) >> 15)
    t = tanh_table[clamp((c + 8) >> 4, -1024, 1023) + 1024]
    h = clamp((o * t + 2^22) >> 23, -128, 127) + 128

No sum leaves int32: every factor is at most 2^15, so f * c and i * g are at most 2^30. A projection is a linear layer
on these codes, and its output has codes of its own.
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import INT32_MAX, multiplier, ratio, requantize
from penjing.ir.graph import Node
from penjing.ir.types import DType, Quant, Type
from penjing.ops.coupling import Axis, Tie, alone, on_input, on_output
from penjing.ops.lowering import Epilogue, Lowering, identity
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.onnx_recurrent import LSTM, read_layer
from penjing.ops.onnx_recurrent_form import write_layer
from penjing.ops.operator import Carried, Cost, IntegerOperator, Param, QuantRule, Sample, WeightInput, expect
from penjing.ops.recurrent import (
    HIDDEN,
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
    given,
    hidden_units,
    initial_codes,
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
from penjing.ops.recurrent_samples import both_ways, float_sample, gate_sample, lstm_ties
from penjing.ops.sigmoid import logistic
from penjing.ops.torch_call import Composed, TorchCall
from penjing.ops.torch_recurrent import compose

CELL = Quant((2.0**-11,))
MOST_PROJECTED = INT32_MAX // (127 * 128)  # units whose products with a projection fit into int32


@dataclass(frozen=True)
class Lstm(Recurrent):
    """Inputs x (N, T, I), w_ih (4H, I), w_hh (4H, R), b_ih, b_hh (4H), w_hr (R, H) if projected, h0 (N, R), c0 (N, H).

    Outputs y (N, T, R) and the last cell (N, H). Biases may be absent, as may the states, both or none; R is H unless
    projected. A state of one row (1, ...) is that of every sample. A cell in 16-bit codes leads to one more output, the
    last cell in these.
    """

    name = "lstm"
    torch = ("aten.lstm.input",)
    onnx = ("LSTM",)
    parameter_inputs = (6, 7)
    recurrent_weights = (*Recurrent.recurrent_weights, WeightInput(5, None, of_output=True))
    carried = (Carried(6), Carried(7, CELL))
    gates = 4

    reverse: bool = False
    projected: bool = False

    @classmethod
    def from_torch(cls, call: TorchCall) -> Composed:
        return compose(call, cls.gates, cls)

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Composed:
        return read_layer(call, LSTM, lambda reverse, _: cls(reverse))

    def quant_rule_of(self, output: int) -> QuantRule:
        return QuantRule.OWN if output == 1 or self.projected else QuantRule.FIXED

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        units, width = hidden_units(inputs, self.gates)
        check_biases(inputs, self.gates * units)
        rest = [t for t in inputs[3:] if t.rank != 1]
        if self.projected:
            expect(bool(rest) and rest.pop(0).bounds == (width, units), f"a projection is ({width}, {units})")
        else:
            expect(width == units, f"recurrent weights of {width} columns for {units} units")
        expect(len(rest) in (0, 2), "the hidden state and the cell are given together or not at all")
        batch = inputs[0].shape[0]
        for state, extent, what in zip(rest, (width, units), ("hidden state", "cell"), strict=False):
            check_state(state, batch, extent, what)
        more = fine_outputs(rest[1] if rest else None, batch, units)
        return (Type((*inputs[0].shape[:2], width)), Type((batch, units)), *more)

    def _units(self, rows: list[Axis], inputs: Sequence[Type | None], outputs: Sequence[Type]) -> tuple[Tie, ...]:
        if not self.projected:
            return super()._units(rows, inputs, outputs)
        projected, units = alone(outputs[0].bounds[2]), alone(outputs[1].bounds[1])
        cells = [on_output(1, units, place) for place in range(1, len(outputs))]
        made = [on_input(2, 1, projected), on_input(5, 0, projected), on_output(2, projected)]
        if given(inputs, 6):
            made.append(on_input(6, 1, projected))
            cells.append(on_input(7, 1, units))
        return (*rows, on_input(5, 1, units), *cells), tuple(made)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w_ih, w_hh, b_ih, b_hh, w_hr, h0, c0 = with_absent(inputs, 8)
        steps, width, units = x.shape[1], w_hh.shape[1], w_hh.shape[0] // 4
        read = x @ w_ih.T
        for bias in (b_ih, b_hh):
            read = read if bias is None else read + bias
        h = state_or_zeros(h0, len(x), width, 0, np.float32)
        c = state_or_zeros(c0, len(x), units, 0, np.float32)
        y = np.empty((len(x), steps, width), np.float32)
        for t in steps_of(steps, reverse=self.reverse):
            i, f, g, o = np.split(read[:, t] + h @ w_hh.T, 4, axis=-1)
            c = logistic(f) * c + logistic(i) * np.tanh(g)
            h = logistic(o) * np.tanh(c)
            h = h if w_hr is None else h @ w_hr.T
            y[:, t] = h
        return y, c

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x, w_ih, w_hh, b_ih, b_hh, w_hr, h0, c0 = with_absent(inputs, 8)
        width, units = w_hh.shape[1], w_hh.shape[0] // 4
        flat = [*torch_weights(x, w_ih, w_hh, b_ih, b_hh), *([] if w_hr is None else [w_hr])]
        h = x.new_zeros(len(x), width) if h0 is None else h0.expand(len(x), -1)
        c = x.new_zeros(len(x), units) if c0 is None else c0.expand(len(x), -1)
        x = x.flip(1) if self.reverse else x
        states = [h.unsqueeze(0).contiguous(), c.unsqueeze(0).contiguous()]
        y, _, last = torch._VF.lstm(x, states, flat, True, 1, 0.0, False, False, True)
        return y.flip(1) if self.reverse else y, last[0]

    def to_onnx(self, form: OnnxForm) -> None:
        write_layer(form, LSTM, reverse=self.reverse, projected=self.projected)

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        inputs = (*node.inputs, *[""] * (8 - len(node.inputs)))
        y, cell, *fine = node.outputs
        target = lowering.quant(y) if self.projected else HIDDEN
        tables = (lowering.shared("sigmoid.table", sigmoid_table), lowering.shared("tanh.table", tanh_table))
        names = [read_steps(lowering, node), *gate_constants(lowering, node, target), *tables]
        if self.projected:
            weight = lowering.graph.constants[inputs[5]]
            assert weight.quant is not None
            m = multiplier(HIDDEN.scale, weight.quant.scale_array(), target.scale)
            names += [lowering.constant(inputs[5], weight.array), lowering.constant(f"{inputs[5]}.multiplier", m)]
        stateful = bool(inputs[6])
        if stateful:
            names += [initial_codes(lowering, inputs[6], target), initial_wide_codes(lowering, inputs[7], CELL)]
        x_zero = lowering.quant(node.inputs[0]).zero_point
        op = QLstm(x_zero, target.zero_point, self.reverse, self.projected, stateful)
        made, last = lowering.emit_all(op, tuple(names), (f"{y}.h", f"{cell}.s16"), (target, CELL))
        lowering.define(y, lowering.rescaled(made, lowering.quant(y)), identity(3))
        if lowering.is_read(cell):
            lowering.define(cell, narrowed(lowering, last, lowering.quant(cell)), identity(2))
        if fine:
            lowering.define(fine[0], last, identity(2))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(73)
        yield from both_ways(rng, cls)
        yield float_sample(rng, cls(True, True), 2, 4, 3, 5, width=2, states=True)
        yield float_sample(rng, cls(False, True), 2, 4, 3, 5, width=3)


def narrowed(lowering: Lowering, state: str, target: Quant) -> str:
    """A state of 16 bits in the 8-bit codes of `target`."""
    from penjing.ops.narrow import QNarrow

    source = lowering.program.types[state].quant
    assert source is not None
    op = QNarrow(ratio(source.scale, target.scale), target.zero_point)
    return lowering.emit(op, (state,), f"{state}.u8", target)


@dataclass(frozen=True)
class QLstm(IntegerOperator):
    """x u8 (N, T, I), w_ih s8 (4H, I), bias s32 (4H), m f32 (4H), w_hh s8 (4H, R), bias, m; tables s16 (2048).

    The tables are of sigmoid and tanh. If projected, then w_hr s8 (R, H) and m f32 (R); if stateful, then h0 u8 (N,
    R) and c0 s16 (N, H), or one row of each. Outputs y u8 (N, T, R) and the last cell s16 (N, H).
    """

    name = "q_lstm"

    x_zero: int
    y_zero: int
    reverse: bool
    projected: bool
    stateful: bool

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, rest = inputs[0], list(inputs[9:])
        units, width = gate_types(inputs[:7], 4)
        check_tables(*inputs[7:9])
        expect(len(rest) == 2 * (self.projected + self.stateful), f"{len(inputs)} inputs")
        if self.projected:
            w, m = rest.pop(0), rest.pop(0)
            expect(units <= MOST_PROJECTED, f"a projection of {units} units could exceed int32")
            fits = (w.dtype, m.dtype, w.bounds, m.bounds) == (DType.S8, DType.F32, (width, units), (width,))
            expect(fits, f"a projection is s8 ({width}, {units})")
        else:
            expect(width == units, f"recurrent weights of {width} columns for {units} units")
            expect(self.y_zero == HIDDEN.zero_point, "hidden codes have the zero point 128")
        if self.stateful:
            expect((rest[0].dtype, rest[1].dtype) == (DType.U8, DType.S16), "states are u8 and s16")
            check_state(rest[0], x.shape[0], width, "hidden state")
            check_state(rest[1], x.shape[0], units, "cell")
        return (Type((*x.shape[:2], width), DType.U8), Type((x.shape[0], units), DType.S16))

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w_ih, bias_ih, m_ih, w_hh, bias_hh, m_hh, sigmoid, tanh, *rest = inputs
        w_hr, m_hr = (rest.pop(0), rest.pop(0)) if self.projected else (None, None)
        h0, c0 = rest if self.stateful else (None, None)
        width, units = w_hh.shape[1], w_hh.shape[0] // 4
        h = state_or_zeros(h0, len(x), width, self.y_zero, np.uint8)
        c = state_or_zeros(c0, len(x), units, 0, np.int32)
        read = dot(x, self.x_zero, w_ih, bias_ih).astype(np.float32) * m_ih
        y = np.empty((*x.shape[:2], width), np.uint8)
        for t in steps_of(x.shape[1], reverse=self.reverse):
            again = dot(h, self.y_zero, w_hh, bias_hh).astype(np.float32) * m_hh
            gates = np.split(rounded_gate(read[:, t] + again), 4, axis=-1)
            i, f, o = (sigmoid[gates[k]].astype(np.int32) for k in (0, 1, 3))
            g = tanh[gates[2]].astype(np.int32)
            c = saturated((f * c + ((i * g) >> 4) + 2**14) >> 15, 16)
            of_cell = tanh[np.clip((c + 8) >> 4, -1024, 1023) + 1024].astype(np.int32)
            h = (saturated((o * of_cell + 2**22) >> 23, 8) + 128).astype(np.uint8)
            if w_hr is not None and m_hr is not None:
                h = requantize(dot(h, 128, w_hr, np.zeros(width, np.int32)), m_hr, self.y_zero)
            y[:, t] = h
        return y, c.astype(np.int16)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        states = inputs[-2:] if self.stateful else ()
        return {
            **gate_params(inputs, 4),
            "reverse": int(self.reverse),
            "projected": int(self.projected),
            "stateful": int(self.stateful),
            "h_step": states[0].bounds[1] if states and states[0].bounds[0] > 1 else 0,
            "c_step": states[1].bounds[1] if states and states[1].bounds[0] > 1 else 0,
            **{"x_zero": self.x_zero, "y_zero": self.y_zero},
            **{"low": float(-self.y_zero), "high": float(255 - self.y_zero)},
        }

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return gate_scratch(inputs) + 2 * outputs[1].bounds[1]

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        weights = (inputs[1], inputs[4], *inputs[9 : 9 + self.projected])
        return integer_cost(inputs[0], weights, (*inputs, *outputs))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(74)
        tables = (sigmoid_table(), tanh_table())

        def sample(
            n: int, steps: int, features: int, units: int, *, width: int = 0, zeros: tuple[int, int] = (128, 128),
            reverse: bool = False, stateful: bool = False, reach: float = 400.0, rows: int = 0,
        ) -> Sample:  # fmt: skip
            op = cls(*zeros, reverse, width > 0, stateful)
            parts = gate_sample(rng, 4, n, steps, features, units, width or units, reach)
            more: list[np.ndarray] = []
            if width:
                fine = np.float32(2.0 ** (-9 - np.ceil(np.log2(units) / 2)))
                more = [rng.integers(-127, 128, (width, units)).astype(np.int8), np.full(width, fine, np.float32)]
            if stateful:
                more.append(rng.integers(0, 256, (rows or n, width or units)).astype(np.uint8))
                more.append(rng.integers(-(2**15), 2**15, (rows or n, units)).astype(np.int16))
            known = tuple(range(1, 9 + 2 * (width > 0)))
            return Sample(op, (*parts, *tables, *more), constant=known)

        for i, units in enumerate((1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64)):
            yield sample(1, (1, 2, 5, 17)[i % 4], (7, 16, 33, 1)[i % 4], units, reverse=i % 2 == 1)
        yield sample(2, 33, 13, 5, zeros=(0, 128), reach=3000.0)  # every gate saturates
        yield sample(1, 40, 5, 9, zeros=(255, 128), reach=60.0, reverse=True)
        yield sample(3, 6, 4, 10, stateful=True)
        yield sample(3, 6, 4, 10, stateful=True, rows=1, reverse=True)
        yield sample(2, 16, 20, 19, width=7, zeros=(3, 90))
        yield sample(2, 5, 6, 12, width=5, zeros=(0, 131), stateful=True, reverse=True)
        yield from lstm_ties(cls, tables)
