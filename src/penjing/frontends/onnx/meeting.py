"""What is known before any input is, where it meets an activation: an array as it is at both probes becomes a constant.

Along the batch it must be the same for all samples, and one of them is kept; so it is along the length. What differs
along the length must be the first part of the longest, as a table of positions is. What changes nothing, a mask of
padding where nothing is padded, vanishes: a sum with zeros, a product with ones, a choice that is always the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.frontends.onnx.model import OnnxNode
from penjing.ir.types import Shape, Type, is_batch, is_length
from penjing.ops.attention_mask import HIDDEN, HIDING, finite
from penjing.ops.onnx_call import Known, Ref, probed_extent

# Operators for which one sample of a constant does for all.
BROADCASTS = ("Add", "Sub", "Mul", "Div", "Sum", "Min", "Max", "Attention", "RotaryEmbedding")
_NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}
_EITHER = ("Add", "Mul")


@dataclass(frozen=True, eq=False)
class Met:
    """A known array without the axes along which it is the same.

    Attributes:
        array: the numbers; along `axes`, those of the longest sequence.
        shape: as the model has it.
        axes: those along which it follows the length.
    """

    array: np.ndarray
    shape: Shape
    axes: tuple[int, ...] = ()


def met(known: Known, longest: int | None) -> Met:
    """The known array without its batch, and without its length where that has no say.

    Raises:
        UnsupportedOp: it differs from sample to sample, or shorter sequences have other numbers.
    """
    what = f"takes %{known.name}, a constant that"
    if known.array.ndim != known.other.ndim:
        raise UnsupportedOp(f"{what} follows the size of the batch")
    shape = _extents(known.array.shape, known.other.shape, longest)
    if shape is None:
        raise UnsupportedOp(f"{what} mixes the batch with another axis")
    first, second = known.array, known.other
    for axis, extent in enumerate(shape):
        if isinstance(extent, int):
            continue
        alone = first.take([0], axis), second.take([0], axis)
        if bool((first == alone[0]).all()) and bool((second == alone[1]).all()):
            first, second = alone
        elif is_batch(extent):
            raise UnsupportedOp(f"{what} differs from sample to sample")
    axes = tuple(axis for axis, extent in enumerate(shape) if is_length(extent) and first.shape[axis] > 1)
    part = first[tuple(slice(second.shape[axis]) for axis in range(first.ndim))]
    if not np.array_equal(part, second):
        raise UnsupportedOp(f"{what} follows the length of a sequence, but not by its first elements")
    return Met(first, shape, axes)


def met_by(node: OnnxNode, known: Known, refs: Sequence[Ref], longest: int | None) -> Known | Met:
    """A known operand as activations meet it: floats without their batch; `Met` where they follow the length.

    Raises:
        UnsupportedOp: it follows the length in another way, or repeats what it meets.
    """
    own_rules = node.op in ("Attention", "RotaryEmbedding")  # these read what they know themselves
    if known.is_constant or not (own_rules or known.array.dtype.kind == "f"):
        return known
    found = met(known, longest)
    if len(found.axes) > 1 and not own_rules:
        what = f"takes %{known.name}, a constant that follows the length along {len(found.axes)} axes"
        raise UnsupportedOp(what, hint="of these, only a causal mask can be carried")
    whole = own_rules or not found.axes
    left_out = tuple(1 if axis in found.axes else extent for axis, extent in enumerate(found.shape))
    if not own_rules and not any(fits(ref.type, left_out) for ref in refs):
        raise UnsupportedOp(f"takes %{known.name}, which repeats what it meets along the batch or the length")
    return Known(known.name, found.array, found.array) if whole else found


def unchanged(node: OnnxNode, operands: Sequence[Ref | Known | None], longest: int | None) -> Ref | None:
    """The operand that a node gives back as it is; None where it computes something."""
    if node.domain:
        return None
    if node.op == "Expand":
        return _expanded(operands, longest)
    if node.op == "Where":
        return _chosen(operands, longest)
    if node.op not in _NEUTRAL or len(operands) != 2:
        return None
    a, b = operands
    pairs = [(a, b), (b, a)] if node.op in _EITHER else [(a, b)]
    for x, known in pairs:
        if not isinstance(x, Ref) or not isinstance(known, Known) or known.array.dtype.kind != "f":
            continue
        if all(bool((array == _NEUTRAL[node.op]).all()) for array in (known.array, known.other)):
            return x if _keeps(x.type, known, longest) else None
    return None


def mask_of(node: OnnxNode, operands: Sequence[Ref | Known | None], longest: int | None) -> tuple[Ref, Met] | None:
    """(scores, what is added to them) of a sum or choice that hides some; None where it is none."""
    if node.domain or node.op not in ("Add", "Where"):
        return None
    if node.op == "Add":
        for x, known in (operands, operands[::-1]):
            if isinstance(x, Ref) and isinstance(known, Known) and known.array.dtype.kind == "f":
                hides = bool((known.array <= HIDING).any())
                found = met(known, longest) if hides else None
                if found is not None and (found.axes or bool((found.array == -np.inf).any())):
                    return x, Met(finite(found.array).astype(np.float32), found.shape, found.axes)
        return None
    condition, *values = operands
    if not isinstance(condition, Known):
        return None
    for place, x in ((1, values[0]), (0, values[1])):
        fill = values[place]
        if not isinstance(x, Ref) or not isinstance(fill, Known) or not _keeps(x.type, fill, longest):
            continue
        if bool((fill.array <= HIDING).all()):
            found = met(condition, longest)
            hides = found.array.astype(bool) == (place == 0)
            return x, Met(np.where(hides, np.float32(HIDDEN), np.float32(0)), found.shape, found.axes)
    return None


def is_causal_at_any_length(mask: Met, scores: Type) -> bool:
    """Whether a mask that follows the length keeps steps 0 .. i for step i, and adds nothing else."""
    rank = mask.array.ndim
    if mask.axes != (rank - 2, rank - 1) or mask.array.size != mask.array.shape[-1] ** 2:
        return False
    if not (is_length(scores.shape[-1]) and is_length(scores.shape[-2])):
        return False
    square = mask.array.reshape(mask.array.shape[-2:])
    kept = np.tri(len(square)) > 0
    return bool((square[kept] == 0).all()) and bool((square[~kept] <= HIDING).all())


def fits(x: Type, shape: Shape) -> bool:
    """Whether a sum of x and what has this shape has the shape of x."""
    if len(shape) > x.rank:
        return False
    return all(n in (1, m) for n, m in zip(shape[::-1], x.shape[::-1], strict=False))


def _shape(known: Known | None, longest: int | None) -> Shape | None:
    """The shape of a known array; None where an extent is a mixture."""
    if known is None or known.array.ndim != known.other.ndim:
        return None
    return _extents(known.array.shape, known.other.shape, longest)


def _extents(first: Sequence[int], second: Sequence[int], longest: int | None) -> Shape | None:
    found = [probed_extent(a, b, longest) for a, b in zip(first, second, strict=True)]
    shape = tuple(extent for extent in found if extent is not None)
    return shape if len(shape) == len(found) else None


def _keeps(x: Type, known: Known, longest: int | None) -> bool:
    shape = _shape(known, longest)
    return shape is not None and fits(x, shape)


def _expanded(operands: Sequence[Ref | Known | None], longest: int | None) -> Ref | None:
    x, shape = operands
    if not isinstance(x, Ref) or not isinstance(shape, Known) or shape.array.shape != shape.other.shape:
        return None
    whole = _extents([int(n) for n in shape.array.reshape(-1)], [int(n) for n in shape.other.reshape(-1)], longest)
    return x if whole is not None and fits(x.type, whole) else None


def _chosen(operands: Sequence[Ref | Known | None], longest: int | None) -> Ref | None:
    condition, *values = operands
    if not isinstance(condition, Known):
        return None
    for value, other, wanted in ((values[0], values[1], True), (values[1], values[0], False)):
        if not isinstance(value, Ref):
            continue
        if all(bool((array == wanted).all()) for array in (condition.array, condition.other)):
            beside = other.type.shape if isinstance(other, Ref) else _shape(other, longest)
            shapes = (_shape(condition, longest), beside)
            return value if all(shape is not None and fits(value.type, shape) for shape in shapes) else None
    return None
