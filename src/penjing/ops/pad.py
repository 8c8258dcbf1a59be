"""Padding:  every axis extended before and after, except the batch.

    constant    a value: 0 for `pad`, any other for `pad_value`
    reflect     mirrored at the first and last element, which are not repeated:   c b | a b c | b a
    replicate   the first and last element repeated:                              a a | a b c | c c
    circular    the axis starts over:                                             b c | a b c | a b

The three that copy, and zeros, keep the codes of the input, since 0 is exact in every quantization. Another constant
may lie outside the input's range, so `pad_value` has a quantization of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from penjing.core.arithmetic import U8_MAX, U8_MIN, quantize
from penjing.ir.graph import Node
from penjing.ir.types import MAX_RANK, DType, Extent, Type
from penjing.ops.coupling import FREE, Coupling, Kept, alone, count_below, on_input, on_output
from penjing.ops.integer_samples import codes
from penjing.ops.lowering import Epilogue, Lowering, Order, channels_last, code_table
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import IntegerOperator, Operator, Param, QuantRule, Sample, expect
from penjing.ops.table import QTable
from penjing.ops.torch_call import Imported, TorchCall

MODES = ("constant", "reflect", "replicate", "circular")  # a mode's number in the kernel is its place here
_ONNX_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
_NUMPY_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}

AxisPads = tuple[int, ...]  # before and after for each axis in turn: length 2 * rank


def _pairs(pads: AxisPads) -> list[tuple[int, int]]:
    return list(zip(pads[0::2], pads[1::2], strict=True))


def _padded(x: Type, pads: AxisPads, mode: str, dtype: DType) -> tuple[Type, ...]:
    expect(mode in MODES, f"unknown padding mode {mode!r}")
    expect(len(pads) == 2 * x.rank, f"{len(pads)} pads for rank {x.rank}")
    expect(min(pads, default=0) >= 0, f"negative pads in {pads}")
    shape: list[Extent] = []
    for extent, (before, after) in zip(x.shape, _pairs(pads), strict=True):
        if before == after == 0:
            shape.append(extent)
            continue
        expect(isinstance(extent, int), f"an axis of symbolic extent {extent} cannot be padded")
        assert isinstance(extent, int)
        room = {"reflect": extent - 1, "circular": extent}.get(mode, max(before, after))
        expect(max(before, after) <= room, f"{mode} padding of {before} and {after} needs more than {extent} elements")
        shape.append(before + extent + after)
    return (Type(tuple(shape), dtype),)


def _pad(x: np.ndarray, pads: AxisPads, mode: str, value: float) -> np.ndarray:
    more: dict[str, Any] = {"mode": _NUMPY_MODES[mode]}
    if mode == "constant":
        more["constant_values"] = x.dtype.type(value)
    y: np.ndarray = np.pad(x, _pairs(pads), **more)
    return y


def _source_indices(extent: int, before: int, after: int, mode: str) -> np.ndarray:
    """For each place of a padded axis, the element that stands there; constant padding has none."""
    places: np.ndarray = np.arange(-before, extent + after)
    if mode == "replicate":
        places = np.clip(places, 0, extent - 1)
    elif mode == "circular":
        places = places % extent
    else:
        places = (extent - 1) - np.abs((extent - 1) - np.abs(places))
    return places


def _coupling(x: Type | None, y: Type, pads: AxisPads, is_constant: bool) -> Coupling:
    """Elements that are padded with a constant go with nothing; those that are copies keep their axis whole."""
    assert x is not None
    ties = []
    for axis, (before, after) in enumerate(_pairs(pads)):
        if axis and (is_constant or before == after == 0):
            extent = x.bounds[axis]
            padded = np.concatenate([np.full(before, FREE), alone(extent), np.full(after, FREE)])
            ties.append((on_input(0, axis, alone(extent)), on_output(axis, padded)))
    return Coupling(tuple(ties))


def _pads_left(pads: AxisPads, x: Kept | None, y: Kept) -> AxisPads:
    assert x is not None
    left = []
    for (before, after), inside, kept in zip(_pairs(pads), x, y, strict=True):
        first = count_below(kept, before) if before else 0
        left += [first, len(kept) - first - len(inside) if after else 0]
    return tuple(left)


def _torch_pads(call: TorchCall, rank: int) -> AxisPads:
    """torch lists (before, after) from the last axis forward and leaves the first axes out."""
    given = call.integers("pad" if "pad" in call.arguments else "padding")
    call.require(len(given) % 2 == 0 and len(given) <= 2 * rank, f"pads {given} for rank {rank}")
    pairs = [given[i : i + 2] for i in range(0, len(given), 2)]
    pads = (0,) * (2 * rank - len(given)) + tuple(n for pair in reversed(pairs) for n in pair)
    call.require(min(pads, default=0) >= 0, f"negative pads {given}")
    call.require(not any(pads[:2]), f"pads {given} that reach axis 0, the batch")
    return pads


def _torch_mode(call: TorchCall) -> str:
    if call.target == "aten.constant_pad_nd.default":
        return "constant"
    if call.target == "aten.pad.default":
        mode = call.arguments["mode"]
        call.require(mode in MODES, f"mode = {mode!r}")
        return str(mode)
    return "reflect" if "reflection" in call.target else "replicate"


@dataclass(frozen=True)
class Pad(Operator):
    """Input of any shape; output with `pads[2 * axis]` elements before and `pads[2 * axis + 1]` after on every axis."""

    name = "pad"
    torch = (
        "aten.pad.default",
        "aten.constant_pad_nd.default",
        "aten.reflection_pad1d.default",
        "aten.reflection_pad2d.default",
        "aten.replication_pad1d.default",
        "aten.replication_pad2d.default",
    )
    onnx = ("Pad",)
    quant_rule = QuantRule.SAME

    pads: AxisPads
    mode: str = "constant"

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        x = call.ref("self")
        mode, pads = _torch_mode(call), _torch_pads(call, x.type.rank)
        value = 0.0 if call.arguments.get("value") is None else call.number("value")
        call.require(bool(np.isfinite(value)), f"value = {value}")
        if not any(pads):
            return Imported(None, (x.name,))
        if mode == "constant" and value != 0:
            return Imported(PadValue(pads, value), (x.name,))
        return Imported(cls(pads, mode), (x.name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        x, given = call.activation(0), call.integers(1)
        rank, mode = x.type.rank, call.text("mode", "constant")
        named = call.integers(3) if call.has(3) else tuple(range(rank))
        axes = [call.axis(axis, rank) for axis in named]
        call.require(len(given) == 2 * len(axes) and len(set(axes)) == len(axes), f"pads {given} of axes {axes}")
        call.require(mode in _ONNX_MODES, f"mode = {mode!r}")
        pads = [0] * (2 * rank)
        for axis, before, after in zip(axes, given, given[len(axes) :], strict=False):
            pads[2 * axis : 2 * axis + 2] = before, after
        call.require(min(pads) >= 0, f"negative pads {given}")
        call.require(not any(pads[:2]), f"pads {given} that reach axis 0, the batch")
        value = call.scalar(2, 0.0)
        if not any(pads):
            return Imported(None, (x.name,))
        if mode == "constant" and value != 0:
            call.require(bool(np.isfinite(value)), f"the constant {value}")
            return Imported(PadValue(tuple(pads), value), (x.name,))
        return Imported(cls(tuple(pads), _ONNX_MODES[mode]), (x.name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(not any(self.pads[:2]), "the batch axis cannot be padded")
        return _padded(inputs[0], self.pads, self.mode, DType.F32)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_pad(inputs[0], self.pads, self.mode, 0.0),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        x = inputs[0]
        if self.mode == "constant":
            return _torch_constant(torch, x, self.pads, 0.0)
        for axis, (before, after) in enumerate(_pairs(self.pads)):
            if before or after:
                index = torch.from_numpy(_source_indices(x.shape[axis], before, after, self.mode))
                x = x.index_select(axis, index.to(x.device))
        return x

    def to_onnx(self, form: OnnxForm) -> None:
        if self.mode == "circular":
            _onnx_circular(form, self.pads)
        else:
            mode = _NUMPY_MODES[self.mode]
            form.result("Pad", form.input(0), form.integers("pads", self.pads[0::2] + self.pads[1::2]), mode=mode)

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        return _coupling(inputs[0], outputs[0], self.pads, is_constant=self.mode == "constant")

    def shrunk(self, inputs: tuple[Kept | None, ...], outputs: tuple[Kept, ...]) -> "Pad":
        return replace(self, pads=_pads_left(self.pads, inputs[0], outputs[0]))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        order = _padded_order(lowering, value, self.pads)
        op = QPad(_in_order(self.pads, order), self.mode, lowering.quant(value).zero_point)
        lowering.finish(epilogue, op, (lowering.placed(value, order),), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.arange(1, 1 + 2 * 3 * 5 * 4, dtype=np.float32).reshape(2, 3, 5, 4)
        for mode in MODES:
            yield Sample(cls((0, 0, 0, 0, 1, 2, 3, 0), mode), (x,))
            yield Sample(cls((0, 0, 2, 1), mode), (x.reshape(2, 60),))
        yield Sample(cls((0, 0, 4, 5, 0, 0, 0, 0)), (x,))
        yield Sample(cls((0, 0, 2, 1, 4, 4, 3, 3), "reflect"), (x,))
        yield Sample(cls((0, 0, 0, 0, 5, 5, 4, 4), "circular"), (x,))


@dataclass(frozen=True)
class PadValue(Operator):
    """Input of any shape; as `pad` with the constant `value`, which is not 0. Front ends make it from a pad."""

    name = "pad_value"

    pads: AxisPads
    value: float

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(not any(self.pads[:2]), "the batch axis cannot be padded")
        expect(bool(np.isfinite(self.value)), f"padding with {self.value}")
        return _padded(inputs[0], self.pads, "constant", DType.F32)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_pad(inputs[0], self.pads, "constant", self.value),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return _torch_constant(torch, inputs[0], self.pads, self.value)

    def to_onnx(self, form: OnnxForm) -> None:
        pads = form.integers("pads", self.pads[0::2] + self.pads[1::2])
        form.result("Pad", form.input(0), pads, form.floats("value", self.value), mode="constant")

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        return _coupling(inputs[0], outputs[0], self.pads, is_constant=True)

    def shrunk(self, inputs: tuple[Kept | None, ...], outputs: tuple[Kept, ...]) -> "PadValue":
        return replace(self, pads=_pads_left(self.pads, inputs[0], outputs[0]))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        order = _padded_order(lowering, value, self.pads)
        x = lowering.placed(value, order)
        source, target = lowering.quant(value), lowering.quant(epilogue.output)
        low, high = lowering.clamp_codes(epilogue)
        if source != target or (low, high) != (U8_MIN, U8_MAX):
            table = np.clip(code_table(source, target), low, high)
            x = lowering.emit(
                QTable(), (x, lowering.constant(f"{node.output}.codes", table)), f"{epilogue.output}.inside", target
            )
        code = int(np.clip(quantize(np.array(self.value), target.scale, target.zero_point), low, high))
        lowering.finish(epilogue, QPad(_in_order(self.pads, order), "constant", code), (x,), order)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.arange(2 * 3 * 5 * 4, dtype=np.float32).reshape(2, 3, 5, 4)
        yield Sample(cls((0, 0, 0, 0, 1, 2, 3, 0), 1.5), (x,))
        yield Sample(cls((0, 0, 2, 1), -7.0), (x.reshape(2, 60),))


def _onnx_circular(form: OnnxForm, pads: AxisPads) -> None:
    """Joined from pieces, axis by axis: the mode `wrap` is too young for most engines."""
    x = form.input(0)
    for axis, (before, after) in enumerate(_pairs(pads)):
        extent = form.type(0).bounds[axis]
        head = [form.slice(x, axis, extent - before, extent)] if before else []
        tail = [form.slice(x, axis, 0, after)] if after else []
        x = form.node("Concat", *head, x, *tail, axis=axis) if head or tail else x
    form.result("Identity", x)


def _torch_constant(torch: Any, x: Any, pads: AxisPads, value: float) -> Any:
    return torch.nn.functional.pad(x, [n for pair in reversed(_pairs(pads)) for n in pair], value=value)


def _padded_order(lowering: Lowering, value: str, pads: AxisPads) -> Order:
    """Images that get a border are wanted channels last: a convolution then takes the border over."""
    images = len(pads) == 8 and not any(pads[:4])
    return channels_last(4) if images else lowering.order(value)


def _in_order(pads: AxisPads, order: Order) -> AxisPads:
    pairs = _pairs(pads)
    return tuple(n for axis in order for n in pairs[axis])


@dataclass(frozen=True)
class QPad(IntegerOperator):
    """x u8 of rank up to 6; output with `pads` (before, after per axis), the constant being `code`."""

    name = "q_pad"

    pads: AxisPads
    mode: str
    code: int

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        expect(inputs[0].dtype is DType.U8, "q_pad moves u8")
        expect(0 <= self.code <= 255, f"{self.code} is no u8 code")
        return _padded(inputs[0], self.pads, self.mode, DType.U8)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_pad(inputs[0], self.pads, self.mode, self.code),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        lead = MAX_RANK - inputs[0].rank
        return {
            "source": (1,) * lead + inputs[0].bounds,
            "extent": (1,) * lead + outputs[0].bounds,
            "before": (0,) * lead + self.pads[0::2],
            "mode": MODES.index(self.mode),
            "code": self.code,
        }

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        rng = np.random.default_rng(47)
        for code, mode in zip((0, 7, 128, 255), MODES, strict=True):
            yield Sample(cls((0, 0, 1, 2, 2, 1, 0, 0), mode, code), (codes(rng, (2, 4, 5, 17)),))
            yield Sample(cls((0, 0, 0, 0, 3, 0, 0, 2), mode, code), (codes(rng, (1, 3, 4, 3)),))
            yield Sample(cls((0, 0, 0, 255), mode, code), (codes(rng, (1, 256)),))
        for channels in (1, 15, 16, 33):
            yield Sample(cls((0, 0, 0, 0, 0, 0, 8, 9), "constant", 3), (codes(rng, (1, 3, 2, channels)),))
        yield Sample(cls((0, 1, 1, 0, 0, 2, 1, 1, 2, 0, 1, 3), "constant", 9), (codes(rng, (2, 1, 3, 2, 2, 4)),))
        # axes with pads between axes without, from both ends, and none at all
        for mode in MODES:
            yield Sample(cls((0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0), mode, 5), (codes(rng, (2, 3, 2, 3, 2, 5)),))
            yield Sample(cls((0, 0, 0, 0, 1, 0), mode, 5), (codes(rng, (2, 3, 300)),))
            yield Sample(cls((0, 0, 0, 0), mode, 5), (codes(rng, (2, 3)),))
        for length in (31, 32, 63, 64, 65, 130):
            yield Sample(cls((0, 0, 0, 1, 2, 1), "constant", 3), (codes(rng, (2, 2, length)),))
        yield Sample(cls((1, 1, 2, 2, 1, 0), "reflect", 0), (codes(rng, (2, 3, 2)),))
        yield Sample(cls((2, 2, 3, 3, 2, 1), "circular", 0), (codes(rng, (2, 3, 2)),))
        yield Sample(cls((5, 4, 3, 3, 2, 1), "replicate", 0), (codes(rng, (2, 1, 2)),))
