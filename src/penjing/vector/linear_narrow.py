"""Fully connected layers whose weights need 4 bits or 2: fewer bytes to wait for, decoded in registers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from penjing.ir.graph import Operation
from penjing.ir.types import DType, Type
from penjing.ops.linear import QLinear
from penjing.ops.operator import Cost, Param, Sample, expect
from penjing.vector.linear_packing import NARROW, pack_biases, pack_narrow, unpack_narrow, weights_problem
from penjing.vector.linear_samples import narrow_samples
from penjing.vector.linear_speed import is_beyond, narrow_problem
from penjing.vector.operator import Taken, VectorOperator
from penjing.vector.packing import LANES, QUAD, fill, round_up, unfolded_bias

_STRETCH = 2**12  # weights whose values are counted at once
MOST_FEATURES = 2**16  # a kernel sums differences of codes times bytes of two weights: 128 * 255 each


@dataclass(frozen=True)
class _Narrow(VectorOperator):
    """x u8 (..., K), w u8 (blocks * K4 * bits / 8, 16, 4), bias s32 (2, blocks * 16), multiplier f32 (blocks * 16)."""

    replaces = "q_linear"

    features: int
    channels: int
    x_zero: int
    y_zero: int
    qmin: int
    qmax: int
    bits: int

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        if any(constants[i] is None for i in (1, 2, 3)):
            return "its weights are not constants of the program"
        arrays = [cast(np.ndarray, constants[i]) for i in (1, 2, 3)]
        made = cls._standing(cast(QLinear, op), arrays)
        if isinstance(made, str):
            return made
        channels, features = arrays[0].shape
        rows = types[0].elements // features
        problem = narrow_problem(cast(_Narrow, made.op)._form, rows, features, channels)
        return made if problem is None else problem

    @classmethod
    def _standing(cls, linear: QLinear, arrays: Sequence[np.ndarray]) -> Taken | str:
        """This operator in the place of `linear`, whether or not it is faster there."""
        raise NotImplementedError

    @property
    def _form(self) -> str:
        """What `narrow_problem` calls it."""
        raise NotImplementedError

    @classmethod
    def _packed(cls, linear: QLinear, arrays: Sequence[np.ndarray], values: np.ndarray, bits: int, *more: Any) -> Taken:
        w, bias, m = arrays
        quant = (linear.x_zero, linear.y_zero, linear.qmin, linear.qmax)
        made = cls(w.shape[1], w.shape[0], *quant, bits, *more)
        packed = {1: pack_narrow(values, bits), 2: pack_biases(w, bias, linear.x_zero, NARROW), 3: fill(m, NARROW)}
        return Taken(made, packed)

    def _decoded(self, values: np.ndarray) -> np.ndarray:
        """s8 (O, K) from what the bits say."""
        raise NotImplementedError

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, w, bias, m = inputs
        expect(x.rank >= 1 and x.bounds[-1] == self.features, f"x (..., {x.bounds[-1]}), not (..., {self.features})")
        lanes = round_up(self.channels, NARROW)
        vectors = lanes // LANES * -(-self.features // QUAD)
        want = (
            (w, DType.U8, (vectors * self.bits // 8, LANES, QUAD)),
            (bias, DType.S32, (2, lanes)),
            (m, DType.F32, (lanes,)),
        )
        for type_, dtype, shape in want:
            expect((type_.dtype, type_.bounds) == (dtype, shape), f"{type_.dtype}{type_.bounds}, not {dtype}{shape}")
        return (Type((*x.shape[:-1], self.channels), DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, packed, bias, m = inputs
        w = self._decoded(unpack_narrow(packed, self.bits, self.channels, self.features))
        plain_bias = unfolded_bias(w, bias[0, : self.channels], self.x_zero)
        plain = QLinear(self.x_zero, self.y_zero, self.qmin, self.qmax)
        return plain.integer_reference(x, w, plain_bias, m[: self.channels])

    @classmethod
    def _standing_in(cls, samples: Iterator[Sample]) -> Iterator[Sample]:
        for sample in samples:
            x, *arrays = (cast(np.ndarray, array) for array in sample.inputs)
            made = cls._standing(cast(QLinear, sample.op), arrays)
            assert isinstance(made, Taken), made
            yield Sample(made.op, (x, *(made.constants[i] for i in (1, 2, 3))), sample.constant)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        size = {"rows": inputs[0].elements // self.features, "k": self.features, "oc": self.channels}
        return {**size, "y_zero": self.y_zero, "qmin": self.qmin, "qmax": self.qmax}

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return round_up(self.features, QUAD) if self.features % QUAD else 0

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * self.features, sum(t.nbytes for t in (*inputs, *outputs)))


def _table(w: np.ndarray, most: int) -> np.ndarray | None:
    """s8, ascending: the different values of w s8, or None where they are more than `most`.

    Stretch by stretch, as one is enough for most layers.
    """
    counts = np.zeros(256, np.int64)
    flat = w.reshape(-1).view(np.uint8)
    for start in range(0, len(flat), _STRETCH):
        counts += np.bincount(flat[start : start + _STRETCH] ^ np.uint8(128), minlength=256)
        if np.count_nonzero(counts) > most:
            return None
    return (np.flatnonzero(counts) - 128).astype(np.int8)


@dataclass(frozen=True)
class VLinearInt4(_Narrow):
    """Weights of -8..7, two in a byte."""

    name = "v_linear_int4"
    preference: ClassVar[int] = 2

    @classmethod
    def _standing(cls, linear: QLinear, arrays: Sequence[np.ndarray]) -> Taken | str:
        w = arrays[0]
        if w.min(initial=0) < -8 or w.max(initial=0) > 7:
            return f"its weights reach from {w.min()} to {w.max()}, beyond -8..7"
        if w.shape[1] > MOST_FEATURES:
            return f"sums of {w.shape[1]} products might leave 32 bits"
        if is_beyond(w.shape[1], w.shape[0]) and _table(w, 4) is not None:
            return "2 bits a weight suffice"
        problem = weights_problem(*arrays)
        return problem if problem is not None else cls._packed(linear, arrays, (w + np.int8(8)).astype(np.uint8), 4)

    @property
    def _form(self) -> str:
        return "int4"

    def _decoded(self, values: np.ndarray) -> np.ndarray:
        return values.astype(np.int8) - np.int8(8)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from cls._standing_in(narrow_samples(np.arange(-8, 8)))


@dataclass(frozen=True)
class VLinearCodebook(_Narrow):
    """Weights as indices of 4 or 2 bits into a table of up to 16 or 4 values."""

    name = "v_linear_codebook"
    preference: ClassVar[int] = 1

    table: tuple[int, ...] = ()

    @classmethod
    def _standing(cls, linear: QLinear, arrays: Sequence[np.ndarray]) -> Taken | str:
        table = _table(arrays[0], 16)
        if table is None:
            return "its weights have more than 16 different values"
        problem = weights_problem(*arrays)
        if problem is not None:
            return problem
        indices = np.searchsorted(table, arrays[0]).astype(np.uint8)
        bits = 2 if len(table) <= 4 else 4
        return cls._packed(linear, arrays, indices, bits, tuple(int(value) for value in table))

    @property
    def _form(self) -> str:
        return f"codebook, {self.bits} bits"

    def _decoded(self, values: np.ndarray) -> np.ndarray:
        decoded: np.ndarray = np.array(self._filled_table, np.int8)[values]
        return decoded

    @property
    def _filled_table(self) -> tuple[int, ...]:
        once: tuple[int, ...] = self.table + (0,) * (2**self.bits - len(self.table))
        return once * (16 // len(once))

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {**super().kernel_params(inputs, outputs), "bits": self.bits, "table": self._filled_table}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for table in (_WIDE, (-127, -3, 40, 127), (-127, 0, 127)):
            yield from cls._standing_in(narrow_samples(np.array(table)))


_WIDE = (-127, -90, -64, -63, -30, -9, -1, 0, 1, 8, 31, 60, 77, 100, 126, 127)
