"""Small causal decoders, made by hand: what streaming with caches is tested on."""

from dataclasses import dataclass

import numpy as np

from penjing import api
from penjing.ir.graph import Graph
from penjing.ops.add import Add
from penjing.ops.attend import Attend
from penjing.ops.embedding import Embedding
from penjing.ops.linear import Linear
from penjing.ops.matmul import Matmul
from penjing.ops.mul import Mul
from penjing.ops.permute import Permute
from penjing.ops.reshape import Reshape
from penjing.ops.rms_norm import RmsNorm
from penjing.ops.rotary import Rotary
from penjing.ops.silu import Silu
from penjing.testing.networks import BATCH, Network, batches

TOKENS, FEATURES = 9, 4  # of the alphabet; of a head


@dataclass(frozen=True)
class Form:
    """How a decoder is made.

    Attributes:
        groups, queries: heads of keys and values, and queries for each.
        rotary, learned, biased: positions by rotation, by a table that is added, by a bias on the scores.
        interleaved: which pairs are rotated.
    """

    groups: int = 2
    queries: int = 2
    rotary: bool = True
    learned: bool = False
    biased: bool = False
    interleaved: bool = False
    layers: int = 2


def decoder_network(form: Form, steps: int, seed: int = 0) -> Graph:
    """A float network ids (N, steps) -> logits (N, steps, TOKENS)."""
    net, width = Network("decoder", seed), form.groups * form.queries * FEATURES
    x = net.node(Embedding(), net.constant("table", net.rng.normal(size=(TOKENS, width))), net.ids(steps), out="x")
    if form.learned:
        x = net.node(Add(), x, net.constant("places", net.rng.normal(size=(steps, width))), out="placed")
    for k in range(form.layers):
        y = net.node(RmsNorm(), x, net.constant(f"{k}.gamma", np.linspace(0.5, 1.5, width)), out=f"{k}.norm")
        x = net.node(Add(), x, _attention(net, y, form, steps, f"{k}"), out=f"{k}.attended")
        y = net.node(RmsNorm(), x, net.constant(f"{k}.beta", np.ones(width)), out=f"{k}.second")
        gate = net.node(Silu(), _layer(net, y, 6, f"{k}.gate"), out=f"{k}.silu")
        y = net.node(Mul(), gate, _layer(net, y, 6, f"{k}.up"), out=f"{k}.product")
        x = net.node(Add(), x, _layer(net, y, width, f"{k}.down"), out=f"{k}.y")
    return net.done(_layer(net, x, TOKENS, "logits"))


def quantized_decoder(form: Form, steps: int) -> Graph:
    """Over sequences of so many steps."""
    graph = decoder_network(form, steps)
    return api.quantize(graph, list(batches(graph, 16)), observer="min-max")


def _layer(net: Network, x: str, outputs: int, out: str) -> str:
    return net.node(Linear(), x, net.weight(f"{out}.w", outputs, net.graph.types[x].bounds[-1]), out=out)


def _attention(net: Network, x: str, form: Form, steps: int, out: str) -> str:
    heads = form.groups * form.queries
    q, k, v = (
        _heads(net, _layer(net, x, n * FEATURES, f"{out}.{kind}"), n, steps, f"{out}.{kind}")
        for kind, n in (("q", heads), ("k", form.groups), ("v", form.groups))
    )
    if form.rotary:
        angles = np.outer(np.arange(steps), [1.0, 0.3])
        angles = np.repeat(angles, 2, axis=1) if form.interleaved else np.tile(angles, 2)
        signs = np.array([-1, 1, -1, 1] if form.interleaved else [-1, -1, 1, 1])
        tables = [net.constant(f"{out}.{n}", t) for n, t in (("cos", np.cos(angles)), ("sin", signs * np.sin(angles)))]
        q, k = (net.node(Rotary(2, form.interleaved), value, *tables, out=f"{value}.turned") for value in (q, k))
    split = (("q", q, form.queries), ("k", k, 1), ("v", v, 1))
    q, k, v = (
        net.node(Reshape((BATCH, form.groups, n, steps, FEATURES)), value, out=f"{out}.{kind}.grouped")
        for kind, value, n in split
    )
    scores = net.node(Matmul(0.5), q, net.node(Permute((0, 1, 2, 4, 3)), k, out=f"{out}.kt"), out=f"{out}.scores")
    if form.biased:
        distance = np.tri(steps) @ np.tri(steps)
        scores = net.node(Add(), scores, net.constant(f"{out}.bias", -0.1 * distance), out=f"{out}.biased")
    y = net.node(Attend(True), scores, v, out=f"{out}.values")
    y = net.node(Reshape((BATCH, heads, steps, FEATURES)), y, out=f"{out}.heads")
    y = net.node(Permute((0, 2, 1, 3)), y, out=f"{out}.steps")
    y = net.node(Reshape((BATCH, steps, heads * FEATURES)), y, out=f"{out}.joined")
    return _layer(net, y, heads * FEATURES, f"{out}.out")


def _heads(net: Network, x: str, count: int, steps: int, out: str) -> str:
    x = net.node(Reshape((BATCH, steps, count, FEATURES)), x, out=f"{out}.split")
    return net.node(Permute((0, 2, 1, 3)), x, out=f"{out}.by_head")
