"""A small causal decoder as language models are built today: tokens to logits of the next one, by blocks of

    x + attention(norm(x)),   then   x + down(silu(gate(y)) * up(y)) with y = norm(x)

with RMS norms (Zhang and Sennrich, 2019), rotary positions (Su et al., 2021), queries that share keys and values in
groups (Ainslie et al., 2023), and SwiGLU (Shazeer, 2020). Positions have no weights.
"""

import torch
from torch import nn
from torch.nn import functional

_BASE = 10000.0  # of the angles
Past = tuple[torch.Tensor, torch.Tensor]
"""Keys and values (N, groups, steps, D) of what a layer has read."""


def turned(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Each feature of (..., T, D) and that of the other half, turned by `angles` (T, D / 2)."""
    a, b = x.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Attention(nn.Module):
    """x (N, T, width) -> (N, T, width); `groups` heads of keys and values for `heads` of queries."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.groups, features = heads, groups, width // heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, groups * features, bias=False)
        self.value = nn.Linear(width, groups * features, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor, angles: torch.Tensor, past: Past | None = None) -> tuple[torch.Tensor, Past]:
        """The output, and keys and values of all steps so far; x is one step where there are some from before."""
        q, k, v = (
            layer(x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for layer, heads in ((self.query, self.heads), (self.key, self.groups), (self.value, self.groups))
        )
        q, k = turned(q, angles), turned(k, angles)
        if past is not None:
            k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=past is None, enable_gqa=True)
        return self.out(y.transpose(1, 2).flatten(2)), (k, v)


class Block(nn.Module):
    """One layer."""

    def __init__(self, width: int, heads: int, groups: int, hidden: int) -> None:
        super().__init__()
        self.before, self.between = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = Attention(width, heads, groups)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor, angles: torch.Tensor, past: Past | None = None) -> tuple[torch.Tensor, Past]:
        """As `Attention.forward`."""
        y, kept = self.attention(self.before(x), angles, past)
        x = x + y
        y = self.between(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y)), kept


class Decoder(nn.Module):
    """Tokens (N, T) of 0..tokens - 1 -> logits (N, T, tokens) of the one that follows each."""

    def __init__(
        self, tokens: int, *, width: int = 64, layers: int = 3, heads: int = 4, groups: int = 2, hidden: int = 160
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.blocks = nn.ModuleList(Block(width, heads, groups, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, tokens, bias=False)
        features = width // heads
        self.register_buffer("inverse", _BASE ** (-torch.arange(0, features, 2) / features), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The whole sequence at once."""
        return self.step(tokens)[0]

    def step(self, tokens: torch.Tensor, past: list[Past] | None = None) -> tuple[torch.Tensor, list[Past]]:
        """The logits of one more token, and what its layers have read, as torch generates text."""
        begin = 0 if past is None else past[0][0].shape[2]
        angles = torch.outer(torch.arange(begin, begin + tokens.shape[1]).float(), self.inverse)
        x, kept = self.embedding(tokens), []
        for i, block in enumerate(self.blocks):
            x, both = block(x, angles, None if past is None else past[i])
            kept.append(both)
        return self.head(self.norm(x)), kept
