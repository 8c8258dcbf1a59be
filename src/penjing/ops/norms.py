"""What layer norm and RMS norm share: their axes, parameters and samples."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from penjing.core.arithmetic import INT32_MAX, S16_MAX, S16_MIN, U8_MAX
from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.integer_samples import LENGTHS, codes
from penjing.ops.inverse_root import radicand
from penjing.ops.lowering import Lowering, Order
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.operator import IntegerOperator, Sample, expect

# An integer norm of axes, shift, eps and (y_zero, qmin, qmax).
Make = Callable[[int, int, int, tuple[int, int, int]], IntegerOperator]


def onnx_axis(call: OnnxCall, rank: int) -> int:
    """The first axis that a node normalizes over."""
    axis = call.axis(call.integer("axis", -1), rank)
    call.require(axis != 0, "axis 0, the batch,")
    return axis


def onnx_parameter(call: OnnxCall, place: int, shape: tuple[int, ...]) -> str:
    """Name of a constant input that broadcasts to the normalized axes, '' where it is absent."""
    if not call.has(place):
        return ""
    array = call.array(place)
    fits = array.ndim <= len(shape) and all(n in (1, m) for n, m in zip(array.shape[::-1], shape[::-1], strict=False))
    call.require(fits, f"parameters of shape {array.shape} for {shape}")
    if array.shape == shape:
        return call.weight(place).name
    return call.constant(call.name(place), np.broadcast_to(array, shape)).name


def check_norm(name: str, axes: int, eps: float, x: Type, *parameters: Type) -> None:
    """InvalidGraph unless the last `axes` axes can be normalized."""
    expect(1 <= axes < x.rank, f"{name} over the last {axes} axes of rank {x.rank}")
    shape = x.shape[x.rank - axes :]
    expect(all(isinstance(extent, int) for extent in shape), f"{name} over a symbolic axis has no fixed count")
    check_length(name, math.prod(x.bounds[x.rank - axes :]))
    expect(eps >= 0 and math.isfinite(eps), f"{name} with eps = {eps}")
    fits = all(p.bounds == shape for p in parameters)
    expect(fits, f"{name} over {shape} with parameters of shape {[p.bounds for p in parameters]}")


def code_span(x: Type) -> int:
    """How far two codes of a norm's input can be apart."""
    return S16_MAX - S16_MIN if x.dtype is DType.S16 else U8_MAX


def check_length(name: str, n: int, span: int = U8_MAX) -> None:
    """InvalidGraph unless n codes, and n times a code, fit into int32."""
    expect(n >= 1, f"{name} over nothing")
    expect(n * span <= INT32_MAX, f"{name} over {n} elements could overflow int32")


def normalized_last(order: Order, axes: int) -> Order:
    """`order` where the last `axes` logical axes stand last in it, else with them moved to the end."""
    first = len(order) - axes
    if min(order[first:]) >= first:
        return order
    return (*(axis for axis in order if axis < first), *range(first, len(order)))


def norm_parameters(lowering: Lowering, node: Node, axes: int, order: Order) -> list[np.ndarray]:
    """gamma and beta, float64 (n), as the normalized axes stand in `order`; ones and zeros where they are absent."""
    first = len(order) - axes
    shape = lowering.graph.types[node.inputs[0]].bounds[first:]
    found = []
    for place, default in ((1, 1.0), (2, 0.0)):
        name = node.inputs[place] if place < len(node.inputs) else ""
        if name and name not in lowering.graph.constants:
            raise UnsupportedOp(f"{node.op.name} with parameters that are computed", where=str(node))
        array = lowering.graph.constants[name].array.astype(np.float64) if name else np.full(shape, default)
        found.append(np.transpose(array, [axis - first for axis in order[first:]]).reshape(-1))
    return found


def norm_length(name: str, axes: int, x: Type, *parameters: Type) -> int:
    """n of an integer norm; InvalidGraph unless its inputs fit together."""
    takes = x.dtype in (DType.U8, DType.S16) and all(p.dtype is DType.F32 for p in parameters)
    expect(takes, f"{name} takes u8 or s16, and f32")
    expect(1 <= axes <= x.rank, f"{name} over the last {axes} axes of rank {x.rank}")
    n = math.prod(x.bounds[x.rank - axes :])
    expect(all(isinstance(extent, int) for extent in x.shape[x.rank - axes :]), f"{name} over a symbolic axis")
    check_length(name, n, code_span(x))
    expect(all(p.bounds == (n,) for p in parameters), f"{name} of {n} with {[p.bounds for p in parameters]}")
    return n


def norm_samples(make: Make, largest: Callable[[int], int]) -> Iterator[Sample]:
    """Samples of an integer norm: lengths, every kind of eps.

    `largest` is the sum of squares that n elements may have.
    """
    rng = np.random.default_rng(52)
    clamps = ((128, 0, 255), (0, 0, 255), (100, 20, 240))
    for i, n in enumerate(LENGTHS):
        x = codes(rng, (2 + i % 2, n))
        x[0] = 90 + x[0] % (2 + i)  # little variance
        w = radicand((0.0, 1.0, 300.0 * n**2, 0.37)[i % 4], largest(n))
        yield Sample(make(1, w.shift, w.eps, clamps[i % 3]), (x, *sample_parameters(rng, n, w.factor)), constant=(1, 2))
    # an eps beside which all squares are little, and one beside which they are nothing
    for eps in (1e17, 1e24, 1e40):
        w = radicand(eps, largest(19))
        row = sample_parameters(rng, 19, w.factor * np.sqrt(eps) / 2000)
        yield Sample(make(1, w.shift, w.eps, clamps[2]), (codes(rng, (3, 19)), *row), constant=(1, 2))
    w = radicand(40.0, largest(60))
    row = sample_parameters(rng, 60, w.factor)
    yield Sample(make(2, w.shift, w.eps, clamps[1]), (codes(rng, (2, 3, 4, 15)), *row), constant=(1, 2))
    # factors whose products leave the range of int32 at both ends
    steep = np.where(np.arange(60) % 2, 2.0**60, -(2.0**61)).astype(np.float32)
    yield Sample(make(1, w.shift, w.eps, clamps[2]), (codes(rng, (2, 60)), steep, row[1]), constant=(1, 2))


def wide_samples(make: Make, largest: Callable[[int, int], int]) -> Iterator[Sample]:
    """Samples of an integer norm of s16: rows have outliers, both ends, and no variance at all."""
    rng = np.random.default_rng(53)
    for i, n in enumerate((1, 5, 16, 33, 384)):
        x = rng.integers(-300, 300, (4, n)).astype(np.int16)
        x[1, n // 2], x[2] = -(2**15), np.where(np.arange(n) % 2, 2**15 - 1, -(2**15))
        x[3] = 2**15 - 1
        w = radicand((0.0, 1e7, 3.0 * n)[i % 3], largest(n, S16_MAX - S16_MIN))
        row = sample_parameters(rng, n, w.factor)
        yield Sample(make(1, w.shift, w.eps, ((128, 0, 255), (3, 2, 250))[i % 2]), (x, *row), constant=(1, 2))


def sample_parameters(rng: np.random.Generator, n: int, factor: float = 2.0**15) -> tuple[np.ndarray, np.ndarray]:
    """a and b, f32 (n), for steps over the whole range of codes: one factor is 0, some are negative."""
    a = rng.normal(size=n) * 60 * factor
    a[n // 2] = 0.0 if n > 1 else a[0]
    return a.astype(np.float32), (rng.normal(size=n) * 40).astype(np.float32)
