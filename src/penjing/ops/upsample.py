"""Resizing of images (N, C, H, W) and lines (N, C, L) by the nearest element, or linearly between the nearest ones.

With `ratio` input elements per output element, in float32 and in torch's order of operations:

    nearest        source(i) = min(floor(i * ratio), extent - 1)
    linear         place(i)  = max((i + 1/2) * ratio - 1/2, 0), or i * ratio where the corners are aligned
                   i0 = min(floor(place), extent - 1), i1 = min(i0 + 1, extent - 1), f = min(place - i0, 1)
                   y = (1 - f) * x[i0] + f * x[i1], along each axis

ratio is extent / size, or 1 / scale where the network gives a scale, or (extent - 1) / (size - 1) with aligned corners.
Both are evaluated here, once; devices read the indices. In integers, nearest moves codes. Linear has weights of 11
fraction bits, w1 = rne(2048 * f) and w0 = 2048 - w1, and

    acc = sum over the four neighbours of wy * wx * (q_x - zp_x)          |acc| <= 255 * 2^22 < 2^31
    y   = rne(clamp(float32(acc) * m, qmin - zp_y, qmax - zp_y)) + zp_y,  m = (s_x / s_y) * 2^-22 in float32
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from penjing.core.arithmetic import requantize
from penjing.ir.graph import Node
from penjing.ir.types import DType, Type
from penjing.ops.as_images import emit_as_image
from penjing.ops.integer_samples import codes
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.operator import Cost, IntegerOperator, Operator, Param, QuantRule, Sample, expect
from penjing.ops.torch_call import Imported, TorchCall

FRACTION_BITS = 11  # of each axis: two of them and 8 bits of code fit into an int32
ONE = 1 << FRACTION_BITS


@dataclass(frozen=True)
class _Resize(Operator):
    """Base: `size` and `scale` per spatial axis (1 or 2 of them); a scale of 0 is one that the network does not give."""

    size: tuple[int, ...]
    scale: tuple[float, ...]

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x = inputs[0]
        expect(x.rank in (3, 4), f"resizing needs rank 3 or 4, not {x.rank}")
        expect(len(self.size) == len(self.scale) == x.rank - 2, f"size {self.size}, scale {self.scale}, rank {x.rank}")
        expect(min(self.size) >= 1 and min(self.scale) >= 0, f"size {self.size}, scale {self.scale}")
        expect(all(isinstance(extent, int) and extent >= 1 for extent in x.shape[2:]), f"resizing {x.shape}")
        return (Type((*x.shape[:2], *self.size)),)

    def ratios(self, extents: tuple[int, ...], corners: bool = False) -> list[np.float32]:
        """Input elements per output element, for each spatial axis."""
        return [_ratio(*one, corners) for one in zip(extents, self.size, self.scale, strict=True)]

    def torch_arguments(self) -> dict[str, Any]:
        """How torch.nn.functional.interpolate is asked for the same indices."""
        if 0.0 in self.scale:
            return {"size": list(self.size)}
        return {"scale_factor": list(self.scale), "recompute_scale_factor": False}


def _ratio(extent: int, size: int, scale: float, corners: bool) -> np.float32:
    if corners:
        return np.float32(extent - 1) / np.float32(size - 1) if size > 1 else np.float32(0)
    return np.float32(1.0 / scale) if scale > 0 else np.float32(extent) / np.float32(size)


def nearest(extent: int, size: int, ratio: np.float32) -> np.ndarray:
    """s32 (size): the source of every output element."""
    places = np.floor(np.arange(size, dtype=np.float32) * ratio)
    return np.minimum(places, extent - 1).astype(np.int32)


def between(extent: int, size: int, ratio: np.float32, corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(i0 s32, i1 s32, f float32), each (size): the two neighbours of every output element and the second's part."""
    i = np.arange(size, dtype=np.float32)
    if extent == size:
        return i.astype(np.int32), i.astype(np.int32), np.zeros_like(i)
    half = np.float32(0.5)
    place = i * ratio if corners else np.maximum((i + half) * ratio - half, np.float32(0))
    first = np.minimum(np.floor(place), extent - 1)
    fraction = np.minimum(place - first, np.float32(1))
    return first.astype(np.int32), np.minimum(first + 1, extent - 1).astype(np.int32), fraction


def _torch_resize(call: TorchCall) -> tuple[str, tuple[int, ...], tuple[float, ...]]:
    """(name of the input, size, scale); the `.vec` forms list scales, the others give one argument per axis."""
    x = call.ref("input" if "input" in call.arguments else "self")
    size = tuple(extent for extent in call.outputs[0][2:] if isinstance(extent, int))
    call.require(len(size) == x.type.rank - 2, f"a symbolic output size {call.outputs[0]}")
    factors = call.arguments.get("scale_factors")
    given = list(factors) if isinstance(factors, list | tuple) else []
    given = given or [call.arguments[key] for key in ("scales_h", "scales_w", "scales") if key in call.arguments]
    given = given or [None] * len(size)
    call.require(len(given) == len(size), f"{len(given)} scales for {len(size)} axes")
    call.require(all(s is None or (isinstance(s, int | float) and s > 0) for s in given), f"scales {given}")
    return x.name, size, tuple(0.0 if s is None else float(s) for s in given)


