"""Resizing of images (N, C, H, W) and lines (N, C, L) by the nearest element, or linearly between the nearest ones.

Which elements those are, and in which parts they count, is said in `resize`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from penjing.core.arithmetic import ratio
from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Node
from penjing.ir.types import Type, bound
from penjing.ops.as_images import emit_as_image
from penjing.ops.coupling import Coupling, kept_axes
from penjing.ops.lowering import Epilogue, Lowering
from penjing.ops.onnx_call import BATCH, OnnxCall
from penjing.ops.onnx_nodes import Attribute, OnnxForm
from penjing.ops.operator import Cost, Operator, QuantRule, Sample, expect
from penjing.ops.resize import ONE, QResizeBilinear, QResizeNearest, between, integer_weights, nearest, pitch
from penjing.ops.torch_call import Imported, TorchCall

_LONGEST = 2**20  # elements of an axis that an ONNX model may ask for


@dataclass(frozen=True)
class _Resize(Operator):
    """Base: `size` and `scale` per spatial axis, 1 or 2 of them; a scale of 0 is one that the network does not give."""

    size: tuple[int, ...]
    scale: tuple[float, ...]

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        x = inputs[0]
        expect(x.rank in (3, 4), f"resizing needs rank 3 or 4, not {x.rank}")
        expect(len(self.size) == len(self.scale) == x.rank - 2, f"size {self.size}, scale {self.scale}, rank {x.rank}")
        expect(min(self.size) >= 1 and min(self.scale) >= 0, f"size {self.size}, scale {self.scale}")
        expect(all(isinstance(extent, int) and extent >= 1 for extent in x.shape[2:]), f"resizing {x.shape}")
        return (Type((*x.shape[:2], *self.size)),)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        x = inputs[0]
        assert x is not None
        return Coupling(kept_axes(x, outputs[0], [1]))

    def torch_scales(self) -> list[float | None]:
        """The scales as torch takes them, None for one that is not given."""
        return [scale or None for scale in self.scale]


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

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        return _onnx_resize(call)

    def _sources(self, extents: tuple[int, ...]) -> list[np.ndarray]:
        tables = []
        for extent, size, scale in zip(extents, self.size, self.scale, strict=True):
            # NOTE: where the size of an image (not of a line) stays or doubles, torch forgets the scale
            forgotten = len(extents) == 2 and size in (extent, 2 * extent)
            tables.append(nearest(extent, size, pitch(extent, size, 0.0 if forgotten else scale)))
        return tables

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        y = inputs[0]
        for axis, sources in enumerate(self._sources(y.shape[2:]), start=2):
            y = np.take(y, sources, axis=axis)
        return (y,)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        resize = torch.ops.aten.upsample_nearest1d if len(self.size) == 1 else torch.ops.aten.upsample_nearest2d
        return resize.default(inputs[0], list(self.size), *self.torch_scales())

    def to_onnx(self, form: OnnxForm) -> None:
        extents = form.type(0).bounds[2:]
        sources = self._sources(extents)
        factors = [size // extent for size, extent in zip(self.size, extents, strict=True)]
        repeats = [np.repeat(np.arange(e), f) for e, f in zip(extents, factors, strict=True)]
        x = form.input(0)
        if all(map(np.array_equal, sources, repeats)):
            scales = form.floats("scales", (1, 1, *factors))
            how: dict[str, Attribute] = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            form.result("Resize", x, "", scales, mode="nearest", **how)
            return
        # ONNX would divide by the scale where torch multiplies by its inverse: near whole numbers that matters
        for axis, places in enumerate(sources, start=2):
            x = form.node("Gather", x, form.integers("sources", places), axis=axis)
        form.result("Identity", x)

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

    align_corners: bool = False

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        x, size, scale = _torch_resize(call)
        return Imported(cls(size, scale, call.flag("align_corners")), (x,))

    def _neighbours(self, extents: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        corners = self.align_corners
        axes = zip(extents, self.size, self.scale, strict=True)
        return [between(e, size, pitch(e, size, scale, corners), corners) for e, size, scale in axes]

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        y = inputs[0]
        for axis, (first, second, fraction) in enumerate(self._neighbours(y.shape[2:]), start=2):
            f = fraction.reshape(-1, *(1,) * (y.ndim - axis - 1))
            y = np.take(y, first, axis=axis) * (1 - f) + np.take(y, second, axis=axis) * f
        return (y,)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        resize = torch.ops.aten.upsample_linear1d if len(self.size) == 1 else torch.ops.aten.upsample_bilinear2d
        return resize.default(inputs[0], list(self.size), self.align_corners, *self.torch_scales())

    def to_onnx(self, form: OnnxForm) -> None:
        axes = zip(form.type(0).bounds[2:], self.size, self.scale, strict=True)
        scales = [_onnx_scale(e, size, 0.0 if self.align_corners else scale) for e, size, scale in axes]
        how = "align_corners" if self.align_corners else "half_pixel"
        given = form.floats("scales", (1, 1, *scales))
        form.result("Resize", form.input(0), "", given, mode="linear", coordinate_transformation_mode=how)

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        return Cost(outputs[0].elements * 2 ** len(self.size), sum(t.nbytes for t in (*inputs, *outputs)))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        extents = lowering.graph.types[node.inputs[0]].bounds[2:]
        tables = _by_axis(lowering, node, [integer_weights(*one) for one in self._neighbours(extents)])
        source, target = lowering.quant(node.inputs[0]), lowering.quant(epilogue.output)
        m = ratio(source.scale, target.scale * np.float32(ONE**2))
        op = QResizeBilinear(source.zero_point, m, target.zero_point, *lowering.clamp_codes(epilogue))
        emit_as_image(lowering, node.inputs[0], op, epilogue, tables)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for corners in (False, True):
            yield from _resize_samples(partial(cls, align_corners=corners))


def _onnx_resize(call: OnnxCall) -> Imported:
    """The operator that reads the same places as the node does; which those are depends on the extents."""
    x = call.activation(0)
    mode, rule = call.text("mode", "nearest"), call.text("coordinate_transformation_mode", "half_pixel")
    call.require(mode in ("nearest", "linear"), f"mode = {mode!r}")
    call.require(not call.flag("antialias") and not call.flag("exclude_outside"), "antialias or exclude_outside")
    extents = x.type.bounds
    size, scale = _onnx_size(call, extents)
    call.require(len(extents) in (3, 4) and size[:2] == extents[:2], f"size {size} for {extents}")
    given = tuple(scale[2:]) if call.has(2) and call.array(2).size else (0.0,) * len(size[2:])
    places = [_onnx_places(call, rule, *axis) for axis in zip(extents[2:], size[2:], scale[2:], strict=True)]
    if mode == "nearest":
        sources = [_onnx_rounded(call, at, extent) for at, extent in zip(places, extents[2:], strict=True)]
        for scales in (given, (0.0,) * len(given)):
            near = UpsampleNearest(size[2:], scales)
            if all(map(np.array_equal, near._sources(extents[2:]), sources)):
                return Imported(near, (x.name,))
    else:
        inside = [np.clip(at, 0, extent - 1) for at, extent in zip(places, extents[2:], strict=True)]
        for corners in (rule == "align_corners", rule != "align_corners"):
            linear = UpsampleLinear(size[2:], given, corners)
            ours = [first + fraction * (second - first) for first, second, fraction in linear._neighbours(extents[2:])]
            if all(np.allclose(a, b, atol=1e-4) for a, b in zip(ours, inside, strict=True)):
                return Imported(linear, (x.name,))
    rounding = f" and {call.text('nearest_mode', 'round_prefer_floor')}" if mode == "nearest" else ""
    raise UnsupportedOp(f"Resize: {mode} by {rule}{rounding}, from {extents[2:]} to {size[2:]} is not supported")


def _onnx_size(call: OnnxCall, extents: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Extents of the output, and the scale of every axis."""
    rank = len(extents)
    named = call.given("axes")
    axes = tuple(call.axis(a, rank) for a in named) if named is not None else tuple(range(rank))
    size, scale = list(extents), [1.0] * rank
    if call.has(2) and call.array(2).size:
        factors = [float(s) for s in call.array(2).reshape(-1)]
        call.require(len(factors) == len(axes) and min(factors) > 0, f"scales {factors}")
        for axis, factor in zip(axes, factors, strict=True):
            # the scale was a float32, and 0.6 of 5 is 3
            size[axis], scale[axis] = math.floor(extents[axis] * np.float32(factor)), factor
        return tuple(size), tuple(scale)
    call.require(call.text("keep_aspect_ratio_policy", "stretch") == "stretch", "keep_aspect_ratio_policy")
    wanted = call.extents(3)
    call.require(len(wanted) == len(axes), f"sizes {wanted}")
    for axis, extent in zip(axes, wanted, strict=True):
        is_batch = axis == 0 and extent in (BATCH, call.batch or 1)
        size[axis] = extents[0] if is_batch else bound(extent)
        scale[axis] = size[axis] / extents[axis]
    return tuple(size), tuple(scale)


