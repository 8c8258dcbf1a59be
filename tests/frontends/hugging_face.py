"""A BERT written as `transformers` writes it, as far as an exporter sees it: masks of padding, tables of positions."""

import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

WORDS, PLACES, WIDTH, HEADS, INNER = 50, 24, 12, 3, 20
NAMES = ["input_ids", "attention_mask", "token_type_ids"]


class Embeddings(nn.Module):
    """BertEmbeddings: three tables; places and segments are cut from buffers."""

    def __init__(self):
        super().__init__()
        self.word_embeddings = nn.Embedding(WORDS, WIDTH, padding_idx=0)
        self.position_embeddings = nn.Embedding(PLACES, WIDTH)
        self.token_type_embeddings = nn.Embedding(2, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.register_buffer("position_ids", torch.arange(PLACES).expand((1, -1)), persistent=False)
        self.register_buffer("token_type_ids", torch.zeros((1, PLACES), dtype=torch.long), persistent=False)

    def forward(self, input_ids, token_type_ids):
        batch, length = input_ids.size()
        position_ids = self.position_ids[:, :length]
        if token_type_ids is None:
            token_type_ids = self.token_type_ids[:, :length].expand(batch, length)
        x = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        return self.LayerNorm(x + self.position_embeddings(position_ids))


class Attention(nn.Module):
    """BertSelfAttention with BertSelfOutput: eager, or by scaled_dot_product_attention."""

    def __init__(self, eager):
        super().__init__()
        self.eager = eager
        self.query, self.key, self.value, self.dense = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=1e-12)

    def split(self, x):
        return x.view(*x.size()[:-1], HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)

    def forward(self, x, mask):
        q, k, v = (self.split(part(x)) for part in (self.query, self.key, self.value))
        if self.eager:
            scores = torch.matmul(q, k.transpose(-1, -2)) / (WIDTH // HEADS) ** 0.5
            y = torch.matmul(F.dropout(F.softmax(scores + mask, dim=-1), 0.1, self.training), v)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = y.permute(0, 2, 1, 3).contiguous()
        return self.LayerNorm(self.dense(y.view(*y.size()[:-2], WIDTH)) + x)


class Layer(nn.Module):
    """BertLayer."""

    def __init__(self, eager):
        super().__init__()
        self.attention = Attention(eager)
        self.intermediate, self.output = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x, mask):
        x = self.attention(x, mask)
        return self.LayerNorm(self.output(F.gelu(self.intermediate(x))) + x)


class Bert(nn.Module):
    """BertModel. `head`: 'tokens', 'pooler', or 'sentence', as sentence-transformers pools and normalises."""

    def __init__(self, *, eager=True, head="tokens", layers=1):
        super().__init__()
        self.embeddings, self.eager, self.head = Embeddings(), eager, head
        self.layers = nn.ModuleList(Layer(eager) for _ in range(layers))
        self.pooler = nn.Linear(WIDTH, WIDTH)

    def mask(self, attention_mask, x):
        """The extended attention mask: (n, 1, 1, l), for SDPA expanded to (n, 1, l, l)."""
        lowest = torch.finfo(x.dtype).min
        if self.eager:
            return (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * lowest
        n, length = attention_mask.shape
        expanded = attention_mask[:, None, None, :].expand(n, 1, length, length).to(x.dtype)
        inverted = 1.0 - expanded
        return inverted.masked_fill(inverted.to(torch.bool), lowest)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        x = self.embeddings(input_ids, token_type_ids)
        if attention_mask is None:
            attention_mask = torch.ones(input_ids.shape)
        mask = self.mask(attention_mask, x)
        for layer in self.layers:
            x = layer(x, mask)
        if self.head == "pooler":
            return x, torch.tanh(self.pooler(x[:, 0]))
        if self.head == "sentence":
            kept = attention_mask.unsqueeze(-1).expand(x.size()).to(x.dtype)
            mean = torch.sum(x * kept, 1) / torch.clamp(kept.sum(1), min=1e-9)
            return x, F.normalize(mean, p=2, dim=1)
        return x


def export(module: nn.Module, path: Path, *, dynamo: bool = False, names=NAMES, opset: int | None = None) -> Path:
    """As optimum exports it: batch and sequence are open."""
    ids = torch.randint(1, WORDS, (2, 7))
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    outputs = ["last_hidden_state", "sentence"][: 1 if module.head == "tokens" else 2]
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in names}
    options = {"dynamic_axes": axes | {"last_hidden_state": {0: "batch_size", 1: "sequence_length"}}}
    if dynamo:
        n, length = torch.export.Dim("batch_size"), torch.export.Dim("sequence_length", max=PLACES)
        options = {"dynamic_shapes": {name: {0: n, 1: length} for name in names}, "verbose": False}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), kwargs={name: given[name] for name in names}, f=path, input_names=list(names),
            output_names=outputs, dynamo=dynamo, opset_version=opset, **options,
        )  # fmt: skip
    return path
