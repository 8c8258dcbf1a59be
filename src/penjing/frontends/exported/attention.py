"""Multi-head attention of torch.nn, traced batch first.

torch's own code folds the heads into the axis of the batch, (L, N * H, D), and back, which no graph can follow whose
batch is an axis of its own; its fast path hides everything in one operator. While a module is exported, the function
that computes attention is therefore this one, of the same arguments and results. The parity check compares what comes
of it with the module as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

# Arguments that are left to torch: what they ask for is refused later, where it stands.
_OTHERS = ("bias_k", "bias_v", "static_k", "static_v", "key_padding_mask")


@contextmanager
def batch_first_attention(torch: Any) -> Iterator[None]:
    """`torch.nn.functional.multi_head_attention_forward` as above, and no fast path, until the end of the block."""
    functional = torch.nn.functional
    own = functional.multi_head_attention_forward
    names = signature(own)
    is_fast = torch.backends.mha.get_fastpath_enabled()

    def forward(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        bound = names.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        mask = given["attn_mask"]
        others = any(given[name] is not None for name in _OTHERS) or given["add_zero_attn"] or given["training"]
        if others or given["query"].dim() != 3 or (mask is not None and mask.dim() != 2):
            return own(*args, **kwargs)  # type: ignore[no-any-return]
        return _attend(torch, given)

    torch.backends.mha.set_fastpath_enabled(False)
    functional.multi_head_attention_forward = forward
    try:
        yield
    finally:
        functional.multi_head_attention_forward = own
        torch.backends.mha.set_fastpath_enabled(is_fast)


def _attend(torch: Any, given: dict[str, Any]) -> tuple[Any, Any]:
    """(output (L, N, E), weights (N, L, S) or (N, H, L, S) if they are needed)."""
    functional, heads = torch.nn.functional, given["num_heads"]
    q, k, v = (
        functional.linear(x.transpose(0, 1), w, b).unflatten(-1, (heads, -1)).transpose(1, 2)
        for x, w, b in zip((given["query"], given["key"], given["value"]), *_projections(given), strict=True)
    )
    mask, causal = given["attn_mask"], given["is_causal"] and not given["need_weights"]
    if mask is not None and mask.dtype == torch.bool:
        mask = ~mask  # there True hides, here it keeps
    y = functional.scaled_dot_product_attention(q, k, v, None if causal else mask, is_causal=causal)
    y = functional.linear(y.transpose(1, 2).flatten(2), given["out_proj_weight"], given["out_proj_bias"])
    needed = given["need_weights"]
    return y.transpose(0, 1), _weights(torch, q, k, mask, given["average_attn_weights"]) if needed else None


def _projections(given: dict[str, Any]) -> tuple[Any, Any]:
    bias = given["in_proj_bias"]
    biases = (None, None, None) if bias is None else bias.chunk(3)
    if given["use_separate_proj_weight"]:
        return tuple(given[f"{name}_proj_weight"] for name in "qkv"), biases
    return given["in_proj_weight"].chunk(3), biases


def _weights(torch: Any, q: Any, k: Any, mask: Any, average: bool) -> Any:
    """softmax(q @ k^T / sqrt(D) + mask), as attention of the rows of a unit matrix."""
    unit = torch.eye(k.shape[-2], dtype=k.dtype, device=k.device)[None, None]
    weights = torch.nn.functional.scaled_dot_product_attention(q, k, unit, mask)
    return weights.mean(dim=1) if average else weights
