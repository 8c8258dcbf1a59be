"""Operators refuse inputs that make no sense, and keep a symbolic batch."""

import pytest

from penjing.core.errors import InvalidGraph
from penjing.ir.graph import Operation
from penjing.ir.types import Dim, DType, Shape, Type
from penjing.ops.adaptive_pool import AdaptiveAvgPool, AdaptiveMaxPool, QAdaptiveAvgPool2d, QAdaptiveMaxPool2d
from penjing.ops.advance import Advance
from penjing.ops.append import Append
from penjing.ops.attend import Attend, QAttend
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.gelu import Gelu
from penjing.ops.layer_norm import LayerNorm, QLayerNorm
from penjing.ops.matmul import MAX_K, Matmul, QMatmul
from penjing.ops.mean import Mean, QMean
from penjing.ops.mul import Mul, QMul
from penjing.ops.pool1d import AvgPool1d, MaxPool1d
from penjing.ops.prelu import Prelu
from penjing.ops.rms_norm import QRmsNorm, RmsNorm
from penjing.ops.rotary import Rotary
from penjing.ops.softmax import MAX_LENGTH, QSoftmax, Softmax
from penjing.ops.take_steps import TakeSteps

BATCH = Dim("batch", 8)
LENGTH = Dim("length", 512)


def floats(*shapes: Shape) -> tuple[Type, ...]:
    return tuple(Type(shape) for shape in shapes)


def codes(*shapes: Shape) -> tuple[Type, ...]:
    return tuple(Type(shape, DType.U8) for shape in shapes)


POSITION = Type((1, 1), DType.S32)
TABLE = Type((256,), DType.S32)

