"""The plain recurrent layer, in one direction:  h_t = tanh(pre-activation) or relu of it;  y_t = h_t  (Elman, 1990).

In integers, tanh by the table of gates (see recurrent), then t in units of 2^-15 rounded to codes of 1/128:

    h = clamp((t + 128) >> 8, -128, 127) + 128

A rectified hidden state has codes of its own, those of y, so that its pre-activation is counted in steps of y:

    h = rne(clamp(float32(acc_x) * m_x + float32(acc_h) * m_h, 0, 255 - zp_y)) + zp_y,   m = s_x * s_w_ih / s_y, ...
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import round_clamped
from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.lowering import Epilogue, Lowering, identity
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.onnx_recurrent import RNN, read_layer
from penjing.ops.onnx_recurrent_form import write_layer
from penjing.ops.operator import Carried, Cost, IntegerOperator, Param, QuantRule, Sample, expect
from penjing.ops.recurrent import (
    HIDDEN,
    UNIT,
    Recurrent,
    check_biases,
    check_state,
    check_tables,
    dot,
    gate_constants,
    gate_params,
    gate_scratch,
    gate_types,
    hidden_units,
    initial_codes,
    integer_cost,
    read_steps,
    rounded_gate,
    saturated,
    state_or_zeros,
    steps_of,
    tanh_table,
    torch_weights,
    with_absent,
)
from penjing.ops.recurrent_samples import float_sample, gate_sample, rnn_ties
from penjing.ops.torch_call import Composed, TorchCall
from penjing.ops.torch_recurrent import compose


@dataclass(frozen=True)
class Rnn(Recurrent):
    """Inputs x (N, T, I), w_ih (H, I), w_hh (H, H), b_ih, b_hh (H), h0 (N, H); output y (N, T, H).

    Biases and h0 may be absent. A state of one row (1, H) is that of every sample.
    """

    name = "rnn"
    torch = ("aten.rnn_tanh.input", "aten.rnn_relu.input")
    onnx = ("RNN",)
    parameter_inputs = (5,)
    gates = 1
    carried = (Carried(5),)

    reverse: bool = False
    rectified: bool = False

    @classmethod
    def from_torch(cls, call: TorchCall) -> Composed:
        rectified = call.target == "aten.rnn_relu.input"
        return compose(call, cls.gates, lambda reverse, _: cls(reverse, rectified))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Composed:
        return read_layer(call, RNN, cls)

    def quant_rule_of(self, output: int) -> QuantRule:
        return QuantRule.OWN if self.rectified else QuantRule.FIXED

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        units, width = hidden_units(inputs, self.gates)
        expect(width == units, f"recurrent weights of {width} columns for {units} units")
        check_biases(inputs, units)
        states = [t for t in inputs[3:] if t.rank != 1]
        expect(len(states) <= 1, f"{len(states)} hidden states")
        for state in states:
            check_state(state, inputs[0].shape[0], units, "hidden state")
        return (Type((*inputs[0].shape[:2], units)),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w_ih, w_hh, b_ih, b_hh, h0 = with_absent(inputs, 6)
        read = x @ w_ih.T
        for bias in (b_ih, b_hh):
            read = read if bias is None else read + bias
        h = state_or_zeros(h0, len(x), w_hh.shape[1], 0, np.float32)
        y = np.empty((*x.shape[:2], w_hh.shape[1]), np.float32)
        for t in steps_of(x.shape[1], reverse=self.reverse):
            h = read[:, t] + h @ w_hh.T
            h = np.maximum(h, np.float32(0)) if self.rectified else np.tanh(h)
            y[:, t] = h
        return (y,)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x, w_ih, w_hh, b_ih, b_hh, h0 = with_absent(inputs, 6)
        flat = torch_weights(x, w_ih, w_hh, b_ih, b_hh)
        h = x.new_zeros(len(x), len(w_hh)) if h0 is None else h0.expand(len(x), -1)
        x = x.flip(1) if self.reverse else x
        layer = torch._VF.rnn_relu if self.rectified else torch._VF.rnn_tanh
        y, _ = layer(x, h.unsqueeze(0).contiguous(), flat, True, 1, 0.0, False, False, True)
        return y.flip(1) if self.reverse else y

    def to_onnx(self, form: OnnxForm) -> None:
        write_layer(form, RNN, reverse=self.reverse, rectified=self.rectified)

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        (y,) = node.outputs
        state = node.inputs[5] if len(node.inputs) > 5 else ""
        target = lowering.quant(y) if self.rectified else HIDDEN
        unit = target if self.rectified else UNIT
        names = [read_steps(lowering, node), *gate_constants(lowering, node, target, unit)]
        names += [] if self.rectified else [lowering.shared("tanh.table", tanh_table)]
        names += [initial_codes(lowering, state, target)] if state else []
        x_zero = lowering.quant(node.inputs[0]).zero_point
        op = QRnn(x_zero, target.zero_point, self.reverse, self.rectified, bool(state))
        made = lowering.emit(op, tuple(names), f"{y}.h", target)
        lowering.define(y, lowering.rescaled(made, lowering.quant(y)), identity(3))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(77)
        for rectified in (False, True):
            yield float_sample(rng, cls(False, rectified), 2, 5, 3, 4)
            yield float_sample(rng, cls(True, rectified), 1, 7, 5, 3, biases=False, states=True)
            yield float_sample(rng, cls(False, rectified), 3, 1, 1, 1, states=True)


@dataclass(frozen=True)
class QRnn(IntegerOperator):
    """x u8 (N, T, I), w_ih s8 (H, I), bias s32 (H), m f32 (H), w_hh s8 (H, H), bias, m; output y u8 (N, T, H).

    Unless rectified, then the table of tanh, s16 (2048); if stateful, then h0 u8 (N, H) or (1, H).
    """

    name = "q_rnn"

    x_zero: int
    y_zero: int
    reverse: bool
    rectified: bool
    stateful: bool

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, rest = inputs[0], list(inputs[7:])
        units, width = gate_types(inputs[:7], 1)
        expect(width == units, f"recurrent weights of {width} columns for {units} units")
        expect(len(rest) == (not self.rectified) + self.stateful, f"{len(inputs)} inputs")
        if not self.rectified:
            check_tables(rest.pop(0))
            expect(self.y_zero == HIDDEN.zero_point, "hidden codes have the zero point 128")
        if self.stateful:
            expect(rest[0].dtype is DType.U8, "the state is u8")
            check_state(rest[0], x.shape[0], units, "hidden state")
        return (Type((*x.shape[:2], units), DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, w_ih, bias_ih, m_ih, w_hh, bias_hh, m_hh, *rest = inputs
        tanh = None if self.rectified else rest.pop(0)
        h = state_or_zeros(rest[0] if rest else None, len(x), w_hh.shape[1], self.y_zero, np.uint8)
        read = dot(x, self.x_zero, w_ih, bias_ih).astype(np.float32) * m_ih
        y = np.empty((*x.shape[:2], w_hh.shape[1]), np.uint8)
        for t in steps_of(x.shape[1], reverse=self.reverse):
            steps = read[:, t] + dot(h, self.y_zero, w_hh, bias_hh).astype(np.float32) * m_hh
            if tanh is None:
                h = round_clamped(steps, self.y_zero, self.y_zero)
            else:
                made = (tanh[rounded_gate(steps)].astype(np.int32) + 128) >> 8
                h = (saturated(made, 8) + 128).astype(np.uint8)
            y[:, t] = h
        return (y,)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        more_rows = self.stateful and inputs[-1].bounds[0] > 1
        return {
            **gate_params(inputs, 1),
            "reverse": int(self.reverse),
            "rectified": int(self.rectified),
            "stateful": int(self.stateful),
            "h_step": inputs[-1].bounds[1] if more_rows else 0,
            **{"x_zero": self.x_zero, "y_zero": self.y_zero},
            "high": float(255 - self.y_zero),
        }

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return gate_scratch(inputs)

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return integer_cost(inputs[0], (inputs[1], inputs[4]), (*inputs, *outputs))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(78)

        def sample(
            n: int, steps: int, features: int, units: int, *, zeros: tuple[int, int] = (128, 128),
            reverse: bool = False, rectified: bool = False, rows: int = 0, reach: float = 150.0,
        ) -> Sample:  # fmt: skip
            parts = list(gate_sample(rng, 1, n, steps, features, units, units, reach))
            if not rectified:
                parts.append(tanh_table())
            known = tuple(range(1, len(parts)))
            if rows:
                parts.append(rng.integers(0, 256, (rows, units)).astype(np.uint8))
            return Sample(cls(*zeros, reverse, rectified, rows > 0), tuple(parts), constant=known)

        for i, units in enumerate((1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64)):
            yield sample(1, (1, 2, 5, 17)[i % 4], (7, 16, 33, 1)[i % 4], units, reverse=i % 2 == 1)
        yield sample(2, 33, 13, 5, zeros=(0, 128), reach=2000.0)
        for rows, zeros in ((0, (0, 0)), (3, (255, 0)), (1, (7, 3))):
            yield sample(3, 19, 6, 11, zeros=zeros, reverse=rows == 1, rectified=True, rows=rows)
        yield sample(3, 6, 4, 10, rows=3)
        yield sample(3, 6, 4, 10, rows=1, reverse=True)
        yield from rnn_ties(cls, tanh_table())
