"""What recurrent layers share: the tables of their gates, fixed codes, and how they become integer operators.

A layer reads x (N, T, I) step by step and carries a hidden state h (N, R). Every gate has the pre-activation

    w_ih x_t + b_ih + w_hh h_(t-1) + b_hh

In integers it is counted in units of 1/128 and saturates at -8 and 8, where sigmoid and tanh are flat:

    acc_x = bias_ih + sum over k of w_ih[k] * (q_x[k] - zp_x)                exact in int32, proven at build time
    acc_h = bias_hh + sum over k of w_hh[k] * (q_h[k] - zp_h)
    g     = rne(clamp(float32(acc_x) * m_x + float32(acc_h) * m_h, -1024, 1023))

with m_x = s_x * s_w_ih * 128 and m_h = s_h * s_w_hh * 128, so that sigmoid and tanh are tables of 2048 entries. A
hidden state in -1..1 has fixed codes: scale 1/128, zero point 128. `docs/spec/arithmetic.md` derives all of it.
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from penjing.core.arithmetic import multiplier
from penjing.core.errors import QuantizationError
from penjing.ir.graph import Node
from penjing.ir.types import DType, Extent, Quant, Type, is_batch
from penjing.ops.coupling import Axis, Coupling, Tie, alone, on_input, on_output
from penjing.ops.lowering import Lowering, identity
from penjing.ops.operator import Carried, Cost, Operator, Param, QuantRule, WeightInput, expect
from penjing.ops.sigmoid import logistic

UNIT = Quant((1 / 128,))  # of pre-activations
HIDDEN = Quant((1 / 128,), 128)
LEAST, MOST = -1024, 1023  # pre-activations
ENTRIES = MOST - LEAST + 1
ONE = 2**15  # what sigmoid and tanh count in
BLOCK = 16  # steps whose input is multiplied at once: PJ_STEPS_AT_ONCE of the kernels


def sigmoid_table() -> np.ndarray:
    """s16 (2048): rne(2^15 * sigmoid(g / 128)) for g = -1024, ..., 1023; computed in float64."""
    return _table(logistic(_arguments()))


def tanh_table() -> np.ndarray:
    """s16 (2048): rne(2^15 * tanh(g / 128)), at most 32767."""
    return _table(np.tanh(_arguments()))


def _arguments() -> np.ndarray:
    arguments: np.ndarray = np.arange(LEAST, MOST + 1, dtype=np.float64) / 128
    return arguments


def _table(real: np.ndarray) -> np.ndarray:
    table: np.ndarray = np.minimum(np.rint(ONE * real), ONE - 1).astype(np.int16)
    return table


class Recurrent(Operator):
    """Base of the recurrent layers: inputs x (N, T, I), w_ih (G * H, I), w_hh (G * H, R), b_ih and b_hh (G * H), ...

    One layer in one direction; `reverse` reads the last step first. The steps of y are those of x.
    """

    quant_rule = QuantRule.FIXED
    recurrent_weights: ClassVar[tuple[WeightInput, ...]] = (WeightInput(1, 3), WeightInput(2, 4, of_output=True))

    reverse: bool
    gates: ClassVar[int]
    carried: ClassVar[tuple[Carried, ...]]

    def weight_operands(self, *inputs: Any) -> np.ndarray | None:
        """Of w_ih alone."""
        x: np.ndarray = inputs[0]
        return x.reshape(1, -1, x.shape[-1])

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        """Features of x go with columns of w_ih; a hidden unit with all its gates and what reads it."""
        x, w_hh = inputs[0], inputs[2]
        assert x is not None and w_hh is not None
        features = alone(x.bounds[2])
        read = (on_input(0, 2, features), on_input(1, 1, features))
        units = np.tile(alone(w_hh.bounds[0] // self.gates), self.gates)
        rows = [on_input(place, 0, units) for place in (1, 2, 3, 4) if given(inputs, place)]
        return Coupling((read, *self._units(rows, inputs, outputs)))

    def _units(self, rows: list[Axis], inputs: Sequence[Type | None], outputs: Sequence[Type]) -> tuple[Tie, ...]:
        """Ties of hidden units, `rows` being those of their gates: all their axes in weights, states and outputs."""
        units = alone(outputs[0].bounds[2])
        states = [on_input(state.place, 1, units) for state in self.carried if given(inputs, state.place)]
        made = [on_output(y.rank - 1, units, place) for place, y in enumerate(outputs)]
        return ((*rows, on_input(2, 1, units), *states, *made),)

    def fixed_range(self) -> tuple[float, float]:
        return -1.0, 127 / 128

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        x, weights = inputs[0], [t for t in inputs[1:] if t.rank == 2][: 2 + int(getattr(self, "projected", False))]
        macs = x.bounds[0] * x.bounds[1] * sum(w.elements for w in weights)
        return Cost(macs, sum(t.nbytes for t in (*inputs, *outputs)))


def hidden_units(inputs: Sequence[Type], gates: int) -> tuple[int, int]:
    """(H, R) of a layer with inputs x, w_ih and w_hh; checks that they fit."""
    x, w_ih, w_hh = inputs[:3]
    expect(x.rank == 3, f"a recurrent layer reads (batch, steps, features), not rank {x.rank}")
    expect(not is_batch(x.shape[1]), "a recurrent layer over the batch")
    expect(w_ih.rank == 2 and w_hh.rank == 2, f"weights of rank {w_ih.rank} and {w_hh.rank}, not 2")
    expect(x.bounds[2] == w_ih.bounds[1], f"{x.bounds[2]} features, but the weight has {w_ih.bounds[1]}")
    rows = w_ih.bounds[0]
    expect(rows % gates == 0 and rows == w_hh.bounds[0], f"weights of {rows} and {w_hh.bounds[0]} rows")
    return rows // gates, w_hh.bounds[1]


def check_biases(inputs: Sequence[Type], rows: int) -> None:
    """Biases are the inputs of rank 1."""
    biases = [t.bounds for t in inputs if t.rank == 1]
    expect(len(biases) <= 2 and all(b == (rows,) for b in biases), f"biases of {biases} for {rows} rows")


def check_state(state: Type, batch: Extent, width: int, what: str) -> None:
    """A state is (N, width), or (1, width) for all samples alike."""
    fits = state.rank == 2 and state.bounds[1] == width and state.shape[0] in (batch, 1)
    expect(fits, f"{what} of {state.bounds} for {width} units")


def fine_outputs(state: Type | None, batch: Extent, units: int) -> tuple[Type, ...]:
    """The last state in 16 bits, where the first is given so."""
    given = state is not None and state.dtype is DType.S16
    return (Type((batch, units), DType.S16),) if given else ()


def given(inputs: Sequence[Type | None], place: int) -> bool:
    """Whether there is an input at `place`."""
    return place < len(inputs) and inputs[place] is not None


def with_absent(inputs: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """`count` inputs, None for those at the end that are not given."""
    return inputs + (None,) * (count - len(inputs))


def steps_of(steps: int, *, reverse: bool) -> range:
    """The order in which steps are computed."""
    return range(steps - 1, -1, -1) if reverse else range(steps)


def torch_weights(x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> list[Any]:
    """Weights and biases as torch's own layers take them: all four, zeros for absent biases."""
    zeros = x.new_zeros(len(w_hh))
    return [w_ih, w_hh, zeros if b_ih is None else b_ih, zeros if b_hh is None else b_hh]


