"""Softmax along the last axis over the elements that a mask keeps:  y = exp(x) / (sum of exp(x) over kept), else 0.

A mask is never added. Minus infinity has no code, and the codes of a sum with a large negative number would leave none
to the scores. Instead the elements that are hidden take no part, so that their code is 0 exactly and the others are
what a softmax over them alone gives, in integers as in `softmax`:

    d = (largest kept q_x) - q_x,   e = table[d],   y = rne(min(float32(e) * 256 / float32(sum of kept e), 255))

`causal` keeps elements 0 .. i of row i. It needs no constant, which for rows of 512 would be a quarter of a megabyte.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import round_clamped
from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Node
from penjing.ir.types import DType, Quant, Type, bounds
from penjing.ops.coupling import Coupling, broadcast_axes
from penjing.ops.integer_samples import LENGTHS, codes
from penjing.ops.lowering import Epilogue, Lowering, identity
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import IntegerOperator, Operator, Param, QuantRule, Sample, expect
from penjing.ops.softmax import CODES, MAX_LENGTH, exp_table
from penjing.ops.table import QTable
from penjing.ops.torch_attention import attention
from penjing.ops.torch_call import Composed, TorchCall

_HIDDEN = -1e30  # what ONNX adds to a hidden score: its exponential is 0


@dataclass(frozen=True)
class MaskedSoftmax(Operator):
    """Inputs x (..., L, S), and a constant mask, 0 where it hides, that broadcasts to the last axes; output like x."""

    name = "masked_softmax"
    torch = ("aten.scaled_dot_product_attention.default",)
    quant_rule = QuantRule.FIXED
    parameter_inputs = (1,)

    causal: bool = False

    @classmethod
    def from_torch(cls, call: TorchCall) -> Composed:
        return attention(call)

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, *masks = inputs
        _check(x, self.causal)
        for mask in masks:
            expect(mask.rank <= x.rank, f"a mask of rank {mask.rank} for rank {x.rank}")
            last = x.shape[x.rank - mask.rank :]
            fits = all(m in (1, n) for m, n in zip(mask.shape, last, strict=True))
            expect(fits, f"a mask of shape {mask.bounds} for {bounds(x.shape)}")
        return (Type(x.shape),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x = inputs[0]
        kept = self._kept(x.shape, inputs[1] if len(inputs) > 1 else None)
        shown = np.where(kept, x, np.float32(-np.inf))
        e = np.exp(shown - shown.max(axis=-1, keepdims=True))
        return (e / e.sum(axis=-1, keepdims=True, dtype=np.float32),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x = inputs[0]
        mask = inputs[1] if len(inputs) > 1 else None
        kept = torch.from_numpy(self._kept(tuple(x.shape), None if mask is None else mask.detach().cpu().numpy()))
        return torch.softmax(x.masked_fill(~kept.to(x.device), -torch.inf), -1)

    def _kept(self, shape: tuple[int, ...], mask: np.ndarray | None) -> np.ndarray:
        """bool, of x's last axes or fewer."""
        kept = np.ones(shape[-1:], bool) if mask is None else np.asarray(mask) != 0
        return kept & np.tri(*shape[-2:], dtype=bool) if self.causal else kept

    def to_onnx(self, form: OnnxForm) -> None:
        kept = self._kept(form.type(0).bounds, form.parameter(1) if form.has(1) else None)
        hidden = form.floats("mask", np.where(kept, 0, _HIDDEN))
        form.result("Softmax", form.node("Add", form.input(0), hidden), axis=-1)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        return Coupling(broadcast_axes(inputs, outputs[0])[: max(outputs[0].rank - 3, 0)])

    def fixed_range(self) -> tuple[float, float]:
        return 0.0, 255 / 256

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value, *masks = node.inputs
        order = identity(len(lowering.shape(value)))
        inputs = [
            lowering.placed(value, order),
            lowering.constant(f"{node.output}.exp", exp_table(lowering.quant(value))),
        ]
        for name in masks:
            if name not in lowering.graph.constants:
                raise UnsupportedOp("a mask that is computed", where=str(node), hint="make it a constant")
            kept = lowering.graph.constants[name].array != 0
            x = bounds(lowering.shape(value))
            inputs.append(lowering.constant(f"{node.output}.mask", _rows(kept, x)))
        op = QMaskedSoftmax(self.causal)
        target = lowering.quant(epilogue.output)
        if target == CODES and lowering.clamp_codes(epilogue) == (0, 255):
            lowering.finish(epilogue, op, tuple(inputs), order)
            return
        y = lowering.emit(op, tuple(inputs), f"{node.output}.softmax", CODES)
        codes_ = lowering.table(
            f"{node.output}.codes", CODES, target, lambda real: np.clip(real, epilogue.low, epilogue.high)
        )
        lowering.finish(epilogue, QTable(), (y, codes_), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(80)
        x = rng.normal(size=(2, 3, 4, 5)).astype(np.float32) * np.float32(3)
        yield Sample(cls(True), (x,))
        yield Sample(cls(True), (x[:, :, :, :3],))
        for shape in ((4, 5), (5,), (3, 1, 5), (1, 3, 4, 5)):
            mask = (rng.random(size=shape) < 0.6).astype(np.float32)
            mask[..., 0] = 1
            yield Sample(cls(), (x, mask), constant=(1,))
        yield Sample(cls(True), (x[0], mask[0, :1]), constant=(1,))


def _check(x: Type, causal: bool) -> None:
    expect(x.rank >= 2 and isinstance(x.shape[-1], int), "a masked softmax along a symbolic axis has no fixed length")
    expect(1 <= x.bounds[-1] <= MAX_LENGTH, f"a softmax along {x.bounds[-1]} elements; at most {MAX_LENGTH} fit")
    rows = x.rank >= 3 and isinstance(x.shape[-2], int)
    expect(rows or not causal, "a causal mask needs rows of a fixed count, which are not the batch")


def _rows(kept: np.ndarray, x: tuple[int, ...]) -> np.ndarray:
    """u8: the mask as 1 and 0 over as few of x's last axes as it needs."""
    while kept.ndim > 1 and kept.shape[0] == 1:
        kept = kept[0]
    return np.broadcast_to(kept, x[len(x) - kept.ndim :]).astype(np.uint8)


@dataclass(frozen=True)
class QMaskedSoftmax(IntegerOperator):
    """x u8 (..., L, S), table s32 (256) as of q_softmax, [mask u8 of x's last axes, 0 where it hides]; u8 like x."""

    name = "q_masked_softmax"
    in_place = True

    causal: bool

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, table, *masks = inputs
        expect((x.dtype, table.dtype) == (DType.U8, DType.S32), "q_masked_softmax takes u8 and a table of s32")
        expect(table.bounds == (256,), f"q_masked_softmax with a table of shape {table.bounds}")
        _check(x, self.causal)
        for mask in masks:
            fits = mask.dtype is DType.U8 and 1 <= mask.rank <= x.rank and mask.bounds == x.bounds[x.rank - mask.rank :]
            expect(fits, f"q_masked_softmax of {x.bounds} with a mask of shape {mask.bounds}")
        return (Type(x.shape, DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, table = inputs[:2]
        kept = np.ones(x.shape, bool) if len(inputs) == 2 else np.broadcast_to(inputs[2] != 0, x.shape)
        if self.causal:
            kept = kept & np.tri(*x.shape[-2:], dtype=bool)
        top = np.where(kept, x, 0).max(axis=-1, keepdims=True)
        e = np.where(kept, table[np.where(kept, top - x, 0)], 0)
        total = np.maximum(e.sum(axis=-1, keepdims=True, dtype=np.int32), 1).astype(np.float32)  # none kept: all 0
        return (round_clamped(e.astype(np.float32) * np.float32(256) / total, 0),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        x = inputs[0].bounds
        return {
            **{"rows": inputs[0].elements // x[-1], "length": x[-1]},
            "causal_rows": x[-2] if self.causal else 0,
            "mask_rows": inputs[2].elements // x[-1] if len(inputs) > 2 else 0,
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(81)
        for i, n in enumerate(LENGTHS):
            table = exp_table(Quant(((0.002, 0.05, 0.7)[i % 3],)))
            yield Sample(cls(True), (codes(rng, (1 + i % 2, 2 + i % 5, n)), table), constant=(1,))
            mask = (rng.random(size=(2, n)) < 0.5).astype(np.uint8)
            yield Sample(cls(False), (codes(rng, (3, 2, n)), table, mask), constant=(1, 2))
        # square, taller and wider rows; masks of one row, of planes, hiding the largest or all
        for shape in ((2, 3, 9, 9), (1, 2, 9, 4), (1, 2, 4, 9)):
            yield Sample(cls(True), (codes(rng, shape), table), constant=(1,))
            for rank in (1, 2, 3):
                mask = (rng.random(size=shape[-rank:]) < 0.6).astype(np.uint8)
                yield Sample(cls(rank == 2), (codes(rng, shape), table, mask), constant=(1, 2))
        # what is hidden is far larger than what is kept, and its steps would leave the table
        steep, hide = np.tile(np.array([255, 3, 4], np.uint8), (1, 2, 5)), np.tile(np.array([0, 1, 1], np.uint8), 5)
        yield Sample(cls(False), (steep, exp_table(Quant((1.5,))), hide), constant=(1, 2))
        yield _ties(rng)


def _ties(rng: np.random.Generator) -> Sample:
    """Quotients of exactly 14.5, which 203 * (256 / sum) in float32 is not, beside elements that are hidden."""
    table = np.full(256, 7, np.int32)
    table[0] = 203
    x = rng.permutation(np.r_[np.full(1, 9), np.full(483, 8), np.full(100, 200)]).astype(np.uint8)
    return Sample(QMaskedSoftmax(False), (x.reshape(1, -1), table, (x < 100).astype(np.uint8)), constant=(1, 2))
