"""A Transformer encoder of the size of all-MiniLM-L6-v2: 6 layers of width 384, 12 heads of 32, 1536 between.

Token embeddings are left out, so that every engine is given the same floats; weights are random, as speed does not
depend on them. Written as BERT is, which the fusions of other engines know: query, key and value are layers of their
own, the norm comes after the sum.
"""

import numpy as np
import torch
from torch import nn

LAYERS, WIDTH, HEADS, BETWEEN, LENGTH = 6, 384, 12, 1536, 128
TITLE = f"encoder {LAYERS}x{WIDTH}, length {LENGTH}"


class Block(nn.Module):
    """(N, LENGTH, WIDTH) to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, BETWEEN), nn.Linear(BETWEEN, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.gelu = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attention and a pair of layers, each added to what went in."""
        q, k, v = (
            layer(x).reshape(-1, LENGTH, HEADS, WIDTH // HEADS).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        heads = nn.functional.scaled_dot_product_attention(q, k, v)
        x = self.norm1(x + self.out(heads.transpose(1, 2).reshape(-1, LENGTH, WIDTH)))
        return self.norm2(x + self.down(self.gelu(self.up(x))))


def encoder() -> nn.Module:
    """In evaluation mode; the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(*(Block() for _ in range(LAYERS))).eval()


def inputs(count: int, seed: int) -> np.ndarray:
    """f32 (count, LENGTH, WIDTH), as a norm leaves them."""
    return np.random.default_rng(seed).normal(size=(count, LENGTH, WIDTH)).astype(np.float32)