REFUSED: list[tuple[Operation, tuple[Type, ...], str]] = [
    (Gelu("fast"), floats((1, 2)), "fast"),
    (Prelu(), floats((1, 3, 4, 4), (2,)), "3 channels"),
    (Prelu(), floats((1, 3, 4, 4), (3, 1)), "slopes of shape"),
    (BatchNorm(), floats((3,), (3,), (3,)), "rank"),
    (BatchNorm(), floats((1, 3, 2, 2, 2), (3,), (3,)), "rank"),
    (BatchNorm(), floats((1, 3, 4), (3,), (4,)), "3 channels"),
    (Mul(), floats((1, 3, 4), (2, 1)), "broadcast"),
    (Mean(()), floats((1, 3)), "ascending"),
    (Mean((2, 1)), floats((1, 3, 4)), "ascending"),
    (Mean((1, 1)), floats((1, 3, 4)), "ascending"),
    (Mean((0, 1)), floats((1, 3, 4)), "mean over"),
    (Mean((3,)), floats((1, 3, 4)), "mean over"),
    (Mean((1,)), floats((1, BATCH, 4)), "the batch"),
    (Mean((1,)), floats((1, 0)), "nothing"),
    (Mean((1, 2)), floats((1, 4096, 4096)), "overflow"),
    (Softmax(0), floats((1, 3)), "axis 0"),
    (Softmax(2), floats((1, 3)), "axis 2"),
    (Softmax(1), floats((1, BATCH)), "the batch"),
    (Softmax(1), floats((1, MAX_LENGTH + 1)), "65535"),
    (AdaptiveAvgPool((2,)), floats((1, 3, 4, 4)), "rank 4"),
    (AdaptiveMaxPool((0, 2)), floats((1, 3, 4, 4)), "pool to"),
    (AdaptiveMaxPool((2,)), floats((1, 3, LENGTH)), "no fixed windows"),
    (MaxPool1d(2, 2), floats((1, 3, 4, 4)), "rank 3"),
    (AvgPool1d(9, 2), floats((1, 3, 4)), "does not fit"),
    (QMul(0, 0, 1.0, 0, 0, 255), floats((1, 2), (1, 2)), "u8"),
    (QMean(1, 2, False, 0, 1.0, 0, 0, 255), codes((1, 2)), "q_mean over"),
    (QMean(1, 1, False, 0, 1.0, 0, 0, 255), floats((1, 2)), "u8"),
    (QSoftmax(), (*codes((1, 2)), Type((255,), DType.S32)), "table"),
    (QSoftmax(), (*codes((1, 2)), Type((256,), DType.U8)), "s32"),
    (QAdaptiveMaxPool2d((1, 1)), codes((1, 2, 3)), "rank 4"),
    (QAdaptiveAvgPool2d((1, 1), 0, 1.0, 0, 0, 255), codes((1, 4096, 4096, 1)), "overflow"),
    (Attend(), floats((1, 3, 4), (1, 3, 4)), "4 scores for 3 values"),
    (Attend(), floats((1, 3, 4), (4, 4)), "rank 3 and values of rank 2"),
    (Attend(), floats((1, 2, 3, 4), (1, 3, 4, 4)), "scores of"),
    (Attend(), floats((1, 1, 3, 4), (1, 2, 4, 4)), "scores of"),
    (Attend(), floats((1, 3, 4), (1, 4, 4), (2, 4)), "mask of shape"),
    (Attend(), floats((1, 3, BATCH), (1, BATCH, 4)), "the batch"),
    (Attend(True), floats((1, BATCH, 4), (1, 4, 4)), "the batch"),
    (Attend(), floats((1, 1, 2**15 + 129), (1, 2**15 + 129, 1)), "32896"),
    (QAttend(False, 0, 1.0, 0, 0, 255), (*codes((1, 3, 4), (1, 2, 4)), Type((255,), DType.S32)), "table"),
    (QAttend(False, 0, 1.0, 0, 0, 255), (*codes((1, 3, 4), (1, 2, 4)), TABLE, *codes((1, 4))), "mask"),
    (Matmul(), floats((1, 3, 4), (3, 4)), "4 columns with 3 rows"),
    (Matmul(), floats((1, 3, 4), (4,)), "ranks 3 and 1"),
    (Matmul(), floats((1, 3, 4, 2), (1, 2, 2, 2)), "broadcast"),
    (Matmul(), floats((1, 3, MAX_K + 1), (1, MAX_K + 1, 1)), "33025"),
    (Matmul(), floats((1, 3, BATCH), (1, BATCH, 1)), "the batch"),
    (QMatmul(1.0, 0, 0, 0, 0, 255), codes((1, 3, 4), (3, 4)), "ranks 3 and 2"),
    (QMatmul(1.0, 0, 0, 0, 0, 255), codes((1, 3, 4), (1, 4, 3)), "4 and 3"),
    (Matmul(), (*floats((1, 3, 4), (1, 4, 2)), POSITION), "3 rows in a memory of 2"),
    (Matmul(), (*floats((1, 1, 4), (1, 4, 2)), *floats((1, 1))), "position of f32"),
    (Attend(), (*floats((1, 2, 4), (1, 4, 2)), POSITION), "a position of 2 rows"),
    (Attend(True), (*floats((1, 5, 4), (1, 4, 2)), POSITION), "5 rows that keep 4"),
    (Rotary(1), floats((1, 3, 4), (2, 4), (2, 4)), "angles of"),
    (Rotary(1), (*floats((1, 3, 4), (2, 4), (2, 4)), POSITION), "angles of"),
    (Rotary(1), floats((1, 3, 5), (3, 5), (3, 5)), "no pairs"),
    (Rotary(2), floats((1, 3, 4), (4, 4), (4, 4)), "along axis 2 of rank 3"),
    (Advance(3, 2), (POSITION,), "steps of 3 up to 2"),
    (Advance(1, 2), (Type((2, 1), DType.S32),), "position of s32"),
    (Append(1), (*floats((1, 2, 4), (1, 3, 4)), POSITION), "appended along axis 1"),
    (Append(1), (*floats((1, 2, 4), (1, 1, 3)), POSITION), "appended along axis 1"),
    (TakeSteps(1, 3), (*floats((1, 2, 4)), POSITION), "3 steps of 2"),
    (TakeSteps(1, 1), (*floats((2, 2, 4)), POSITION), "steps along axis 1 of"),
    (RmsNorm(2), floats((1, 3)), "last 2 axes"),
    (QRmsNorm(1, 30, 0, 0, 0, 0, 255), (*codes((1, 2**18)), *floats((2**18,))), "radicand"),
    (LayerNorm(0), floats((1, 3)), "last 0 axes"),
    (LayerNorm(2), floats((1, 3)), "last 2 axes"),
    (LayerNorm(1, -1e-5), floats((1, 3)), "eps"),
    (LayerNorm(2), floats((1, 3, 4), (4,)), "parameters of shape"),
    (LayerNorm(1), floats((1, LENGTH)), "symbolic"),
    (LayerNorm(2), floats((1, 4096, 4096)), "overflow"),
    (QLayerNorm(1, 0, 1, 0, 0, 255), (*codes((1, 3)), *floats((3,), (4,))), "q_layer_norm of 3"),
    (QLayerNorm(1, 0, 2**62 - 1, 0, 0, 255), (*codes((1, 3)), *floats((3,), (3,))), "radicand"),
    (QLayerNorm(1, 30, 0, 0, 0, 255), (*codes((1, 60000)), *floats((60000,), (60000,))), "radicand"),
]


