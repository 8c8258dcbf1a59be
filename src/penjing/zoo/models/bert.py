"""BERT as a sentence encoder: ids in, the mean of the tokens' vectors out (Devlin et al.; Reimers and Gurevych, 2019).

Modules are called as in the state dicts of Hugging Face's BertModel, so that published weights load as they are.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Embeddings(nn.Module):
    """ids (n, l) -> (n, l, width): a vector per word, one per place, and that of the first segment, normalised."""

    def __init__(self, words: int, places: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(words, width)
        self.position_embeddings = nn.Embedding(places, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """All in one segment."""
        at = self.position_embeddings(torch.arange(ids.shape[1])) + self.token_type_embeddings.weight[0]
        return self.LayerNorm(self.word_embeddings(ids) + at)


class SelfAttention(nn.Module):
    """Scaled dot products between all tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, l, width) -> the same."""
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Projection(nn.Module):
    """A linear layer back to the width of the stream, added to it and normalised."""

    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: torch.Tensor, stream: torch.Tensor) -> torch.Tensor:
        """(n, l, inner) and (n, l, width) -> (n, l, width)."""
        return self.LayerNorm(self.dense(x) + stream)


class Attention(nn.Module):
    """Self-attention around which the stream goes."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self = SelfAttention(width, heads)
        self.output = Projection(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, l, width) -> the same."""
        return self.output(self.self(x), x)


class Intermediate(nn.Module):
    """The wide half of the feed-forward part."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, l, width) -> (n, l, inner)."""
        return F.gelu(self.dense(x))


class Layer(nn.Module):
    """One block of the encoder, its norms behind the sums."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.intermediate = Intermediate(width, inner)
        self.output = Projection(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, l, width) -> the same."""
        x = self.attention(x)
        return self.output(self.intermediate(x), x)


class Encoder(nn.Module):
    """Blocks in a row."""

    def __init__(self, layers: int, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(width, heads, inner) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, l, width) -> the same."""
        for layer in self.layer:
            x = layer(x)
        return x


class SentenceEncoder(nn.Module):
    """ids (n, l) -> (n, width): the mean of the tokens' vectors. Sentences of a batch have the same length; no padding.

    The defaults are those of all-MiniLM-L6-v2: 22,565,376 parameters.
    """

    def __init__(
        self,
        words: int = 30522,
        places: int = 512,
        layers: int = 6,
        width: int = 384,
        heads: int = 12,
        inner: int = 1536,
    ) -> None:
        super().__init__()
        self.embeddings = Embeddings(words, places, width)
        self.encoder = Encoder(layers, width, heads, inner)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Not of length 1: two sentences are compared by the cosine of the angle between their vectors."""
        return self.encoder(self.embeddings(ids)).mean(1)
