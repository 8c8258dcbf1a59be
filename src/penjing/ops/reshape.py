"""Reshape and flatten: the same elements, in logical (row-major) order, under another shape."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Node
from penjing.ir.types import Dim, Extent, Shape, Type, bound, bounds, is_length
from penjing.ops.coupling import Coupling, Kept, Labels, alone, on_input, on_output
from penjing.ops.integer_samples import codes
from penjing.ops.lowering import Epilogue, Lowering, identity
from penjing.ops.onnx_call import BATCH, OnnxCall, at_probe
from penjing.ops.onnx_nodes import OnnxForm
from penjing.ops.operator import FloatRule, IntegerOperator, Operator, Param, QuantRule, Sample, expect
from penjing.ops.torch_call import Imported, Ref, TorchCall


def _resolved(x: Shape, shape: Shape) -> list[int]:
    """`shape` for an array of shape `x`.

    One kind of symbolic extent is what is left of the elements; where there are two, the first one leads both shapes.
    """
    known = [n if isinstance(n, int) else 0 for n in shape]
    symbolic = [n for n in shape if isinstance(n, Dim)]
    if len({n.name for n in symbolic}) > 1:
        known[0], symbolic = bound(x[0]), symbolic[1:]
    left = math.prod(bounds(x)) // math.prod(n for n in known if n)
    each = left if len(symbolic) == 1 else round(left ** (1 / len(symbolic))) if symbolic else 0
    return [n or each for n in known]


def _reshaped(x: np.ndarray, shape: Shape) -> np.ndarray:
    return x.reshape(_resolved(x.shape, shape))


def _check(x: Type, shape: Shape) -> None:
    y = Type(shape, x.dtype)
    expect(x.elements == y.elements, f"{x.elements} elements do not fit into {y.bounds}")
    before, after = ([e for e in s if isinstance(e, Dim)] for s in (x.shape, shape))
    expect(before == after, "a symbolic extent must keep its own axis")
    if not any(map(is_length, after)):
        expect(len(after) <= 1, "a symbolic extent must keep its own axis")
        return
    expect(_between(x.shape) == _between(shape), "the length must keep its own axis, with as much before and behind it")
    leads = isinstance(x.shape[0], Dim) and isinstance(shape[0], Dim) and after.count(after[0]) == 1
    expect(len(set(after)) == 1 or leads, "one symbolic extent, the batch or the length, must lead a shape with both")


def _between(shape: Shape) -> list[int]:
    """Elements before, between and behind symbolic extents."""
    products = [1]
    for extent in shape:
        if isinstance(extent, Dim):
            products.append(1)
        else:
            products[-1] *= extent
    return products


def _stretches(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of axes, on both sides, that hold the same elements."""
    stretches = []
    i = j = 0
    while i < len(before) and j < len(after):
        start, x, y = (i, j), before[i], after[j]
        i, j = i + 1, j + 1
        while x != y:
            if x < y:
                x, i = x * before[i], i + 1
            else:
                y, j = y * after[j], j + 1
        stretches.append((list(range(start[0], i)), list(range(start[1], j))))
    return stretches


def _digits(shape: tuple[int, ...], axes: list[int]) -> dict[int, Labels]:
    """Axis -> its index at every element of the run of `axes`; axes of one slice are left out."""
    index = np.indices([shape[axis] for axis in axes]).reshape(len(axes), -1)
    return {axis: digits for axis, digits in zip(axes, index, strict=True) if shape[axis] > 1}


_MIXES = "a shape that mixes the batch with another axis"