def state_or_zeros(state: np.ndarray | None, batch: int, width: int, zero: int, dtype: type[np.generic]) -> np.ndarray:
    """(batch, width): the initial state, for every sample alike where it has one row."""
    if state is None:
        return np.full((batch, width), zero, dtype)
    return np.array(np.broadcast_to(state, (batch, width)), dtype)


def dot(x: np.ndarray, zero: int, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """int32 accumulators of codes x (..., K) less their zero point with w s8 (O, K)."""
    # float64 holds every int32 exactly, so the product is exact in any order
    acc: np.ndarray = ((x.astype(np.float64) - zero) @ w.astype(np.float64).T).astype(np.int32) + bias
    return acc


def rounded_gate(steps: np.ndarray) -> np.ndarray:
    """Indices of tables from float32 pre-activations in units of 1/128."""
    index: np.ndarray = np.rint(np.clip(steps, np.float32(LEAST), np.float32(MOST))).astype(np.int32) - LEAST
    return index


def saturated(values: np.ndarray, bits: int) -> np.ndarray:
    """Clamped to what so many bits hold."""
    limit = 2 ** (bits - 1)
    clamped: np.ndarray = np.clip(values, -limit, limit - 1)
    return clamped


def gate_constants(lowering: Lowering, node: Node, output: Quant, target: Quant = UNIT) -> tuple[str, ...]:
    """w_ih, bias_ih, m_ih, w_hh, bias_hh, m_hh of a quantized node in the program.

    `output` are the codes of its hidden state, `target` those that sums of products are counted in.
    """
    names: list[str] = []
    for place, source in ((1, lowering.quant(node.inputs[0])), (2, output)):
        weight = lowering.graph.constants[node.inputs[place]]
        assert weight.quant is not None
        bias = node.inputs[place + 2] if place + 2 < len(node.inputs) else ""
        known = lowering.graph.constants[bias].array if bias else np.zeros(weight.array.shape[0], np.int32)
        m = multiplier(source.scale, weight.quant.scale_array(), target.scale)
        name = node.inputs[place]
        names += [
            lowering.constant(name, weight.array),
            lowering.constant(f"{name}.bias", known),
            lowering.constant(f"{name}.multiplier", m),
        ]
    return tuple(names)


def read_steps(lowering: Lowering, node: Node) -> str:
    """The codes of x in the order (N, T, I)."""
    return lowering.placed(node.inputs[0], identity(3))


def initial_codes(lowering: Lowering, value: str, quant: Quant) -> str:
    """The u8 codes of an initial hidden state."""
    if value not in lowering.graph.constants:
        return lowering.rescaled(lowering.placed(value, identity(2)), quant)
    return lowering.constant(f"{value}.codes", state_codes(lowering.graph.constants[value].array, quant), quant)


def state_codes(real: np.ndarray, quant: Quant, *, wide: bool = False) -> np.ndarray:
    """The nearest codes of a state that is known, u8 or s16."""
    from penjing.ops.widen import wide_codes

    if wide:
        return wide_codes(real.astype(np.float64), quant)
    steps = np.rint(real.astype(np.float64) / float(quant.scale)) + quant.zero_point
    codes: np.ndarray = np.clip(steps, 0, 255).astype(np.uint8)
    return codes


def initial_wide_codes(lowering: Lowering, value: str, quant: Quant) -> str:
    """The s16 codes of an initial state."""
    from penjing.ops.widen import QWiden, widening_table

    if value in lowering.graph.constants:
        codes = state_codes(lowering.graph.constants[value].array, quant, wide=True)
        return lowering.constant(f"{value}.codes", codes, quant)
    source = lowering.placed(value, identity(2))
    if lowering.program.types[source].dtype is DType.S16:
        if lowering.quant(value) != quant:
            raise QuantizationError(f"state %{value} is not in the 16-bit codes of its layer")
        return source
    table = lowering.constant(f"{value}.wide", widening_table(lowering.quant(value), quant))
    return lowering.emit(QWiden(), (source, table), f"{value}.s16", quant)


def gate_types(inputs: Sequence[Type], gates: int) -> tuple[int, int]:
    """(H, R) of an integer operator; checks its inputs x, w_ih, bias_ih, m_ih, w_hh, bias_hh and m_hh."""
    x, w_ih, bias_ih, m_ih, w_hh, bias_hh, m_hh = inputs
    expect(x.dtype is DType.U8, "codes are u8")
    for w, bias, m in ((w_ih, bias_ih, m_ih), (w_hh, bias_hh, m_hh)):
        expect((w.dtype, bias.dtype, m.dtype) == (DType.S8, DType.S32, DType.F32), "weights s8, bias s32, factors f32")
        expect(bias.bounds == m.bounds == w.bounds[:1], f"{bias.bounds} and {m.bounds} for {w.bounds[0]} rows")
    return hidden_units((x, w_ih, w_hh), gates)


def check_tables(*tables: Type) -> None:
    """Tables of gates are s16 (2048)."""
    expect(all((t.dtype, t.bounds) == (DType.S16, (ENTRIES,)) for t in tables), "tables are s16 (2048)")


def integer_cost(x: Type, weights: Sequence[Type], every: Sequence[Type]) -> Cost:
    """Of an integer operator that multiplies by `weights` at every step."""
    return Cost(x.bounds[0] * x.bounds[1] * sum(w.elements for w in weights), sum(t.nbytes for t in every))


def gate_scratch(inputs: Sequence[Type]) -> int:
    """Bytes for the products of a block of steps (float32), two rows of x and one of h in 16 bits."""
    _, steps, features = inputs[0].bounds
    rows, width = inputs[4].bounds
    return 4 * min(steps, BLOCK) * rows + 2 * (2 * features + width)


def gate_params(inputs: Sequence[Type], gates: int) -> dict[str, Param]:
    """The first fields of a kernel's struct."""
    n, steps, features = inputs[0].bounds
    rows, width = inputs[4].bounds
    return {"n": n, "steps": steps, "features": features, "units": rows // gates, "width": width}