@dataclass(frozen=True)
class UpsampleNearest(_Resize):
    """Input (N, C, H, W) or (N, C, L); output with the spatial extents `size`."""

    name = "upsample_nearest"
    torch = (
        "aten.upsample_nearest2d.vec",
        "aten.upsample_nearest2d.default",
        "aten.upsample_nearest1d.vec",
        "aten.upsample_nearest1d.default",
    )
    onnx = ("Resize",)
    quant_rule = QuantRule.SAME

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        x, size, scale = _torch_resize(call)
        return Imported(cls(size, scale), (x,))

    def _sources(self, extents: tuple[int, ...]) -> list[np.ndarray]:
        return [nearest(*one) for one in zip(extents, self.size, self.ratios(extents), strict=True)]

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        y = inputs[0]
        for axis, sources in enumerate(self._sources(y.shape[2:]), start=2):
            y = np.take(y, sources, axis=axis)
        return (y,)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return torch.nn.functional.interpolate(inputs[0], mode="nearest", **self.torch_arguments())

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        extents = lowering.graph.types[node.inputs[0]].bounds[2:]
        tables = _by_axis(lowering, node, self._sources(extents))
        emit_as_image(lowering, node.inputs[0], QResizeNearest(), epilogue, tables)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from _resize_samples(cls)


@dataclass(frozen=True)
class UpsampleLinear(_Resize):
    """Input (N, C, H, W) or (N, C, L); output with the spatial extents `size`, between up to four neighbours."""

    name = "upsample_linear"
    torch = (
        "aten.upsample_bilinear2d.vec",
        "aten.upsample_bilinear2d.default",
        "aten.upsample_linear1d.vec",
        "aten.upsample_linear1d.default",
    )
    onnx = ("Resize",)

    align_corners: bool = False

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        x, size, scale = _torch_resize(call)
        return Imported(cls(size, scale, call.flag("align_corners")), (x,))

    def _neighbours(self, extents: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        ratios = self.ratios(extents, self.align_corners)
        return [between(*one, self.align_corners) for one in zip(extents, self.size, ratios, strict=True)]

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        y = inputs[0]
        for axis, (first, second, fraction) in enumerate(self._neighbours(y.shape[2:]), start=2):
            f = fraction.reshape(-1, *(1,) * (y.ndim - axis - 1))
            y = np.take(y, first, axis=axis) * (1 - f) + np.take(y, second, axis=axis) * f
        return (y,)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        mode = "linear" if len(self.size) == 1 else "bilinear"
        arguments = {"mode": mode, "align_corners": self.align_corners, **self.torch_arguments()}
        return torch.nn.functional.interpolate(inputs[0], **arguments)

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * 2 ** len(self.size), sum(t.nbytes for t in (*inputs, *outputs)))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        extents = lowering.graph.types[node.inputs[0]].bounds[2:]
        tables = _by_axis(lowering, node, [_integer_weights(*one) for one in self._neighbours(extents)])
        source, target = lowering.quant(node.inputs[0]), lowering.quant(epilogue.output)
        m = float((source.scale / target.scale) * np.float32(1.0 / ONE**2))
        op = QResizeBilinear(source.zero_point, m, target.zero_point, *lowering.clamp_codes(epilogue))
        emit_as_image(lowering, node.inputs[0], op, epilogue, tables)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for corners in (False, True):
            yield from _resize_samples(partial(cls, align_corners=corners))


