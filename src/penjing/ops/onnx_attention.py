"""ONNX's attention, and the rotary embedding beside it, which become several nodes.

Attention is torch's scaled dot product, with heads that may lie in one axis with the features (rank 3) or before the
steps (rank 4). The rotary embedding turns pairs of the first features by angles of which ONNX holds cos and sin once
for each pair; here each feature has its own, with the sign of the turn.
"""

from collections.abc import Collection, Mapping

import numpy as np

from penjing.ops.attention_mask import HIDDEN, HIDING
from penjing.ops.onnx_call import OnnxCall
from penjing.ops.torch_attention import attention as torch_attention
from penjing.ops.torch_call import Composed, Nodes, Ref, TorchCall


def attention(call: OnnxCall) -> Composed:
    """The nodes for `Attention`."""
    call.require(call.outputs == 1, "outputs of keys, values or scores that are read")
    call.require(not (call.has(4) or call.has(5)), "past keys and values")
    call.require(not call.has(6), "nonpad_kv_seqlen")
    call.require(call.number("softcap", 0.0) == 0, "a softcap of scores")
    for side in ("left", "right"):
        call.require(call.integer(f"{side}_window_size", -1) == -1, "a window")
    q, k, v = (call.activation(place) for place in range(3))
    rank = q.type.rank
    call.require(rank == k.type.rank == v.type.rank and rank in (3, 4), f"operands of rank {rank}")
    heads = [_heads(call, name, x) for name, x in (("q", q), ("kv", k), ("kv", v))]
    given = "scale" in call.attributes
    mask, causal = _mask(call, q, k)

    def build(nodes: Nodes, read: Collection[int]) -> Mapping[int, str]:
        split = [_split(nodes, x, count) for x, count in zip((q, k, v), heads, strict=True)]
        arguments: dict[str, object] = dict(zip(("query", "key", "value"), split, strict=True))
        if mask is not None:
            name = nodes.constant("mask", mask)
            arguments["attn_mask"] = Ref(name, nodes.type(name))
        arguments |= {"is_causal": causal, "dropout_p": 0.0, "enable_gqa": heads[0] != heads[1]}
        if given:
            arguments["scale"] = call.number("scale", 0.0)
        y = torch_attention(TorchCall(call.target, arguments, ())).build(nodes, read)[0]
        return {0: y if rank == 4 else _joined(nodes, y)}

    return Composed(build)


def _heads(call: OnnxCall, name: str, x: Ref) -> int:
    if x.type.rank == 4:
        return x.type.bounds[1]
    count = call.integer(f"{name}_num_heads", 0)
    call.require(count >= 1 and x.type.bounds[-1] % count == 0, f"{name}_num_heads = {count} for {x.type.bounds}")
    return count


def _mask(call: OnnxCall, q: Ref, k: Ref) -> tuple[np.ndarray | None, bool]:
    """(what is added to scores, whether later keys are hidden besides)."""
    causal = call.flag("is_causal")
    if not call.has(3):
        return None, causal
    array = call.array(3)
    call.require(array.dtype.kind in "fb", f"a mask of {array.dtype}")
    if array.dtype.kind == "b":
        array = np.where(array, 0.0, HIDDEN)
    array = np.where(array <= HIDING, HIDDEN, array).astype(np.float32)
    if not array.any():
        return None, causal
    if causal:
        call.require(not q.type.follows_length, "a mask and is_causal at once, of any length,")
        later = np.tri(q.type.bounds[-2], k.type.bounds[-2]) == 0
        array = np.where(later, np.float32(HIDDEN), array)
    return array, False


def _split(nodes: Nodes, x: Ref, heads: int) -> Ref:
    """(N, L, heads * D) -> (N, heads, L, D)."""
    from penjing.ops.permute import Permute
    from penjing.ops.reshape import Reshape

    if x.type.rank == 4:
        return x
    n, steps, width = x.type.shape
    assert isinstance(width, int)
    (apart,) = nodes.add(Reshape((n, steps, heads, width // heads)), x.name)
    (made,) = nodes.add(Permute((0, 2, 1, 3)), apart)
    return Ref(made, nodes.type(made))


def _joined(nodes: Nodes, y: str) -> str:
    """(N, heads, L, D) -> (N, L, heads * D)."""
    from penjing.ops.permute import Permute
    from penjing.ops.reshape import Reshape

    (turned,) = nodes.add(Permute((0, 2, 1, 3)), y)
    n, steps, heads, width = nodes.type(turned).shape
    assert isinstance(heads, int) and isinstance(width, int)
    return nodes.add(Reshape((n, steps, heads * width)), turned)[0]


def rotary(call: OnnxCall) -> Composed:
    """The nodes for `RotaryEmbedding`."""
    from penjing.ops.rotary import Rotary

    x = call.activation(0)
    rank = x.type.rank
    call.require(rank in (3, 4), f"an input of rank {rank}")
    heads = call.integer("num_heads", 0) if rank == 3 else x.type.bounds[1]
    call.require(heads >= 1 and (rank == 4 or x.type.bounds[-1] % heads == 0), f"num_heads = {heads}")
    features = x.type.bounds[-1] // (heads if rank == 3 else 1)
    turned = call.integer("rotary_embedding_dim", 0) or features
    interleaved = call.flag("interleaved")
    steps = x.type.bounds[-2]
    cos, sin = (_angles(call, place, steps, turned) for place in (1, 2))
    halves = (-sin, sin)
    if interleaved:
        tables = np.repeat(cos, 2, axis=1), np.stack(halves, axis=2).reshape(steps, turned)
    else:
        tables = np.concatenate([cos, cos], axis=1), np.concatenate(halves, axis=1)

    def build(nodes: Nodes, _: Collection[int]) -> Mapping[int, str]:
        value = _split(nodes, x, heads).name
        parts = _parts(nodes, value, turned)
        names = (nodes.constant("cos", tables[0]), nodes.constant("sin", tables[1]))
        (y,) = nodes.add(Rotary(2, interleaved), parts[0], *names)
        if len(parts) > 1:
            from penjing.ops.concat import Concat

            (y,) = nodes.add(Concat(3), y, parts[1])
        return {0: y if rank == 4 else _joined(nodes, y)}

    return Composed(build)


def _parts(nodes: Nodes, value: str, turned: int) -> tuple[str, ...]:
    """The features that turn, and those that do not."""
    from penjing.ops.split import Split

    features = nodes.type(value).bounds[-1]
    return (value,) if turned == features else nodes.add(Split(3, (turned, features - turned)), value)


def _angles(call: OnnxCall, place: int, steps: int, turned: int) -> np.ndarray:
    """cos or sin, one for each step and pair (T, D / 2)."""
    table = call.array(place)
    call.require(table.dtype.kind == "f", f"angles of {table.dtype}")
    if call.has(3):
        places = call.array(3)
        call.require(table.ndim == 2 and places.dtype.kind in "iu" and places.ndim == 2, f"{table.ndim} axes of angles")
        call.require(bool((places == places[:1]).all()), "places that differ from sample to sample")
        call.require(bool((places >= 0).all() and (places < len(table)).all()), "places outside its table")
        table = table[places[0]]
    elif table.ndim == 3:
        call.require(bool((table == table[:1]).all()), "angles that differ from sample to sample")
        table = table[0]
    call.require(table.shape == (steps, turned // 2), f"angles of {table.shape} for {steps} steps of {turned} features")
    return table.astype(np.float32)