@pytest.mark.parametrize(("op", "inputs", "reason"), REFUSED, ids=[f"{i}-{r[0].name}" for i, r in enumerate(REFUSED)])
def test_inputs_that_do_not_fit_are_refused(op: Operation, inputs: tuple[Type, ...], reason: str) -> None:
    with pytest.raises(InvalidGraph, match=reason):
        op.infer(*inputs)


@pytest.mark.parametrize(
    ("op", "inputs", "shape"),
    [
        (Prelu(), floats((BATCH, 3, 4, 4), (3,)), (BATCH, 3, 4, 4)),
        (BatchNorm(), floats((BATCH, 3), (3,), (3,)), (BATCH, 3)),
        (Mul(), floats((BATCH, 3, 4, 4), (BATCH, 3, 1, 1)), (BATCH, 3, 4, 4)),
        (Mean((2, 3)), floats((BATCH, 3, 4, 4)), (BATCH, 3)),
        (Attend(), floats((BATCH, 2, 3, 4), (BATCH, 1, 4, 5), (3, 4)), (BATCH, 2, 3, 5)),
        (Matmul(), floats((BATCH, 2, 3, 4), (BATCH, 1, 4, 5)), (BATCH, 2, 3, 5)),
        (Matmul(), floats((BATCH, 2, 3, 4), (4, 5)), (BATCH, 2, 3, 5)),
        (LayerNorm(2), floats((BATCH, 3, 4), (3, 4)), (BATCH, 3, 4)),
        (Mean((2, 3), True), floats((BATCH, 3, 4, 4)), (BATCH, 3, 1, 1)),
        (Softmax(1), floats((BATCH, 10)), (BATCH, 10)),
        (AdaptiveAvgPool((2, 3)), floats((BATCH, 3, 7, 7)), (BATCH, 3, 2, 3)),
        (AdaptiveMaxPool((2,)), floats((BATCH, 3, 7)), (BATCH, 3, 2)),
        (MaxPool1d(2, 2), floats((BATCH, 3, 7)), (BATCH, 3, 3)),
        (QMean(1, 2, False, 0, 1.0, 0, 0, 255), codes((BATCH, 4, 4, 3)), (BATCH, 3)),
        (QSoftmax(), (*codes((BATCH, 10)), TABLE), (BATCH, 10)),
        (QAdaptiveMaxPool2d((2, 3)), codes((BATCH, 7, 7, 3)), (BATCH, 2, 3, 3)),
    ],
    ids=lambda value: value.name if isinstance(value, Operation) else "",
)
def test_a_symbolic_batch_stays_symbolic(op: Operation, inputs: tuple[Type, ...], shape: Shape) -> None:
    assert [t.shape for t in op.infer(*inputs)] == [shape]
