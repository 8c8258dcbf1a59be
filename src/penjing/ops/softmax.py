"""Softmax along one axis:  y = exp(x) / (sum of exp(x)).  Outputs lie in 0..1: codes with scale 1/256, zero point 0.

In integers, along the last physical axis, in this order:

    d   = (largest q_x) - q_x                                   0 .. 255
    e   = table[d],   table[d] = rne(2^15 * exp(-s_x * d))      built by the compressor
    sum = sum of e                                              int32: at most 65535 elements
    y   = rne(min(float32(e) * 256 / float32(sum), 255))        one exact product, one IEEE division
"""

from __future__ import annotations  # numpy.random is slow to load, and only samples need it

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import round_clamped
from penjing.ir.graph import Node
from penjing.ir.types import DType, Quant, Type, is_batch
from penjing.ops.coupling import Coupling, kept_axes
from penjing.ops.integer_samples import LENGTHS, codes
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import IntegerOperator, Operator, Param, QuantRule, Sample, expect
from penjing.ops.table import QTable
from penjing.ops.torch_call import Imported, TorchCall

ONE = 2**15  # the largest table entry, exp(0)
MAX_LENGTH = 2**16 - 1  # elements whose sum, each at most ONE, fits into int32
CODES = Quant((1 / 256,))


@dataclass(frozen=True)
class Softmax(Operator):
    """Input of rank n, output of the same shape; `axis` is not the batch axis 0."""

    name = "softmax"
    torch = ("aten.softmax.int", "aten._softmax.default")
    onnx = ("Softmax",)
    quant_rule = QuantRule.FIXED

    axis: int

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        x, dtype = call.ref("self"), call.arguments.get("dtype")
        axis = call.axis("dim", x.type.rank)
        call.require(axis != 0, f"dim = {call.integer('dim')}, which runs over the batch,")
        call.require(str(dtype) in ("None", "torch.float32"), f"dtype = {dtype}")
        return Imported(cls(axis), (x.name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        x = call.activation(0)
        axis = call.axis(call.integer("axis", -1 if call.opset >= 13 else 1), x.type.rank)
        # before opset 13 all axes from this one on are one
        call.require(call.opset >= 13 or set(x.type.bounds[axis + 1 :]) <= {1}, f"axis = {axis}, before the last,")
        call.require(axis != 0, "axis 0, the batch,")
        return Imported(cls(axis), (x.name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x = inputs[0]
        expect(1 <= self.axis < x.rank, f"softmax along axis {self.axis} of rank {x.rank}")
        _check_length(x, self.axis)
        return (Type(x.shape),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        e = np.exp(inputs[0] - inputs[0].max(axis=self.axis, keepdims=True))
        return (e / e.sum(axis=self.axis, keepdims=True, dtype=np.float32),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.nn.functional.softmax(inputs[0], self.axis)

    def to_onnx(self, form: OnnxForm) -> None:
        form.result("Softmax", form.input(0), axis=self.axis)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x = inputs[0]
        assert x is not None
        return Coupling(kept_axes(x, outputs[0], [axis for axis in range(1, x.rank) if axis != self.axis]))

    def fixed_range(self) -> tuple[float, float]:
        return 0.0, 255 / 256

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        order = lowering.order(value)
        if order[-1] != self.axis:
            order = (*(axis for axis in order if axis != self.axis), self.axis)
        table = lowering.constant(f"{node.output}.exp", exp_table(lowering.quant(value)))
        inputs = (lowering.placed(value, order), table)
        target = lowering.quant(epilogue.output)
        if target == CODES and lowering.clamp_codes(epilogue) == (0, 255):
            lowering.finish(epilogue, QSoftmax(), inputs, order)
            return
        y = lowering.emit(QSoftmax(), inputs, f"{node.output}.softmax", CODES)
        codes_ = lowering.table(
            f"{node.output}.codes", CODES, target, lambda real: np.clip(real, epilogue.low, epilogue.high)
        )
        lowering.finish(epilogue, QTable(), (y, codes_), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.random.default_rng(29).normal(size=(2, 3, 4, 5)).astype(np.float32)
        for axis in (1, 2, 3):
            yield Sample(cls(axis), (x * np.float32(3),))
        yield Sample(cls(1), (x[:, :, 0, 0] * np.float32(50),))


def exp_table(source: Quant) -> np.ndarray:
    """s32 (256): rne(2^15 * exp(-scale * d)) for the distance d of a code from the largest, computed in float64."""
    distance = np.arange(256, dtype=np.float64)
    table: np.ndarray = np.rint(ONE * np.exp(-float(source.scale) * distance)).astype(np.int32)
    return table


def _check_length(x: Type, axis: int) -> None:
    expect(not is_batch(x.shape[axis]), "a softmax along the batch")
    expect(1 <= x.bounds[axis] <= MAX_LENGTH, f"a softmax along {x.bounds[axis]} elements; at most {MAX_LENGTH} fit")


@dataclass(frozen=True)
class QSoftmax(IntegerOperator):
    """x u8 (..., L), table s32 (256) with entries 0..2^15, the first positive; output u8 of x's shape, scale 1/256."""

    name = "q_softmax"
    in_place = True

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, table = inputs
        expect((x.dtype, table.dtype) == (DType.U8, DType.S32), "q_softmax takes u8 and a table of s32")
        expect(x.rank >= 1 and table.bounds == (256,), f"q_softmax with a table of shape {table.bounds}")
        _check_length(x, x.rank - 1)
        return (Type(x.shape, DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, table = inputs
        e = table[x.max(axis=-1, keepdims=True) - x]
        total = e.sum(axis=-1, keepdims=True, dtype=np.int32).astype(np.float32)
        return (round_clamped(e.astype(np.float32) * np.float32(256) / total, 0),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        length = inputs[0].bounds[-1]
        return {"rows": inputs[0].elements // length, "length": length}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(30)
        for i, n in enumerate(LENGTHS):
            table = exp_table(Quant(((0.002, 0.05, 0.7)[i % 3],)))
            yield Sample(cls(), (codes(rng, (3, n)), table), constant=(1,))
        yield _ties(rng, 170, 3, 2, 1)  # quotients of exactly 1.5 and 0.5
        yield _ties(rng, 1, 203, 483, 7)  # of exactly 14.5, which 203 * (256 / sum) in float32 is not
        # so steep a table that only the largest count, on a row of zeros too
        steep = np.vstack([np.zeros((1, 9), np.uint8), codes(rng, (1, 9))])
        yield Sample(cls(), (steep, exp_table(Quant((12.0,)))), constant=(1,))
        yield Sample(cls(), (codes(rng, (2, 3, 10)), exp_table(Quant((0.1,)))), constant=(1,))
        yield Sample(cls(), (np.full((1, MAX_LENGTH), 7, np.uint8), exp_table(Quant((0.1,)))), constant=(1,))


def _ties(rng: np.random.Generator, n: int, large: int, m: int, small: int) -> Sample:
    """n codes whose table entry is `large` and m whose is `small`, in random order."""
    table = np.full(256, small, np.int32)
    table[0] = large
    x = rng.permutation(np.r_[np.full(n, 9), np.full(m, 8)]).astype(np.uint8).reshape(1, n + m)
    return Sample(QSoftmax(), (x, table), constant=(1,))
