"""The second half of attention: values weighted by a softmax of scores along the last axis, over what a mask keeps.

    y[..., i, :] = sum over j of p[i, j] * v[..., j, :],    p[i, :] = softmax of the kept x[..., i, :], and 0 elsewhere

In integers, without codes for p, which in long rows would have none but 0 and 1:

    d = (largest kept q_x of the row) - q_x                               0 .. 255
    e = table[d] where kept, else 0;   table[d] = rne(one * exp(-s_x * d))
    y = rne(clamp(float32(sum of e * (q_v - zp_v)) * r / float32(sum of e), qmin - zp_y, qmax - zp_y)) + zp_y

with r = s_v / s_y: a weighted mean, as `mean` is a plain one. `one` is the largest power of two up to 2^14 for which
one * 255 * S fits into int32, so that e has 16 bits.

A mask is never added. Minus infinity has no code, and the codes of a sum with a large negative number would leave none
to the scores. What is hidden takes no part, so that its weight is 0 exactly. `causal` keeps elements 0 .. i of row i;
it needs no constant, which for rows of 512 would be a quarter of a megabyte. With a position, row i is that of step
position + i, and keeps as many elements more: what lies behind is a memory that is not filled yet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import INT32_MAX, U8_MAX, ratio, round_clamped
from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Node
from penjing.ir.types import MAX_RANK, DType, Quant, Type, bounds, is_batch
from penjing.ops.attention_mask import HIDDEN
from penjing.ops.coupling import Coupling, alone, broadcast_axes, on_input, on_output
from penjing.ops.integer_samples import LENGTHS, codes, float32, triples
from penjing.ops.lowering import Epilogue, Lowering, identity
from penjing.ops.matmul import leading_params, transposed_last
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import Cost, IntegerOperator, Operator, Param, Sample, expect
from penjing.ops.position import check_position, first_steps, is_position
from penjing.ops.torch_attention import attention
from penjing.ops.torch_call import Composed, TorchCall

MOST, LEAST = 2**14, 2**8  # what exp(0) may be
MAX_LENGTH = INT32_MAX // (U8_MAX * LEAST)


@dataclass(frozen=True)
class Attend(Operator):
    """Scores x (..., L, S), values v (..., S, D), [a constant mask of x's last axes, 0 hides, or, where causal, a
    position (N, 1)]; output (..., L, D)."""

    name = "attend"
    torch = ("aten.scaled_dot_product_attention.default",)
    parameter_inputs = (2,)

    causal: bool = False

    @classmethod
    def from_torch(cls, call: TorchCall) -> Composed:
        return attention(call)

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, v, *masks = inputs
        _check_operands(x, v, v.shape[-2:-1], self.causal)
        for mask in _masks(masks, x, self.causal):
            expect(mask.rank <= x.rank, f"a mask of rank {mask.rank} for scores of rank {x.rank}")
            last = x.shape[x.rank - mask.rank :]
            fits = all(m in (1, n) for m, n in zip(mask.shape, last, strict=True))
            expect(fits, f"a mask of shape {mask.bounds} for scores of {x.bounds}")
        return (Type((*x.shape[:-1], v.shape[-1])),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, v = inputs[:2]
        kept = _kept(x.shape, inputs[2] if len(inputs) > 2 else None, self.causal)
        shown = np.where(kept, x, np.float32(-np.inf))
        e = np.exp(shown - shown.max(axis=-1, keepdims=True))
        return (np.matmul(e / e.sum(axis=-1, keepdims=True, dtype=np.float32), v),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x, v = inputs[:2]
        mask = inputs[2].detach().cpu().numpy() if len(inputs) > 2 else None
        hidden = torch.from_numpy(~_kept(tuple(x.shape), mask, self.causal)).to(x.device)
        return torch.softmax(x.masked_fill(hidden, -torch.inf), -1) @ v

    def to_onnx(self, form: OnnxForm) -> None:
        x = form.input(0)
        if self.causal and form.type(0).follows_length:
            raise UnsupportedOp("a causal mask of any length cannot be written as ONNX", where=str(form.source))
        if self.causal or form.has(2):
            kept = _kept(form.type(0).bounds, form.parameter(2) if form.has(2) else None, self.causal)
            x = form.node("Add", x, form.floats("mask", np.where(kept, 0, HIDDEN)))
        form.result("MatMul", form.node("Softmax", x, axis=-1), form.input(1))

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        y, features = outputs[0], alone(outputs[0].bounds[-1])
        values = (on_input(1, y.rank - 1, features), on_output(y.rank - 1, features))
        return Coupling((values, *broadcast_axes(inputs, y, range(1, y.rank - 2))))

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * inputs[0].bounds[-1], sum(t.nbytes for t in (*inputs, *outputs)))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        x, v, *masks = node.inputs
        shape = bounds(lowering.shape(x))
        order = identity(len(shape))
        values, target = lowering.quant(v), lowering.quant(epilogue.output)
        inputs = [
            lowering.placed(x, order),
            lowering.placed(v, transposed_last(len(shape))),
            lowering.constant(f"{node.output}.exp", exp_table(lowering.quant(x), shape[-1])),
        ]
        for name in masks:
            if is_position(lowering.graph.types[name]):
                inputs.append(lowering.integers(name))
                continue
            if name not in lowering.graph.constants:
                raise UnsupportedOp("a mask that is computed", where=str(node), hint="make it a constant")
            rows = _rows(lowering.graph.constants[name].array != 0, shape)
            inputs.append(lowering.constant(f"{node.output}.mask", rows))
        r = ratio(values.scale, target.scale)
        op = QAttend(self.causal, values.zero_point, r, target.zero_point, *lowering.clamp_codes(epilogue))
        lowering.finish(epilogue, op, tuple(inputs), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(80)
        x, v = (rng.normal(size=s).astype(np.float32) for s in ((2, 3, 4, 5), (2, 3, 5, 6)))
        x = x * np.float32(3)
        yield Sample(cls(), (x, v))
        yield Sample(cls(True), (x, v[:, :1]))
        yield Sample(cls(True), (x[..., :3], v[:, :, :3]))
        for shape in ((4, 5), (5,), (3, 1, 5), (1, 3, 4, 5)):
            mask = (rng.random(size=shape) < 0.6).astype(np.float32)
            mask[..., 0] = 1
            yield Sample(cls(), (x, v, mask), constant=(2,))
        yield Sample(cls(True), (x[:, 0], v[:, 0], mask[0, 0]), constant=(2,))
        for rows, at in ((1, 3), (2, 0), (3, 2)):
            yield Sample(cls(True), (x[:1, :, :rows], v[:1], np.array([[at]], np.int32)), constant=(2,))


def exp_table(source: Quant, length: int) -> np.ndarray:
    """s32 (256): rne(one * exp(-scale * d)) for the distance d of a code from the largest, computed in float64."""
    one = MOST
    while one * U8_MAX * length > INT32_MAX:
        one //= 2
    table: np.ndarray = np.rint(one * np.exp(-float(source.scale) * np.arange(256, dtype=np.float64))).astype(np.int32)
    return table


def _kept(shape: tuple[int, ...], mask: np.ndarray | None, causal: bool) -> np.ndarray:
    """bool, of the last axes of scores or fewer; `mask` may be a position."""
    if mask is not None and mask.dtype == np.int32:
        ends = first_steps(mask, shape[-1] - shape[-2])[:, None] + np.arange(shape[-2])
        rows: np.ndarray = np.arange(shape[-1]) <= ends[..., None]
        return rows.reshape(-1, *[1] * (len(shape) - 3), *rows.shape[-2:])
    kept = np.ones(shape[-1:], bool) if mask is None else np.asarray(mask) != 0
    return kept & (np.tri(shape[-2], shape[-1]) > 0) if causal else kept


def _rows(kept: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """u8: the mask as 1 and 0 over as few of the last axes as it needs."""
    while kept.ndim > 1 and kept.shape[0] == 1:
        kept = kept[0]
    return np.broadcast_to(kept, shape[len(shape) - kept.ndim :]).astype(np.uint8)


def _masks(inputs: Sequence[Type], x: Type, causal: bool) -> Sequence[Type]:
    """Without a position, which is checked."""
    for position in filter(is_position, inputs):
        check_position(position)
        fits = causal and isinstance(x.shape[-2], int) and x.bounds[-2] <= x.bounds[-1]
        expect(fits and len(inputs) == 1, f"a position of {x.bounds[-2]} rows that keep {x.bounds[-1]} elements")
    return [type_ for type_ in inputs if not is_position(type_)]


def _check_operands(x: Type, v: Type, keys: tuple[object, ...], causal: bool) -> None:
    expect(3 <= x.rank == v.rank <= MAX_RANK, f"attention with scores of rank {x.rank} and values of rank {v.rank}")
    expect(x.shape[-1:] == keys, f"attention with {x.shape[-1]} scores for {keys[0]} values")
    expect(not is_batch(x.shape[-1]), "attention along the batch")
    expect(1 <= x.bounds[-1] <= MAX_LENGTH, f"attention to {x.bounds[-1]} elements; at most {MAX_LENGTH} fit")
    leading = all(m in (1, n) for m, n in zip(v.shape[:-2], x.shape[:-2], strict=True))
    expect(leading, f"attention with scores of {x.bounds} and values of {v.bounds}")
    expect(not causal or not is_batch(x.shape[-2]), "a causal mask along the batch")


@dataclass(frozen=True)
class QAttend(IntegerOperator):
    """x u8 (..., L, S), v u8 (..., D, S), table s32 (256), [mask u8 of x's last axes, 0 hides, or position s32];
    u8 (..., L, D)."""

    name = "q_attend"

    causal: bool
    v_zero: int
    ratio: float
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x, v, table, *masks = inputs
        masks = [*_masks(masks, x, self.causal)]
        types = (x.dtype, v.dtype, table.dtype, *(mask.dtype for mask in masks))
        expect(types == (DType.U8, DType.U8, DType.S32, DType.U8)[: len(types)], f"q_attend of {types}")
        expect(table.bounds == (256,), f"q_attend with a table of shape {table.bounds}")
        _check_operands(x, v, v.shape[-1:], self.causal)
        for mask in masks:
            fits = 1 <= mask.rank <= x.rank and mask.shape == x.shape[x.rank - mask.rank :]
            expect(fits, f"q_attend to {x.bounds} with a mask of shape {mask.bounds}")
        return (Type((*x.shape[:-1], v.shape[-2]), DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, v, table = inputs[:3]
        mask = inputs[3] if len(inputs) > 3 else None
        kept = np.broadcast_to(_kept(x.shape, mask, self.causal), x.shape)
        top = np.where(kept, x, 0).max(axis=-1, keepdims=True)
        e = np.where(kept, table[np.where(kept, top - x, 0)], 0)
        total = np.maximum(e.sum(axis=-1, keepdims=True, dtype=np.int32), 1).astype(np.float32)  # none kept: all 0
        # float64 holds every int32 exactly, so the product is exact in any order
        acc = np.matmul(e.astype(np.float64), np.swapaxes(v.astype(np.float64) - self.v_zero, -1, -2))
        value = acc.astype(np.float32) * np.float32(self.ratio) / total
        return (round_clamped(value, self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        x, v = inputs[0].bounds, inputs[1].bounds
        leading = leading_params(outputs[0], {"v": inputs[1]})
        counted = any(map(is_position, inputs[3:]))
        return {
            **leading,
            **{"rows": x[-2], "length": x[-1], "features": v[-2], "causal": int(self.causal)},
            "mask_rows": inputs[3].elements // x[-1] if len(inputs) > 3 and not counted else 0,
            "counted": int(counted),
            **{"v_zero": self.v_zero, "ratio": self.ratio, "y_zero": self.y_zero},
            **{"low": float(self.qmin - self.y_zero), "high": float(self.qmax - self.y_zero)},
        }

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return 2 * inputs[0].bounds[-1]  # the weights of a row, in 16 bits

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * inputs[0].bounds[-1], sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(81)
        parameters = ((128, 2.0, 128), (3, float32(3.3), 100), (255, float32(0.7), 20), (0, 1.0, 0))

        def made(i: int, causal: bool, x: np.ndarray, v: np.ndarray, *masks: np.ndarray) -> Sample:
            table = exp_table(Quant(((0.002, 0.05, 0.7)[i % 3],)), x.shape[-1])
            op = cls(causal, *parameters[i % 4], *[(0, 255), (10, 240)][i % 2])
            return Sample(op, (x, v, table, *masks), constant=(2, 3)[: 1 + len(masks)])

        for i, n in enumerate(LENGTHS):
            x, v = codes(rng, (1 + i % 2, 2 + i % 5, n)), codes(rng, (1 + i % 2, LENGTHS[i % 6], n))
            yield made(i, i % 3 == 0, x, v)
            yield made(i, False, x, v, (rng.random(size=x.shape[1:]) < 0.5).astype(np.uint8))
        # square, taller and wider rows; masks of one row, of planes, of all; values that repeat
        for i, shape in enumerate(((2, 3, 9, 9), (1, 2, 9, 4), (1, 2, 4, 9))):
            x, v = codes(rng, shape), codes(rng, (*shape[:2], 7, shape[3]))
            yield made(i, True, x, v)
            for rank in (1, 2, 3):
                mask = (rng.random(size=shape[-rank:]) < 0.6).astype(np.uint8)
                yield made(rank, rank == 2, x, v[:, :1] if rank == 3 else v, mask)
        for i, at in enumerate((0, 1, 5, 6, 7, 1000, -1)):
            x, v = codes(rng, (1, 2, 1 + i % 3, 9)), codes(rng, (1, 1 + i % 2, 4, 9))
            yield made(i, True, x, v, np.array([[at]], np.int32))
        six: tuple[tuple[int, ...], ...] = ((2, 1, 3, 1), (1, 2, 1, 2), (2, 2, 3, 2))
        for i, leading in enumerate(six):
            yield made(i, False, codes(rng, (2, 2, 3, 2, 3, 8)), codes(rng, (*leading, 5, 8)))
        # what is hidden is far larger than what is kept
        steep, hide = np.tile(np.array([255, 3, 4], np.uint8), (1, 2, 5)), np.tile(np.array([0, 1, 1], np.uint8), 5)
        yield made(1, False, steep, codes(rng, (1, 17, 15)), hide)
        # equal weights: sums times the ratio, then the division, which the other order rounds elsewhere
        equal = (np.full((1, 1, 3), 9, np.uint8), triples().T[None], exp_table(Quant((0.1,)), 3))
        yield Sample(cls(False, 128, float32(0.3), 128, 0, 255), equal, constant=(2,))
        # the longest rows: the largest sum fits into int32
        long = np.full((1, 1, MAX_LENGTH), 200, np.uint8)
        yield made(0, False, long, np.repeat(np.array([[[255], [0]]], np.uint8), MAX_LENGTH, axis=2))
        yield Sample(cls(False, 0, 2.0**60, 7, 5, 250), (steep, codes(rng, (1, 5, 15)), exp_table(Quant((0.1,)), 15)),
                     constant=(2,))  # fmt: skip