def _onnx_places(call: OnnxCall, rule: str, extent: int, size: int, scale: float) -> np.ndarray:
    """float64 (size): where each output element lies among the `extent` input elements."""
    call.require(1 <= size <= _LONGEST, f"{size} elements along an axis")
    i = np.arange(size, dtype=np.float64)
    if rule == "half_pixel" or (rule == "pytorch_half_pixel" and size > 1):
        return (i + 0.5) / scale - 0.5
    if rule == "half_pixel_symmetric":
        return extent / 2 * (1 - size / (extent * scale)) + (i + 0.5) / scale - 0.5
    if rule == "align_corners":
        last = extent * scale - 1  # not size - 1, where the scale leaves a part of an element
        return i * (extent - 1) / last if last > 0 else i * 0.0
    call.require(rule in ("asymmetric", "pytorch_half_pixel"), f"coordinate_transformation_mode = {rule!r}")
    return i / scale if rule == "asymmetric" else i * 0.0


def _onnx_rounded(call: OnnxCall, places: np.ndarray, extent: int) -> np.ndarray:
    rounding: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    mode = call.text("nearest_mode", "round_prefer_floor")
    call.require(mode in rounding, f"nearest_mode = {mode!r}")
    sources: np.ndarray = np.clip(rounding[mode](places), 0, extent - 1).astype(np.int32)
    return sources


def _onnx_scale(extent: int, size: int, scale: float) -> np.float32:
    """The scale for ONNX, where the size is floor(extent * scale), in float32 or wider: next to `scale` where given."""
    if extent == size:
        return np.float32(1)
    wanted = np.float32(scale if math.floor(extent * scale) == size else size / extent)
    # the product with a scale that was rounded down can fall short of the size
    return wanted if math.floor(float(wanted) * extent) == size else np.nextafter(wanted, np.float32(np.inf))


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
        ((5, 8), (1.1, 2.2)),
        ((5, 4), (0.0, 0.0)),
    ):
        yield Sample(make(size, scale), (x,))
    yield Sample(make((13,), (2.6,)), (x[:, :, :, 0],))
