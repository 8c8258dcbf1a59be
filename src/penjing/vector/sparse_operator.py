"""What the sparse operators share: the meaning of q_conv2d or q_linear, on lists of the weights that are not zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np

from penjing.ir.graph import Operation
from penjing.ir.types import DType, Type
from penjing.ops.conv2d import QConv2d
from penjing.ops.linear import QLinear
from penjing.ops.operator import Cost, IntegerOperator, Param, expect
from penjing.ops.windows import Pads, Pair
from penjing.vector.operator import Taken, VectorOperator
from penjing.vector.packing import LANES, blocks, conversion_problem, fill, folded_bias, unfolded_bias
from penjing.vector.rectified import plain_bias, started_bias
from penjing.vector.sparse_cost import too_dense
from penjing.vector.sparse_staging import Staging


@dataclass(frozen=True)
class SparseOperator(VectorOperator):
    """x u8 (N, H, W, C) or (..., K), lists s32, bias s32 and multiplier f32 (blocks * 16), [residual].

    `kernel` is (0, 0) in the place of q_linear. With `rectified`, sums start as in `rectified.started_bias`.
    """

    replaces: ClassVar[str] = "q_conv2d"
    also_replaces: ClassVar[tuple[str, ...]] = ("q_linear",)
    splits: ClassVar[bool] = True

    vector: ClassVar[int]  # codes that the kernel reads at once

    kernel: Pair
    stride: Pair
    padding: Pads
    dilation: Pair
    channels: int
    x_zero: int
    y_zero: int
    qmin: int
    qmax: int
    residual_scale: float = 0.0
    residual_zero: int = 0
    rectified: bool = False

    @classmethod
    def problem_of(cls, w: np.ndarray, staging: Staging) -> str | None:
        """Why other kernels are faster on w s8 (O, KH * KW * C), of which enough weights are zero to try."""
        raise NotImplementedError

    def with_lists(self, w: np.ndarray, staging: Staging) -> tuple[SparseOperator, np.ndarray]:
        """This operator and the lists of w s8 (O, KH * KW * C)."""
        raise NotImplementedError

    @classmethod
    def weights_of(cls, lists: np.ndarray, outputs: int, staging: Staging) -> np.ndarray:
        """The inverse: s8 (O, KH * KW * C)."""
        raise NotImplementedError

    @classmethod
    def take(cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]) -> Taken | str:
        if any(constants[i] is None for i in (1, 2, 3)):
            return "its weights are not constants of the program"
        w = cast(np.ndarray, constants[1])
        if isinstance(op, QConv2d) and op.groups > 1:
            return "it has groups"
        problem = too_dense(w)  # before anything that costs more than to count
        if problem is None:
            problem = cls.problem_of(w.reshape(len(w), -1), cls._in_place_of(op, w)._staging(types[0]))
        return problem or cls.take_however_slow(op, types, constants)

    @classmethod
    def take_however_slow(
        cls, op: Operation, types: Sequence[Type], constants: Sequence[np.ndarray | None]
    ) -> Taken | str:
        """As `take`, for constant weights and one group, whatever the weights are."""
        w, bias, m = (cast(np.ndarray, constants[i]) for i in (1, 2, 3))
        made = cls._in_place_of(op, w)
        problem = conversion_problem(w, bias, m, made.residual_scale)
        if problem is not None:
            return problem
        started, rectified = started_bias(
            w, folded_bias(w, bias, made.x_zero), m, (made.y_zero, made.qmin, made.qmax), residual=len(types) > 4
        )
        made, lists = replace(made, rectified=rectified).with_lists(w.reshape(len(w), -1), made._staging(types[0]))
        return Taken(made, {1: lists, 2: fill(started, LANES), 3: fill(m, LANES)})

    @classmethod
    def _in_place_of(cls, op: Operation, w: np.ndarray) -> SparseOperator:
        if isinstance(op, QLinear):
            quant = (op.x_zero, op.y_zero, op.qmin, op.qmax)
            return cls((0, 0), (1, 1), (0, 0, 0, 0), (1, 1), len(w), *quant)
        conv = cast(QConv2d, op)
        geometry = ((w.shape[1], w.shape[2]), conv.stride, conv.padding, conv.dilation, len(w))
        quant = (conv.x_zero, conv.y_zero, conv.qmin, conv.qmax)
        return cls(*geometry, *quant, conv.residual_scale, conv.residual_zero)

    @property
    def _plain(self) -> IntegerOperator:
        quant = (self.x_zero, self.y_zero, self.qmin, self.qmax)
        if self.kernel == (0, 0):
            return QLinear(*quant)
        return QConv2d(self.stride, self.padding, self.dilation, 1, *quant, self.residual_scale, self.residual_zero)

    def _plain_weight(self, x: tuple[int, ...]) -> tuple[int, ...]:
        window = self.kernel if self.kernel != (0, 0) else ()
        return (self.channels, *window, x[-1])

    def _plain_types(self, x: Type) -> tuple[Type, Type, Type]:
        lanes = (self.channels,)
        return Type(self._plain_weight(x.bounds), DType.S8), Type(lanes, DType.S32), Type(lanes, DType.F32)

    def _staging(self, x: Type) -> Staging:
        if self.kernel == (0, 0):
            rows = x.elements // x.bounds[-1]
            return Staging.of((1, 1, rows, x.bounds[-1]), (1, rows), (1, 1), (1, 1), (0,) * 4, (1, 1), self.vector)
        (y,) = self._plain.infer(x, *self._plain_types(x))
        size = (y.bounds[1], y.bounds[2])
        return Staging.of(x.bounds, size, self.kernel, self.stride, self.padding, self.dilation, self.vector)

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, lists, bias, m = inputs[:4]
        expect((lists.rank, lists.dtype) == (1, DType.S32), f"{self.name} needs lists s32 of rank 1")
        lanes = (blocks(self.channels) * LANES,)
        expect((bias.bounds, bias.dtype) == (lanes, DType.S32), f"bias must be s32 {lanes}")
        expect((m.bounds, m.dtype) == (lanes, DType.F32), f"multiplier must be f32 {lanes}")
        return self._plain.infer(x, *self._plain_types(x), *inputs[4:])

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, lists, bias, m = inputs[:4]
        w = self.weights_of(lists, self.channels, self._staging(Type(x.shape, DType.U8)))
        bias = unfolded_bias(w, plain_bias(bias[: self.channels], rectified=self.rectified), self.x_zero)
        w = w.reshape(self._plain_weight(x.shape))
        return self._plain.integer_reference(x, w, bias, m[: self.channels], *inputs[4:])

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {
            **self._staging(inputs[0]).kernel_params(self.channels),
            **{"x_zero": self.x_zero, "y_zero": self.y_zero, "qmin": self.qmin, "qmax": self.qmax},
            "rectified": int(self.rectified),
            "has_residual": int(len(inputs) > 4),
            "residual_zero": self.residual_zero,
            "residual_scale": self.residual_scale,
        }

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return 2 * self._staging(inputs[0]).staged_codes  # 16 bits a code, as AVX2 stages them

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        (x, *_), (y, *_) = inputs, outputs
        per_output = int(np.prod(self._plain_weight(x.bounds)[1:]))
        return Cost(y.elements * per_output, sum(t.nbytes for t in (*inputs, *outputs)))
