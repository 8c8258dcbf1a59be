"""Small networks with states, made by hand, in integers: what programs that remember are tested on."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from penjing import api
from penjing.ir.graph import Graph
from penjing.ops.add import Add
from penjing.ops.concat import Concat
from penjing.ops.conv1d import Conv1d
from penjing.ops.linear import Linear
from penjing.ops.mul import Mul
from penjing.ops.relu import Relu
from penjing.ops.slice import Slice
from penjing.ops.tanh import Tanh
from penjing.testing.decoders import Form, quantized_decoder
from penjing.testing.networks import Network
from penjing.testing.sequences import Layer, causal_network

_BATCHES = 4


def elman() -> Graph:
    """h = tanh(W x + U h + b), y = V h: a state whose codes its operator fixes, and that is an output as well."""
    net = Network("elman")
    x, h = net.input(8, name="x"), net.input(12, name="h")
    total = net.node(Add(), net.linear(x, 12, out="a"), net.linear(h, 12, out="b"), out="total")
    after = net.node(Tanh(), total, out="h_next")
    net.graph.outputs = (net.linear(after, 3, out="y"), after, net.node(Relu(), after, out="seen"))
    return _quantized(net.graph, {"h": "h_next"})


def window() -> Graph:
    """A causal convolution over the last 5 frames, of which 4 are kept: codes that only move."""
    net = Network("window")
    x, kept = net.input(6, 2, name="x"), net.input(6, 4, name="kept")
    frames = net.node(Concat(2), kept, x, out="frames")
    last = net.node(Slice(2, 2, 6, 1), frames, out="last")
    weights = net.weight("w", 9, 6, 5), net.weight("b", 9)
    net.graph.outputs = (net.node(Relu(), net.node(Conv1d(), frames, *weights, out="c"), out="y"), last)
    return _quantized(net.graph, {"kept": "last"})


def delay() -> Graph:
    """y = x + what came two calls ago: a state that replaces another, and an input that replaces a state."""
    net = Network("delay")
    x, first, second = (net.input(7, name=name) for name in ("x", "first", "second"))
    net.graph.outputs = (net.node(Add(), x, second, out="y"), x, first)
    return _quantized(net.graph, {"first": "x", "second": "first"})


def average() -> Graph:
    """A moving average m = 0.75 m + 0.25 x, and its product with the input: observed codes on both ends."""
    net = Network("average")
    x, m = net.input(40, name="x"), net.input(40, name="m")
    mixed = [
        net.node(Linear(), value, net.constant(name, np.eye(40) * share), out=f"{name}.y")
        for value, name, share in ((m, "old", 0.75), (x, "new", 0.25))
    ]
    after = net.node(Add(), *mixed, out="m_next")
    net.graph.outputs = (net.node(Mul(), x, after, out="y"), after)
    return _quantized(net.graph, {"m": "m_next"})


def sequences() -> Graph:
    """Quantized, over 15 steps: a network that streams with states of 8 and 16 bits, some of which begin at numbers."""
    layers = [Layer("gru", start=True), Layer("padded", 3, 2), Layer("lstm", start=True), Layer("chomped", 2)]
    graph = causal_network([*layers, Layer("rectified")], 15)
    return api.quantize(graph, list(_inputs(graph)))


def decoder() -> Graph:
    """A causal decoder with caches of 40 steps, step by step."""
    return api.lower(api.stream(quantized_decoder(Form(learned=True, layers=1), 40)))


def streamed() -> Graph:
    """That in pieces of 3 steps."""
    return api.lower(api.stream(sequences(), steps=3))


STATEFUL: Mapping[str, Callable[[], Graph]] = {
    made.__name__: made for made in (elman, window, delay, average, streamed, decoder)
}


def _quantized(graph: Graph, carry: Mapping[str, str]) -> Graph:
    return api.lower(api.quantize(graph, list(_inputs(graph)), carry=carry))


def _inputs(graph: Graph) -> Iterator[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(3)
    for _ in range(_BATCHES):
        yield tuple(rng.normal(size=(16, *graph.types[name].bounds[1:])).astype(np.float32) for name in graph.inputs)