def _onnx_reshape(call: OnnxCall, x: Shape) -> Shape:
    """0 keeps an extent, -1 is what is left; the batch may be given as either, or as the model's own fixed batch."""
    if any(map(is_length, x)):
        return _onnx_reshape_at_probes(call, x)
    given = list(call.extents(1))
    if not call.flag("allowzero"):
        call.require(all(n != 0 or i < len(x) for i, n in enumerate(given)), f"shape {given} for rank {len(x)}")
        given = [x[i] if n == 0 else n for i, n in enumerate(given)]
    sizes = [n for n in given if isinstance(n, int) and n != -1]
    call.require(bool(given) and given.count(-1) <= 1 and min(sizes, default=1) > 0, f"shape {given}")
    where = x.index(BATCH)
    likely = [BATCH] if BATCH in given else [-1, call.batch]
    # several may do where there are extents of 1: then the batch stays where it is
    for at in sorted((i for i, n in enumerate(given) if n in likely), key=lambda i: (i != where, i)):
        shape = _with_batch_at(at, given, x)
        if shape is not None:
            return shape
    raise UnsupportedOp(f"{call.target} with {_MIXES} is not supported")


def _onnx_reshape_at_probes(call: OnnxCall, x: Shape) -> Shape:
    """The same of sequences of any length: the shape is resolved at both probes, and they tell what is symbolic."""
    where = x.index(BATCH)
    made = []
    for probe, given in enumerate(call.probed(1)):
        before = at_probe(x, probe)
        call.require(given.count(-1) <= 1 and all(n or i < len(x) for i, n in enumerate(given)), f"shape {given}")
        fixed = [before[i] if n == 0 and not call.flag("allowzero") else n for i, n in enumerate(given)]
        if where < len(fixed) and call.batch is not None and fixed[where] == call.batch:
            fixed[where] = before[where]
        left, lacks = divmod(math.prod(before), math.prod(n for n in fixed if n != -1) or 1)
        call.require(min(fixed, default=0) != 0 and not lacks, f"shape {given} of {before}")
        made.append(tuple(left if n == -1 else n for n in fixed))
    return call.as_extents(*made)


def _with_batch_at(at: int, given: list[Extent], x: Shape) -> Shape | None:
    """The shape whose axis `at` is the batch; None where that would not have the same elements on both its sides."""
    known = [bound(n) for i, n in enumerate(given) if i != at]
    one, rest = math.prod(bound(n) for n in x), math.prod(n for n in known if n != -1)
    left, lacks = divmod(one, rest)
    shape: list[Extent] = [left if n == -1 else n for n in given]
    shape[at] = BATCH
    before = [math.prod(bound(n) for n in some) for some in (x[: x.index(BATCH)], shape[:at])]
    fits = not lacks and (-1 in known or left == 1) and shape.count(BATCH) == 1 and before[0] == before[1]
    return tuple(shape) if fits else None


def _onnx_flatten(call: OnnxCall, x: Shape) -> Shape:
    axis = call.integer("axis", 1)
    axis = axis if axis == len(x) else call.axis(axis, len(x))
    halves = (x[:axis], x[axis:])
    call.require(all(BATCH not in some or math.prod(map(bound, some)) == 1 for some in halves), _MIXES)
    first, last = (BATCH if BATCH in some else math.prod(map(bound, some)) for some in halves)
    return (first, last)


def _onnx_squeeze(call: OnnxCall, x: Shape) -> Shape:
    axes = call.axes(1, since=13)
    # without axes, a batch of one would go as well
    call.require(axes is not None or (call.batch or 1) > 1, "no axes, so that a batch of one is dropped,")
    gone = {call.axis(a, len(x)) for a in axes} if axes is not None else {i for i, n in enumerate(x) if n == 1}
    call.require(all(x[axis] == 1 for axis in gone), f"axes {sorted(gone)} of {tuple(map(str, x))}")
    return tuple(n for i, n in enumerate(x) if i not in gone)


def _onnx_unsqueeze(call: OnnxCall, x: Shape) -> Shape:
    axes = call.axes(1, since=13) or ()
    rank = len(x) + len(axes)
    new = {call.axis(axis, rank) for axis in axes}
    call.require(len(new) == len(axes), f"axes {axes}")
    old = iter(x)
    return tuple(1 if i in new else next(old) for i in range(rank))


_ONNX_SHAPES = {
    "Reshape": _onnx_reshape,
    "Flatten": _onnx_flatten,
    "Squeeze": _onnx_squeeze,
    "Unsqueeze": _onnx_unsqueeze,
}


