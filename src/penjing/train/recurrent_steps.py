"""Recurrent layers as their integers compute them, step by step, for training.

    gates   sigmoid and tanh of pre-activations in units of 1/128 within -8..8, counted in units of 2^-15
    cell    in units of 2^-11 within -16..16 (LSTM);  h in units of 2^-15 beside its codes (GRU)
    h       in codes of 1/128, or those of y where the layer is projected or rectified; the next step reads these

`penjing.ops.recurrent`, `lstm`, `gru` and `rnn` define the arithmetic and its ties. Backwards, roundings let gradients
straight through, save where a value ran into a limit, and gates have the slope of their curve at what came out of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F

from penjing.ops.gru import FINE_HIDDEN, Gru
from penjing.ops.lstm import CELL, Lstm
from penjing.ops.recurrent import HIDDEN, LEAST, MOST, ONE, UNIT, Recurrent, steps_of, with_absent
from penjing.ops.rnn import Rnn

Operands = Sequence[torch.Tensor | None]
Rounding = Callable[[torch.Tensor], torch.Tensor]

_PER_UNIT = round(1 / UNIT.scale)
_PER_CODE = round(1 / HIDDEN.scale)


def rounded_steps(op: Recurrent, operands: Operands, of_output: Rounding) -> tuple[torch.Tensor, ...]:
    """The outputs of a recurrent layer whose inputs, weights and biases are rounded already.

    Args:
        op: an LSTM, a GRU or a plain layer.
        operands: its inputs, None for those that are absent.
        of_output: rounds to the codes of y, where these are not those of 1/128.
    """
    if isinstance(op, Lstm):
        return _lstm(op, operands, of_output)
    if isinstance(op, Gru):
        return _gru(op, operands)
    assert isinstance(op, Rnn)
    return _rnn(op, operands, of_output)


def _lstm(op: Lstm, operands: Operands, of_output: Rounding) -> tuple[torch.Tensor, ...]:
    x, w_ih, w_hh, b_ih, b_hh, w_hr, h0, c0 = with_absent(tuple(operands), 8)
    units, hidden = len(w_hh) // 4, of_output if op.projected else _hidden
    h, c = _start(x, h0, w_hh.shape[1], hidden), _start(x, c0, units, _cell)
    read, y = F.linear(x, w_ih, b_ih).unbind(1), [h] * x.shape[1]
    for t in steps_of(len(read), reverse=op.reverse):
        first, g, o = (read[t] + F.linear(h, w_hh, b_hh)).split((2 * units, units, units), 1)
        i, f = _sigmoid(first).chunk(2, 1)
        c = _cell(f * c + i * _tanh(g))
        h = _hidden(_sigmoid(o) * _Curve.apply(c, "tanh", "up"))
        h = hidden(F.linear(h, w_hr)) if op.projected else h
        y[t] = h
    return torch.stack(y, 1), c


def _gru(op: Gru, operands: Operands) -> tuple[torch.Tensor, ...]:
    x, w_ih, w_hh, b_ih, b_hh, h0 = with_absent(tuple(operands), 6)
    units = w_hh.shape[1]
    fine = _start(x, h0, units, _fine)
    read, y = F.linear(x, w_ih, b_ih).unbind(1), [fine] * x.shape[1]
    h = _hidden(fine)
    for t in steps_of(len(read), reverse=op.reverse):
        first, n = read[t].split((2 * units, units), 1)
        first_h, n_h = F.linear(h, w_hh, b_hh).split((2 * units, units), 1)
        r, z = _sigmoid(first + first_h).chunk(2, 1)
        fine = _fine(z * fine + (1 - z) * _tanh(n + r * n_h))
        h = _hidden(fine)
        y[t] = h
    return torch.stack(y, 1), h


def _rnn(op: Rnn, operands: Operands, of_output: Rounding) -> tuple[torch.Tensor, ...]:
    x, w_ih, w_hh, b_ih, b_hh, h0 = with_absent(tuple(operands), 6)
    hidden = of_output if op.rectified else _hidden
    h = _start(x, h0, len(w_hh), hidden)
    read, y = F.linear(x, w_ih, b_ih).unbind(1), [h] * x.shape[1]
    for t in steps_of(len(read), reverse=op.reverse):
        h = read[t] + F.linear(h, w_hh, b_hh)
        h = hidden(torch.relu(h) if op.rectified else _tanh(h))
        y[t] = h
    return (torch.stack(y, 1),)


def _start(x: torch.Tensor, state: torch.Tensor | None, width: int, rounding: Rounding) -> torch.Tensor:
    """(N, width): the initial state, for every sample alike where it has one row."""
    return x.new_zeros(len(x), width) if state is None else rounding(state.expand(len(x), -1))


def _sigmoid(x: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = _Curve.apply(x, "sigmoid", "even")
    return made


def _tanh(x: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = _Curve.apply(x, "tanh", "even")
    return made


def _hidden(x: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = _Round.apply(x, _PER_CODE, 8)
    return made


def _cell(x: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = _Round.apply(x, round(1 / CELL.scale), 16)
    return made


def _fine(x: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = _Round.apply(x, round(1 / FINE_HIDDEN.scale), 16)
    return made


class _Round(torch.autograd.Function):
    """x in so many units of one, of so many bits; ties go up."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, units: int, bits: int) -> torch.Tensor:
        counted = x.float() * units
        rounded = (counted + 0.5).floor_().clamp_(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        # one unit is how far the largest of all values, 1, lies from the highest code
        ctx.save_for_backward((counted - rounded).abs_() <= 1)
        return rounded.div_(units)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


class _Curve(torch.autograd.Function):
    """The table of sigmoid or tanh, at the entry next to x."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, curve: Literal["sigmoid", "tanh"], ties: Literal["even", "up"]
    ) -> torch.Tensor:
        ctx.is_sigmoid = curve == "sigmoid"
        entry = x.float() * _PER_UNIT
        entry = (entry + 0.5).floor_() if ties == "up" else entry.round_()
        entry = entry.clamp_(LEAST, MOST).div_(_PER_UNIT)
        made = entry.sigmoid_() if ctx.is_sigmoid else entry.tanh_()
        made = made.mul_(ONE).round_().clamp_(max=ONE - 1).div_(ONE)
        ctx.save_for_backward(made)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (made,) = ctx.saved_tensors
        slope = made * (1 - made) if ctx.is_sigmoid else 1 - made * made
        return slope.mul_(gradients[0]), None, None