def _integer_weights(first: np.ndarray, second: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """s32 (size, 3): i0, i1, w1."""
    return np.stack([first, second, np.rint(fraction * np.float32(ONE)).astype(np.int32)], axis=1)


def _by_axis(lowering: Lowering, node: Node, tables: list[np.ndarray]) -> tuple[str, ...]:
    """Constants for rows and columns; a line is one row that stays as it is."""
    if len(tables) == 1:
        tables = [np.zeros_like(tables[0][:1]), *tables]
    names = ("rows", "columns")
    return tuple(lowering.constant(f"{node.output}.{n}", t) for n, t in zip(names, tables, strict=True))


def _resize_samples(make: Callable[[tuple[int, ...], tuple[float, ...]], Operator]) -> Iterator[Sample]:
    rng = np.random.default_rng(48)
    x = rng.normal(size=(2, 3, 5, 4)).astype(np.float32)
    for size, scale in (
        ((10, 8), (2.0, 2.0)),
        ((7, 9), (0.0, 0.0)),
        ((3, 1), (0.0, 0.0)),
        ((7, 5), (1.5, 1.3)),
        ((5, 4), (0.0, 0.0)),
    ):
        yield Sample(make(size, scale), (x,))
    yield Sample(make((13,), (2.6,)), (x[:, :, :, 0],))


def _check_image(x: Type, rows: Type, columns: Type, table: tuple[int, ...]) -> tuple[Type, ...]:
    expect(x.rank == 4 and x.dtype is DType.U8, "resizing needs u8 of rank 4")
    expect(rows.dtype is DType.S32 and columns.dtype is DType.S32, "tables of places are s32")
    expect(rows.bounds[1:] == table == columns.bounds[1:], f"tables of shape {rows.bounds} and {columns.bounds}")
    return (Type((x.shape[0], rows.bounds[0], columns.bounds[0], x.shape[3]), DType.U8),)


def _check_places(places: np.ndarray, extent: int) -> None:
    expect(bool(((places >= 0) & (places < extent)).all()), f"a place outside an axis of {extent}")


def _image_params(x: Type, y: Type) -> dict[str, Param]:
    n, oh, ow, c = y.bounds
    return {"n": n, "ih": x.bounds[1], "iw": x.bounds[2], "c": c, "oh": oh, "ow": ow}


@dataclass(frozen=True)
class QResizeNearest(IntegerOperator):
    """x u8 (N, H, W, C), rows s32 (OH), columns s32 (OW): the sources; output (N, OH, OW, C)."""

    name = "q_resize_nearest"

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return _check_image(*inputs, ())

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, rows, columns = inputs
        _check_places(rows, x.shape[1])
        _check_places(columns, x.shape[2])
        return (np.ascontiguousarray(x[:, rows[:, None], columns]),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return _image_params(inputs[0], outputs[0])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(49)
        for channels in (1, 3, 15, 16, 17, 33):
            x = codes(rng, (1 + channels % 2, 4, 3, channels))
            rows, columns = (nearest(extent, size, np.float32(extent / size)) for extent, size in ((4, 8), (3, 7)))
            yield Sample(cls(), (x, rows, columns), constant=(1, 2))
        shrink = (np.array([0, 2, 3], np.int32), np.array([1], np.int32))
        yield Sample(cls(), (codes(rng, (2, 4, 3, 64)), *shrink), constant=(1, 2))


@dataclass(frozen=True)
class QResizeBilinear(IntegerOperator):
    """x u8 (N, H, W, C), rows s32 (OH, 3), columns s32 (OW, 3): i0, i1, w1 of 2048; output (N, OH, OW, C)."""

    name = "q_resize_bilinear"

    x_zero: int
    multiplier: float
    y_zero: int
    qmin: int
    qmax: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        return _check_image(*inputs, (3,))

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        x, rows, columns = inputs
        acc = x.astype(np.int32) - self.x_zero
        for axis, table in ((1, rows), (2, columns)):
            _check_places(table[:, :2], x.shape[axis])
            _check_places(table[:, 2], ONE + 1)
            w = table[:, 2].reshape(-1, *(1,) * (3 - axis))
            acc = np.take(acc, table[:, 0], axis=axis) * (ONE - w) + np.take(acc, table[:, 1], axis=axis) * w
        return (requantize(acc, np.float32(self.multiplier), self.y_zero, self.qmin, self.qmax),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {
            **_image_params(inputs[0], outputs[0]),
            **{"x_zero": self.x_zero, "multiplier": self.multiplier, "y_zero": self.y_zero},
            **{"low": float(self.qmin - self.y_zero), "high": float(self.qmax - self.y_zero)},
        }

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(4 * outputs[0].elements, sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(50)
        step = 2.0**-22  # a multiplier of one step: halves of weights 1024 give exact ties
        tails = (
            (128, step, 128, 0, 255),
            (0, step, 0, 0, 255),
            (255, 4 * step, 255, 0, 255),
            (3, float(np.float32(1.37 * step)), 7, 20, 200),
        )
        for i, channels in enumerate((1, 3, 15, 16, 17, 33, 65)):
            x = codes(rng, (1 + i % 2, 4, 4, channels))
            corners = i % 3 == 2
            tables = [
                _integer_weights(*between(4, size, _ratio(4, size, 0.0, corners), corners))
                for size in (8, 7 - 4 * (i % 2))
            ]
            yield Sample(cls(*tails[i % 4]), (x, *tables), constant=(1, 2))
        every = np.stack([np.arange(256), np.roll(np.arange(256), 1)]).astype(np.uint8).reshape(1, 2, 256, 1)
        ties = (np.array([[0, 1, ONE // 2], [1, 1, 0], [0, 1, ONE]], np.int32), np.zeros((256, 3), np.int32))
        ties[1][:, 0] = ties[1][:, 1] = np.arange(256)
        for tail in tails:
            yield Sample(cls(*tail), (every, *ties), constant=(1, 2))