@dataclass(frozen=True)
class Reshape(Operator):
    """Input of any shape; output of `shape`, which keeps a symbolic extent as it is."""

    name = "reshape"
    torch = (
        "aten.view.default",
        "aten.reshape.default",
        "aten._unsafe_view.default",
        "aten.flatten.using_ints",
        "aten.unflatten.int",
        "aten.squeeze.dim",
        "aten.squeeze.dims",
        "aten.squeeze.default",
        "aten.unsqueeze.default",
    )
    onnx = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
    quant_rule = QuantRule.SAME
    float_rule = FloatRule.MOVES

    shape: Shape

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported:
        # every member of the family is told by its output shape alone
        source = next(a for a in call.arguments.values() if isinstance(a, Ref))
        return Imported(cls(call.outputs[0]), (source.name,))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported:
        x = call.activation(0)
        shape = _ONNX_SHAPES[call.target](call, x.type.shape)
        return Imported(None if shape == x.type.shape else cls(shape), (x.name,))

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        _check(inputs[0], self.shape)
        return (Type(self.shape),)

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_reshaped(inputs[0], self.shape),)

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        return inputs[0].reshape(_resolved(tuple(inputs[0].shape), self.shape))

    def to_onnx(self, form: OnnxForm) -> None:
        before = form.type(0).shape
        places = [0 if e in before[i : i + 1] else -1 for i, e in enumerate(self.shape)]  # 0 keeps the input's extent
        shape = [place if isinstance(e, Dim) else e for place, e in zip(places, self.shape, strict=True)]
        if shape.count(-1) > 1:
            raise UnsupportedOp("a reshape that moves the batch and the length at once", where=str(form.source))
        form.result("Reshape", form.input(0), form.integers("shape", shape))

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        assert inputs[0] is not None
        x, y = inputs[0].bounds, outputs[0].bounds
        choices = []
        for before, after in _stretches(x, y):
            old, new = _digits(x, before), _digits(y, after)
            if 0 in (*before, *after) or 1 not in (len(old), len(new)):
                continue  # the batch takes part, or several axes become several others
            if len(new) == 1:
                (flat,) = new
                options = [(on_input(0, a, alone(x[a])), on_output(flat, index)) for a, index in old.items()]
            else:
                (flat,) = old
                options = [(on_input(0, flat, index), on_output(a, alone(y[a]))) for a, index in new.items()]
            choices.append(tuple(options))
        ties = tuple(options[0] for options in choices if len(options) == 1)
        return Coupling(ties, tuple(options for options in choices if len(options) > 1))

    def shrunk(self, inputs: tuple[Kept | None, ...], outputs: tuple[Kept, ...]) -> "Reshape":
        left = zip(self.shape, outputs[0], strict=True)
        return Reshape(tuple(len(kept) if len(kept) < bound(extent) else extent for extent, kept in left))

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        value = node.inputs[0]
        order = identity(lowering.graph.types[value].rank)
        if lowering.is_float(epilogue.output):
            x = lowering.floats(value, order)
            lowering.finish_floats(epilogue, QReshape(self.shape), (x,), identity(len(self.shape)))
            return
        x = lowering.placed(value, order)
        lowering.finish(epilogue, QReshape(self.shape), (x,), identity(len(self.shape)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
        yield Sample(cls((1, 24)), (x,))
        yield Sample(cls((1, 4, 3, 2)), (x,))
        yield Sample(cls((1, 6, 4)), (x,))


@dataclass(frozen=True)
class QReshape(IntegerOperator):
    """x of any shape; output: the same bytes as `shape`."""

    name = "q_reshape"
    alias = True

    shape: Shape

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        _check(inputs[0], self.shape)
        return (Type(self.shape, inputs[0].dtype),)

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        return (_reshaped(inputs[0], self.shape),)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {"bytes": outputs[0].nbytes}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        x = codes(np.random.default_rng(8), (1, 16, 16))
        yield Sample(cls((1, 256)), (x,))
        yield Sample(cls((1, 2, 8, 16)), (x,))
