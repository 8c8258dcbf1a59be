"""Product of two activations along their last axes:  y[..., i, j] = scale * sum over k of a[..., i, k] * b[..., k, j].

In integers the right operand lies transposed, (..., N, K), as weights do, so that both are read along k:

    acc = sum over k of (q_a - zp_a) * (q_b - zp_b)
    y   = rne(clamp(float32(acc) * m, qmin - zp_y, qmax - zp_y)) + zp_y,    m = (s_a * s_b * scale) / s_y

|acc| <= 255^2 * K, which fits into int32 up to K = 33025. A transposition before the right operand costs nothing: only
the names of its axes change.

With a position, the columns are a memory of steps, filled up to those of the rows: columns 0 .. position + M - 1. The
products of the others are 0, and cost nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.arithmetic import INT32_MAX, U8_MAX, factors, round_clamped
from penjing.ir.graph import Node
from penjing.ir.types import MAX_RANK, DType, Extent, Shape, Type, is_batch
from penjing.ops.add import broadcast, repeats
from penjing.ops.coupling import Coupling, alone, broadcast_axes, on_input, on_output
from penjing.ops.integer_samples import LENGTHS, codes, float32
from penjing.ops.linear import Linear
from penjing.ops.lowering import Epilogue, Lowering, Order, identity
from penjing.ops.onnx_call import BATCH, OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import Cost, IntegerOperator, Operator, Param, Sample, expect
from penjing.ops.position import check_position, first_steps
from penjing.ops.torch_call import Composed, Imported, Nodes, TorchCall

MAX_K = INT32_MAX // U8_MAX**2


@dataclass(frozen=True)
class Matmul(Operator):
    """Inputs a (..., M, K), b (..., K, N) of equal leading axes or 1, [position (N, 1)]; output (..., M, N)."""

    name = "matmul"
    torch = ("aten.matmul.default", "aten.bmm.default")
    onnx = ("MatMul",)

    scale: float = 1.0

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported | Composed:
        a = call.ref("self")
        b = call.ref("mat2" if "mat2" in call.arguments else "other")
        call.require(min(a.type.rank, b.type.rank) >= 2, "an operand of rank 1")

        def build(nodes: Nodes, _: object) -> dict[int, str]:
            weight = nodes.value(b.name)
            if weight is None or weight.ndim != 2 or nodes.value(a.name) is not None:
                return {0: nodes.add(cls(), a.name, b.name)[0]}
            rows = nodes.constant(f"{b.name}.transposed", np.ascontiguousarray(weight.T))
            return {0: nodes.add(Linear(), a.name, rows)[0]}

        return Composed(build)

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        a, b = call.operand(0), call.operand(1)
        call.require(min(a.type.rank, b.type.rank) >= 2, "an operand of rank 1")
        batches = {len(ref.type.shape) for ref in (a, b) if ref.type.shape[:1] == (BATCH,)}
        is_leading = len(batches) == 1 and batches == {max(a.type.rank, b.type.rank)} and max(batches) > 2
        call.require(is_leading, "operands whose batches part")
        return Imported(cls(), (a.name, b.name))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        a, b, *position = inputs
        expect(min(a.rank, b.rank) >= 2 and max(a.rank, b.rank) <= MAX_RANK, f"matmul of ranks {a.rank} and {b.rank}")
        expect(a.shape[-1] == b.shape[-2], f"matmul of {a.shape[-1]} columns with {b.shape[-2]} rows")
        _check_k(a)
        _check_filled(position, a.shape[-2], b.shape[-1])
        return (Type((*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        y = np.matmul(inputs[0], inputs[1])
        y = np.where(_filled(y.shape, inputs[2:]), y, np.float32(0))
        return (y if self.scale == 1 else y * np.float32(self.scale),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        y = torch.matmul(inputs[0], inputs[1])
        if len(inputs) > 2:
            y = y * torch.from_numpy(_filled(tuple(y.shape), [inputs[2].numpy()]))
        return y if self.scale == 1 else y * self.scale

    def to_onnx(self, form: OnnxForm) -> None:
        if self.scale == 1:
            form.result("MatMul", form.input(0), form.input(1))
            return
        form.result("Mul", form.node("MatMul", form.input(0), form.input(1)), form.floats("scale", self.scale))

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        a, b, *position = inputs
        assert a is not None and b is not None
        if position:
            return Coupling()  # fewer rows would be fewer steps
        y = outputs[0]
        ties = [*broadcast_axes((a, b), y, range(1, y.rank - 2))]
        rows, columns = alone(y.bounds[-2]), alone(y.bounds[-1])
        if y.rank > 2:
            ties.append((on_input(0, a.rank - 2, rows), on_output(y.rank - 2, rows)))
        ties.append((on_input(1, b.rank - 1, columns), on_output(y.rank - 1, columns)))
        return Coupling(tuple(ties))

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * inputs[0].bounds[-1], sum(t.nbytes for t in (*inputs, *outputs)))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        a, b, *position = node.inputs
        rank = len(lowering.shape(node.output))
        scales = [float(lowering.quant(name).scale) for name in (a, b, epilogue.output)]
        m = float(factors(np.asarray(scales[0] * scales[1] * self.scale / scales[2])))
        a_zero, b_zero, y_zero = (lowering.quant(name).zero_point for name in (a, b, epilogue.output))
        op = QMatmul(m, a_zero, b_zero, y_zero, *lowering.clamp_codes(epilogue))
        inputs = [lowering.aligned(a, rank, identity(rank)), lowering.aligned(b, rank, transposed_last(rank))]
        inputs += [lowering.integers(name) for name in position]
        lowering.finish(epilogue, op, tuple(inputs), identity(rank))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(60)
        shapes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
            ((2, 3, 4, 5), (2, 3, 5, 6)),
            ((2, 7, 9), (2, 9, 3)),
            ((2, 3, 4, 5), (2, 1, 5, 2)),
            ((2, 1, 2, 3, 4), (2, 3, 1, 4, 5)),
        )
        for i, (a, b) in enumerate(shapes):
            op = cls((1.0, 0.125, 1.0, 0.3)[i])
            yield Sample(op, (rng.normal(size=a).astype(np.float32), rng.normal(size=b).astype(np.float32)))
        fixed, x = (rng.normal(size=s).astype(np.float32) for s in ((3, 4), (2, 4, 5)))
        yield Sample(cls(), (fixed, x), constant=(0,))
        for rows, at in ((1, 3), (2, 0), (3, 4)):
            x, y = (rng.normal(size=s).astype(np.float32) for s in ((1, 2, rows, 5), (1, 2, 5, 7)))
            yield Sample(cls(0.5), (x, y, np.array([[at]], np.int32)), constant=(2,))


def _check_k(a: Type) -> None:
    expect(not is_batch(a.shape[-1]), "matmul along the batch")
    expect(1 <= a.bounds[-1] <= MAX_K, f"matmul along {a.bounds[-1]} elements; int32 holds at most {MAX_K} products")


def _check_filled(position: Sequence[Type], rows: Extent, columns: Extent) -> None:
    for type_ in position:
        check_position(type_)
        fits = isinstance(rows, int) and isinstance(columns, int) and rows <= columns
        expect(fits, f"the steps of {rows} rows in a memory of {columns}")


def _filled(shape: tuple[int, ...], position: Sequence[np.ndarray]) -> np.ndarray:
    """bool, broadcast to (N, ..., rows, columns): the columns of steps that there have been."""
    columns = np.arange(shape[-1])
    if not position:
        return columns >= 0
    ends: np.ndarray = first_steps(position[0], shape[-1] - shape[-2]) + shape[-2]
    return columns < ends.reshape(-1, *[1] * (len(shape) - 1))


def transposed_last(rank: int) -> Order:
    """The axes with the last two swapped."""
    return (*range(rank - 2), rank - 1, rank - 2)


def leading_params(y: Type, operands: dict[str, Type]) -> dict[str, Param]:
    """Extents of all but the last two axes of `y`, and strides of operands along them, 0 where they repeat."""
    lead = (1,) * (MAX_RANK - y.rank)
    params: dict[str, Param] = {"extent": lead + y.bounds[:-2]}
    for name, operand in operands.items():
        strides = [int(np.prod(operand.bounds[axis + 1 :], dtype=np.int64)) for axis in range(y.rank - 2)]
        kept = (0 if repeats(n) else stride for n, stride in zip(operand.shape, strides, strict=False))
        params[f"stride_{name}"] = (0,) * len(lead) + tuple(kept)
    return params


@dataclass(frozen=True)
class QMatmul(IntegerOperator):
    """a u8 (..., M, K), b u8 (..., N, K) of the same rank, leading axes equal or 1, [position s32]; u8 (..., M, N)."""

    name = "q_matmul"

    multiplier: float
    a_zero: int
    b_zero: int
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        a, b, *position = inputs
        expect(a.dtype is DType.U8 and b.dtype is DType.U8, "q_matmul takes u8")
        expect(2 <= a.rank == b.rank <= MAX_RANK, f"q_matmul of ranks {a.rank} and {b.rank}")
        expect(a.shape[-1] == b.shape[-1], f"q_matmul along {a.shape[-1]} and {b.shape[-1]} elements")
        _check_k(a)
        _check_filled(position, a.shape[-2], b.shape[-2])
        shape: Shape = (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-2])
        return (Type(shape, DType.U8),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        # float64 holds every int32 exactly, so the product is exact in any order
        a = inputs[0].astype(np.float64) - self.a_zero
        b = inputs[1].astype(np.float64) - self.b_zero
        product = np.matmul(a, np.swapaxes(b, -1, -2))
        acc = np.where(_filled(product.shape, inputs[2:]), product, 0).astype(np.float32)  # exact, and rounded once
        return (round_clamped(acc * np.float32(self.multiplier), self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        a, y = inputs[0].bounds, outputs[0].bounds
        return {
            **leading_params(outputs[0], {"a": inputs[0], "b": inputs[1]}),
            **{"m": y[-2], "n": y[-1], "k": a[-1], "counted": int(len(inputs) > 2)},
            **{"multiplier": self.multiplier, "a_zero": self.a_zero, "b_zero": self.b_zero, "y_zero": self.y_zero},
            **{"low": float(self.qmin - self.y_zero), "high": float(self.qmax - self.y_zero)},
        }

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        return 2 * inputs[0].bounds[-1]  # a row of a, in 16 bits

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * inputs[0].bounds[-1], sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(61)
        # exact halves, of every product of two codes
        every = np.arange(256, dtype=np.uint8).reshape(1, 256, 1)
        yield Sample(cls(0.5, 128, 128, 128, 0, 255), (every, every))
        yield Sample(cls(float32(1 / 255), 0, 0, 0, 0, 255), (every, every))
        zeros = ((0, 0, 0), (128, 3, 128), (255, 255, 100), (17, 250, 20))
        for i, k in enumerate(LENGTHS):
            m, n = LENGTHS[i % 7], LENGTHS[(i + 3) % 9]
            op = cls(float32(0.011 / k**0.5), *zeros[i % 4], *[(0, 255), (20, 240)][i % 2])
            yield Sample(op, (codes(rng, (1 + i % 2, m, k)), codes(rng, (1 + i % 2, n, k))))
        op = cls(float32(0.003), 100, 140, 120, 0, 255)
        leading: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
            ((2, 3, 2, 3), (2, 3, 2, 3)),
            ((2, 3, 2, 3), (1, 3, 2, 1)),
            ((1, 2, 3, 1), (3, 2, 1, 2)),
            ((3,), (1,)),
            ((1, 3), (2, 1)),
        )
        for a, b in leading:
            yield Sample(op, (codes(rng, (*a, 3, 20)), codes(rng, (*b, 5, 20))))
        yield Sample(op, (codes(rng, (3, 20)), codes(rng, (5, 20))))
        for i, at in enumerate((0, 1, 5, 6, 7, 1000, -1)):
            rows, memory = codes(rng, (1, 2, 1 + i % 3, 9)), codes(rng, (1, 2, 9, 9))
            clamped = cls(float32(0.02), 100, 140, *[(120, 0, 255), (3, 20, 240)][i % 2])
            yield Sample(clamped, (rows, memory, np.array([[at]], np.int32)))
        # the longest sums: one that just fits into int32, of either sign, and one that float32 rounds
        ends = np.zeros((2, MAX_K), np.uint8)
        ends[1] = 255
        yield Sample(cls(float32(2.0**-24), 0, 255, 200, 0, 255), (ends, ends))
        yield Sample(cls(float32(2.0**-24), 0, 0, 0, 0, 255), (codes(rng, (2, 30000)), codes(rng, (3, 30000))))
        yield _rounded_sum()
        yield Sample(cls(2.0**60, 128, 128, 128, 5, 250), (codes(rng, (2, 9, 4)), codes(rng, (2, 9, 4))))


def _rounded_sum() -> Sample:
    """acc = 2^25 + 2, which float32 rounds to 2^25: a product of doubles lands on the other side of a half."""
    a, b = np.zeros((2, 1, 800), np.uint8)
    full, rest = divmod(2**25 + 2, 255 * 255)
    ones = slice(full, full + rest // 255 + 1)
    a[0, :full] = b[0, :full] = a[0, ones] = 255
    a[0, ones.stop - 1], b[0, ones] = rest % 255, 1
    return Sample(QMatmul(254.5 * 2.0**-25, 0, 0, 0, 0, 255), (a, b))
