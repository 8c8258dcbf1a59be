"""torch's scaled dot product attention, which becomes several nodes:

    softmax(q @ k^T * scale + mask) @ v

The scale is the product's own, and costs nothing. Of a constant mask, what is HIDING or less is hidden; what
is left is added to the scores, if it is not all zeros. Grouped queries are one more leading axis, along
which keys and values repeat.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.ir.types import Shape, Type, bound
from penjing.ops.attention_mask import is_causal, split_mask
from penjing.ops.torch_call import Composed, Nodes, Ref, TorchCall

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def attention(call: TorchCall) -> Composed:
    """The nodes for aten.scaled_dot_product_attention."""
    q, k, v = (call.ref(name) for name in ("query", "key", "value"))
    call.require(q.type.rank == k.type.rank == v.type.rank and q.type.rank >= 3, "operands of different ranks")
    call.require(float(call.number("dropout_p")) == 0.0, "dropout, as in training,")
    mask = call.arguments.get("attn_mask")
    causal = call.flag("is_causal")
    call.require(not (causal and mask is not None), "a mask and is_causal at once")
    given = call.arguments.get("scale")
    scale = 1 / math.sqrt(q.type.bounds[-1]) if given is None else call.number("scale")
    groups = _groups(call, q.type, k.type, v.type)

    def build(nodes: Nodes, _: Collection[int]) -> Mapping[int, str]:
        kept, added = _mask(nodes, mask, q.type, k.type) if isinstance(mask, Ref) else (None, None)
        names = q.name, k.name, v.name
        if groups is not None:
            names = _grouped(nodes, names, groups)
            kept, added = (_grouped_mask(array, q.type, groups) for array in (kept, added))
        return {0: _ungrouped(nodes, _composed(nodes, names, scale, kept, added, causal), groups)}

    return Composed(build)


def _composed(
    nodes: Nodes,
    names: tuple[str, str, str],
    scale: float,
    kept: np.ndarray | None,
    added: np.ndarray | None,
    causal: bool,
) -> str:
    from penjing.ops.add import Add
    from penjing.ops.attend import Attend
    from penjing.ops.matmul import Matmul
    from penjing.ops.permute import Permute

    q, k, v = names
    rank = nodes.type(k).rank
    (transposed,) = nodes.add(Permute((*range(rank - 2), rank - 1, rank - 2)), k)
    (scores,) = nodes.add(Matmul(scale), q, transposed)
    if added is not None:
        (scores,) = nodes.add(Add(), scores, nodes.constant("bias", added))
    if kept is not None and is_causal(kept, nodes.type(scores)):
        kept, causal = None, True
    masks = () if kept is None else (nodes.constant("mask", kept),)
    return nodes.add(Attend(causal), scores, v, *masks)[0]


def _mask(nodes: Nodes, mask: Ref, q: Type, k: Type) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(1 where kept and 0 where hidden, what is added to what is kept), None where there is none."""
    array = nodes.value(mask.name)
    if array is None:
        raise UnsupportedOp(
            "with attn_mask computed from the input", hint="register the mask as a buffer, or use is_causal"
        )
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    shape = (*q.bounds[1:-1], k.bounds[-2])
    fits = array.ndim <= len(shape) and all(m in (1, n) for m, n in zip(array.shape[::-1], shape[::-1], strict=False))
    if not fits:
        raise UnsupportedOp(f"with attn_mask of shape {array.shape} for scores of shape (batch, {shape})")
    kept, added = split_mask(array)
    if kept is not None and not np.broadcast_to(kept, (*kept.shape[:-1], shape[-1])).any(axis=-1).all():
        raise UnsupportedOp("with attn_mask that hides every key of some query, which gives NaN")
    return kept, added


def _groups(call: TorchCall, q: Type, k: Type, v: Type) -> tuple[int, int] | None:
    """(heads of keys, queries for each of them), None where every head has its own."""
    if not call.arguments.get("enable_gqa"):
        return None
    call.require(q.rank == 4 and k.bounds[1] == v.bounds[1], f"enable_gqa for {k.bounds} keys and {v.bounds} values")
    heads = k.bounds[1]
    call.require(q.bounds[1] % heads == 0, f"enable_gqa for {q.bounds[1]} heads of queries and {heads} of keys")
    return None if q.bounds[1] == heads else (heads, q.bounds[1] // heads)


def _grouped(nodes: Nodes, names: tuple[str, str, str], groups: tuple[int, int]) -> tuple[str, str, str]:
    from penjing.ops.reshape import Reshape

    def split(name: str, repeat: int) -> str:
        n, _, *rest = nodes.type(name).shape
        shape: Shape = (n, groups[0], repeat, *rest)
        return nodes.add(Reshape(shape), name)[0]

    q, k, v = names
    return split(q, groups[1]), split(k, 1), split(v, 1)


def _ungrouped(nodes: Nodes, y: str, groups: tuple[int, int] | None) -> str:
    from penjing.ops.reshape import Reshape

    if groups is None:
        return y
    n, _, _, *rest = nodes.type(y).shape
    return nodes.add(Reshape((n, groups[0] * groups[1], *rest)), y)[0]


def _grouped_mask(array: np.ndarray | None, q: Type, groups: tuple[int, int]) -> np.ndarray | None:
    if array is None or array.ndim < 3 or array.shape[0] == 1:
        return array
    assert array.shape[0] == bound(q.shape[1])
    return array.reshape(*groups, *array.shape[1:])
