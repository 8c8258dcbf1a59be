"""Tensors that are known before any input is: parameters, buffers, and what the module computes from those alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.core.errors import InvalidInput, UnsupportedOp
from penjing.frontends.exported.metadata import BATCH, is_plain_number, longest, shape_of, tensors_in
from penjing.frontends.exported.places import source_of, stem_of
from penjing.frontends.exported.trace import import_torch
from penjing.ir.graph import Graph
from penjing.ir.types import Constant, Dim, Names, Shape, is_length
from penjing.ops.attention_mask import HIDDEN
from penjing.ops.torch_call import Ref


@dataclass(eq=False)
class Fixed:
    """A known tensor, the name of the constant it would become, and the place that computes it, if any does.

    Along `axes` it is what the longest sequence needs, and shorter ones take its first elements. Where it is `batched`,
    torch says that it is as large as the batch, and this is what it has for each sample.
    """

    tensor: Any
    stem: str
    where: str = ""
    axes: tuple[int, ...] = ()
    batched: bool = False


# Calls that make the same for all samples, where the batch is one of the extents that they are given.
ALIKE = frozenset({"expand", "expand_as", "full", "full_like", "ones", "ones_like", "zeros", "zeros_like"})
# Calls for which one sample of a constant does for all.
BROADCASTS = frozenset({"add", "sub", "rsub", "mul", "div", "where", "masked_fill", "scaled_dot_product_attention"})
_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1}


def plain_name(target: str) -> str:
    """`add` of `aten.add_.Tensor`."""
    parts = target.split(".")
    return parts[1].rstrip("_") if len(parts) == 3 else target


def is_neutral(fixed: Fixed, target: str, position: int) -> bool:
    """Whether a call gives its other operand back: a sum with zeros, or a product with ones.

    `position` is that of the known operand.
    """
    name = plain_name(target)
    if name not in _NEUTRAL or (position == 0 and name not in ("add", "mul")) or not fixed.tensor.is_floating_point():
        return False
    return bool((fixed.tensor == _NEUTRAL[name]).all())


def alone(fixed: Fixed) -> Fixed:
    """The tensor with one element along the length, where all are the same there."""
    tensor, axes = fixed.tensor, []
    for axis in fixed.axes:
        first = tensor.narrow(axis, 0, 1)
        if bool((tensor == first).all()):
            tensor = first
        else:
            axes.append(axis)
    return Fixed(tensor, fixed.stem, fixed.where, tuple(axes), fixed.batched)


def identity(tensor: Any) -> tuple[object, ...]:
    """Equal for tensors that are the same numbers in the same memory."""
    return (tensor.data_ptr() or id(tensor), tuple(tensor.shape), tuple(tensor.stride()), str(tensor.dtype))


def fold(node: Any, held: Mapping[Any, object], dims: Mapping[str, Dim]) -> Fixed | tuple[Fixed, ...]:
    """Evaluate a call whose inputs are all known, for a batch of one and the longest sequence.

    On clones, because it may write into them.
    """
    torch = import_torch()

    def now(n: Any) -> Any:
        known = held[n]
        if isinstance(known, Fixed):
            return known.tensor.clone()
        return n.meta["val"] if is_plain_number(n.meta["val"]) else longest(n.meta["val"], dims) or 1

    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), now)
    with torch.no_grad():
        result = node.target(*args, **kwargs)
    where = str(source_of(node))
    shapes = [shape_of(val, dims) for val in tensors_in(node.meta["val"])]
    marks = [(_steps(shape), bool(dims) and BATCH in (shape or ())) for shape in shapes]
    if isinstance(result, torch.Tensor):
        return Fixed(result, stem_of(node), where, *marks[0])
    return tuple(Fixed(part, f"{stem_of(node)}.{i}", where, *marks[i]) for i, part in enumerate(result))


def _steps(shape: Shape | None) -> tuple[int, ...]:
    """The axes that are as long as the sequence."""
    return tuple(axis for axis, extent in enumerate(shape or ()) if is_length(extent))


def hides(fixed: Fixed, target: str) -> bool:
    """Whether a known tensor is a mask for scores: what a call adds or puts in, with -inf for what it hides."""
    tensor = fixed.tensor
    if target.split(".")[1] not in ("add", "add_", "masked_fill", "where") or not tensor.is_floating_point():
        return False
    return bool((tensor == -float("inf")).any()) and not bool((tensor.isnan() | (tensor == float("inf"))).any())


class Pool:
    """The constants of the graph under construction: each known tensor becomes one at its first use."""

    def __init__(self, graph: Graph, names: Names, faults: list[InvalidInput]) -> None:
        self._graph = graph
        self._names = names
        self._faults = faults
        self._made: dict[Fixed, Ref] = {}
        self._origins: dict[str, Fixed] = {}

    def constant(self, stem: str, array: np.ndarray) -> Ref:
        """A new constant of the graph."""
        name = self._graph.add_constant(self._names.fresh(stem), Constant(array))
        return Ref(name, self._graph.types[name])

    def made(self, fixed: Fixed) -> Ref:
        """The constant of a known tensor."""
        if fixed not in self._made:
            self._made[fixed] = self.constant(fixed.stem, self._float32(fixed))
            self._origins[self._made[fixed].name] = fixed
        return self._made[fixed]

    def mask(self, fixed: Fixed) -> Ref:
        """The constant of a known attention mask, as what is added to scores; a bool keeps where it is true."""
        torch, tensor = import_torch(), fixed.tensor
        if tensor.dtype == torch.bool:
            tensor = torch.zeros(tensor.shape).masked_fill(~tensor, -torch.inf)
        return self.made(Fixed(torch.where(tensor == -torch.inf, HIDDEN, tensor.float()), fixed.stem, fixed.where))

    def origin(self, name: str) -> Fixed | None:
        """The known tensor behind a constant."""
        return self._origins.get(name)

    def value(self, name: str) -> np.ndarray | None:
        """The array of a constant; None for an activation."""
        constant = self._graph.constants.get(name)
        return None if constant is None else constant.array

    def _float32(self, fixed: Fixed) -> np.ndarray:
        tensor = fixed.tensor.detach().cpu()
        if tensor.is_complex():
            raise UnsupportedOp(f"the complex numbers of {fixed.stem} cannot be carried")
        array: np.ndarray = tensor.float().numpy()
        wrong = ~np.isfinite(array)
        if wrong.any():
            first = [int(i) for i in np.argwhere(wrong)[0]]
            said = f"{int(wrong.sum())} of {array.size} numbers of {fixed.stem} are NaN or infinite in float32"
            hint = "the training run that made them diverged: start from an earlier checkpoint"
            self._faults.append(InvalidInput(f"{said}, the first at {first}", where=fixed.where or None, hint=hint))
        return array
