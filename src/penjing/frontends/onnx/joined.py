"""Axes that a model joins and takes apart again, as exporters do with the batch and the heads of attention.

No value of a graph joins its batch with another axis. One that a model joins is held as it was before, beside a list of
which of its axes are one axis there:

    x (B, H, L, D)  --Reshape-->  (B * H, L, D)              held as x, ((0, 1), (2,), (3,))
                    --Transpose 0 2 1-->  (B * H, D, L)      held as x with its last axes swapped, ((0, 1), (2,), (3,))
                    --Reshape-->  (B, H, D, L)               what is held

What works on each element, on each row, or on matrices side by side does so on the value that is held.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from penjing.core.errors import PenjingError, UnsupportedOp
from penjing.frontends.onnx.model import OnnxNode
from penjing.frontends.onnx.places import EACH_ELEMENT
from penjing.ir.types import MAX_RANK, Extent, Shape
from penjing.ops.onnx_call import BATCH, PROBES, Known, Ref, at_probe

Groups = tuple[tuple[int, ...], ...]
Probed = tuple[tuple[int, ...], tuple[int, ...]]

_SHAPES = frozenset({"Reshape", "Squeeze", "Unsqueeze"})
_MOST_EXTENTS = 2 * MAX_RANK  # of a shape in the model
_EACH_PAIR = frozenset({"Add", "Sub", "Mul", "Div"})


@dataclass(frozen=True, eq=False)
class Joined:
    """A value of which the model has joined some axes.

    Attributes:
        ref: the value with these axes apart.
        groups: for each axis that the model has, the axes of `ref` that it is made of; () for an extent of 1.
        maker: the node that joined them first.
        error: why the graph has no such value, to be told of `maker` where something reads it joined.
    """

    ref: Ref
    groups: Groups
    maker: OnnxNode
    error: PenjingError

    def extents(self) -> Probed:
        """The shape that the model has, at both probes."""
        held = at_probes(self.ref.type.shape)
        first, second = (tuple(math.prod(shape[i] for i in group) for group in self.groups) for shape in held)
        return first, second

    def rows(self) -> int:
        """How many of the last axes are axes of `ref` too."""
        count = 0
        for group in reversed(self.groups):
            if len(group) != 1:
                break
            count += 1
        return count


def at_probes(shape: Shape) -> Probed:
    """A shape as it is at both probes."""
    return at_probe(shape, 0), at_probe(shape, 1)


def changes_shape(node: OnnxNode) -> bool:
    """Whether a node gives the same elements in the same order."""
    return node.op in _SHAPES and not node.domain


def made_shapes(node: OnnxNode, before: Probed, known: Known | None, batch: int | None) -> Iterator[Probed]:
    """The shapes that a node may mean, at both probes: the batch of a model that fixes it may stand in any extent."""
    if node.op == "Reshape":
        if known is not None and known.array.shape == known.other.shape and known.array.size <= _MOST_EXTENTS:
            yield from _reshaped(known, before, bool(node.attributes.get("allowzero", 0)), batch)
        return
    axes = _axes(node, known)
    rank = len(before[0]) + (len(axes) if node.op == "Unsqueeze" else 0)
    if not axes or not all(-rank <= axis < rank for axis in axes):
        return
    at = {axis % rank for axis in axes}
    if node.op == "Squeeze" and all(shape[axis] == 1 for shape in before for axis in at):
        first, second = (tuple(n for i, n in enumerate(shape) if i not in at) for shape in before)
        yield first, second
    elif node.op == "Unsqueeze" and len(at) == len(axes):
        left = [iter(shape) for shape in before]
        first, second = (tuple(1 if i in at else next(extents) for i in range(rank)) for extents in left)
        yield first, second


def regroupings(shape: Shape, wanted: Iterable[Probed]) -> list[tuple[Shape, Groups]]:
    """What `regrouped` finds for each of the shapes that a node may mean, the likeliest first.

    That is one that joins nothing. Heads stand behind the batch, and features, the last axis, are not joined with it.
    """

    def unlikely(found: tuple[Shape, Groups]) -> tuple[bool, bool]:
        parts, groups = found
        if apart(parts, groups) is not None:
            return False, False
        batch = parts.index(BATCH)
        return batch in groups[-1], all(group[:1] != (batch,) for group in groups)

    return sorted(filter(None, (regrouped(shape, probed) for probed in wanted)), key=unlikely)


def regrouped(shape: Shape, wanted: Probed) -> tuple[Shape, Groups] | None:
    """`shape` with its extents split or multiplied so that each of `wanted` is a run of them; None if none are."""
    left: list[Extent] = [extent for extent in reversed(shape) if extent != 1]
    parts: list[Extent] = []
    groups = []
    for extents in zip(*wanted, strict=True):
        run = _run(left, *extents)
        if run is None:
            return None
        groups.append(tuple(range(len(parts), len(parts) + len(run))))
        parts += run
    return None if left else (tuple(parts), tuple(groups))


def _run(left: list[Extent], first: int, second: int) -> list[Extent] | None:
    """Extents, taken off the end of `left`, whose product is `first` and `second` at the probes."""
    run: list[Extent] = []
    while (first, second) != (1, 1):
        if not left:
            return None
        extent = left.pop()
        a, b = (at_probe((extent,), probe)[0] for probe in (0, 1))
        if first % a == 0 and second % b == 0:
            first, second = first // a, second // b
        elif isinstance(extent, int) and first == second and extent % first == 0:
            left.append(extent // first)
            extent, first, second = first, 1, 1
        else:
            return None
        if isinstance(extent, int) and run and isinstance(run[-1], int):
            run[-1] *= extent
        else:
            run.append(extent)
    return run


def apart(shape: Shape, groups: Groups) -> Shape | None:
    """The shape that a model has, where it joins nothing."""
    if any(len(group) > 1 for group in groups):
        return None
    return tuple(shape[group[0]] if group else 1 for group in groups)


def transposed(node: OnnxNode, groups: Groups) -> tuple[tuple[int, ...], Groups]:
    """(order of the axes that are held, groups of what it makes) of a `Transpose`."""
    perm = node.attributes.get("perm", tuple(reversed(range(len(groups)))))
    if not isinstance(perm, tuple) or sorted(perm) != list(range(len(groups))):
        raise UnsupportedOp(f"perm = {perm} for rank {len(groups)}")
    order = tuple(axis for place in perm for axis in groups[place])
    places = iter(range(len(order)))
    return order, tuple(tuple(next(places) for _ in groups[place]) for place in perm)


@dataclass(frozen=True)
class OnHeld:
    """What does to the values that are held what a node does to joined ones."""

    node: OnnxNode
    operands: Sequence[Ref | Known | None]


def on_held(node: OnnxNode, operands: Sequence[Ref | Known | Joined | None]) -> OnHeld | None:
    """What a node does, on the values that are held; None where there is no such."""
    joined = [value for value in operands if isinstance(value, Joined)]
    first, rows = joined[0], min(value.rows() for value in joined)
    same = OnHeld(node, [value.ref if isinstance(value, Joined) else value for value in operands])
    others = [value for value in operands if value is not None and not isinstance(value, Joined)]
    leads = operands[0] is first and all(isinstance(value, Known) for value in others)
    if node.op in EACH_ELEMENT:
        return same if leads else None
    if node.op == "Softmax":
        is_last = rows and node.attributes.get("axis") in (-1, len(first.groups) - 1)
        return replace(same, node=replace(node, attributes={"axis": -1})) if is_last else None
    if node.op in _EACH_PAIR:
        alike = all((v.groups, v.ref.type.shape) == (first.groups, first.ref.type.shape) for v in joined)
        met = [
            _along_rows(value, rows, len(first.groups)) if isinstance(value, Known) else value
            for value in same.operands
        ]
        fits = alike and all(isinstance(value, Known) for value in others) and None not in met
        return replace(same, operands=met) if fits else None
    if node.op == "MatMul" and len(joined) == 2:
        sides = [(v.groups[:-2], v.ref.type.shape[:-2]) for v in joined]
        return same if rows >= 2 and sides[0] == sides[1] else None
    return _product(same) if node.op in ("MatMul", "Gemm") and rows and leads else None


def _along_rows(known: Known, rows: int, rank: int) -> Known | None:
    """A known operand that has the last axes alone, which are not joined; None where it differs along others."""
    lead = max(known.array.ndim - rows, 0)
    if known.array.ndim > rank or any(
        extent != 1 for array in (known.array, known.other) for extent in array.shape[:lead]
    ):
        return None
    first, second = (array.reshape(array.shape[lead:]) for array in (known.array, known.other))
    return replace(known, array=first, other=second) if lead else known


def _product(same: OnHeld) -> OnHeld | None:
    """A product of rows with a matrix, as a `MatMul`, which takes rows of any rank, and a bias as a third input."""
    node, (x, w, *bias) = same.node, same.operands
    if not isinstance(w, Known) or w.array.ndim != 2:
        return None
    if node.op == "MatMul":
        return same
    read = node.attributes.get
    plain = (read("alpha", 1.0), read("beta", 1.0), read("transA", 0)) == (1.0, 1.0, 0)
    if not plain or w.quant is not None or any(isinstance(b, Known) and b.array.ndim != 1 for b in bias):
        return None
    if read("transB", 0):
        w = Known(w.name, w.array.T, w.other.T)
    return OnHeld(replace(node, op="MatMul", attributes={}), [x, w, *bias])


def _axes(node: OnnxNode, known: Known | None) -> tuple[int, ...]:
    axes = node.attributes.get("axes")
    if known is not None and known.array.size <= _MOST_EXTENTS:
        axes = tuple(int(axis) for axis in known.array.reshape(-1))
    return axes if isinstance(axes, tuple) else ()


def _reshaped(known: Known, before: Probed, allows_zero: bool, batch: int | None) -> Iterator[Probed]:
    """The target of a `Reshape` without 0 and -1; of a model for one batch, with each extent as what follows it."""
    for place in [None, *range(known.array.size)] if batch is not None else [None]:
        made = []
        for array, source, n in zip((known.array, known.other), before, PROBES, strict=True):
            target = [int(extent) for extent in array.reshape(-1)]
            if not allows_zero:
                target = [source[i] if extent == 0 and i < len(source) else extent for i, extent in enumerate(target)]
            if place is not None and batch is not None and target[place] > 0:
                target[place], lacks = divmod(target[place] * n, batch)
                target[place] = 0 if lacks else target[place]
            made.append(_filled(target, math.prod(source)))
        first, second = made
        if first is not None and second is not None:
            yield first, second


def _filled(target: list[int], elements: int) -> tuple[int, ...] | None:
    """A target of so many elements without -1; None where it does not fit."""
    given = [extent for extent in target if extent != -1]
    if min(given, default=1) < 1 or len(target) > len(given) + 1:
        return None
    left, lacks = divmod(elements, math.prod(given))
    fits = not lacks and (left == 1 or len(given) < len(target))
    return tuple(left if extent == -1 else extent for extent in target) if fits else None
