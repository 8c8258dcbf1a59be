"""Small causal networks over sequences, made by hand: what streaming is tested on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penjing.ir.graph import Graph
from penjing.ops.add import Add
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.concat import Concat
from penjing.ops.conv1d import Conv1d
from penjing.ops.gru import Gru
from penjing.ops.lstm import Lstm
from penjing.ops.pad import Pad
from penjing.ops.permute import Permute
from penjing.ops.recurrent import Recurrent
from penjing.ops.relu import Relu
from penjing.ops.rnn import Rnn
from penjing.ops.slice import Slice
from penjing.ops.softmax import Softmax
from penjing.testing.networks import Network

UNITS = 5


@dataclass(frozen=True)
class Layer:
    """One layer of a causal network, by its name in `LAYERS`.

    Attributes:
        kind: its name.
        kernel, dilation: of convolutions.
        start: whether a recurrent layer begins with numbers, not with zeros.
    """

    kind: str
    kernel: int = 3
    dilation: int = 1
    start: bool = False


def causal_network(layers: Sequence[Layer], steps: int, features: int = 3, seed: int = 0) -> Graph:
    """A float network x (N, steps, features) -> y (N, steps, F), layer upon layer."""
    net = Network("causal", seed)
    value = net.input(steps, features)
    for i, layer in enumerate(layers):
        value = LAYERS[layer.kind](net, value, layer, f"l{i}")
    return net.done(net.linear(value, 4, out="y"))


def recurrent_layer(
    net: Network, x: str, op: Recurrent, out: str, *, units: int = UNITS, width: int = 0, start: bool = False
) -> str:
    """y (N, T, width) of a recurrent layer with biases; the width is that of its units unless it is projected."""
    rows, features, width = op.gates * units, net.graph.types[x].bounds[2], width or units
    inputs = [x, net.weight(f"{out}.w_ih", rows, features), net.weight(f"{out}.w_hh", rows, width)]
    inputs += [net.constant(f"{out}.{name}", 0.3 * net.rng.normal(size=rows)) for name in ("b_ih", "b_hh")]
    if isinstance(op, Lstm):
        inputs.append(net.weight(f"{out}.w_hr", width, units) if op.projected else "")
    if start:
        widths = (width, units) if isinstance(op, Lstm) else (width,)
        inputs += [net.constant(f"{out}.start{k}", net.rng.uniform(-1, 1, (1, n))) for k, n in enumerate(widths)]
    outputs = (f"{out}.y",) if isinstance(op, Rnn) else (f"{out}.y", f"{out}.last")
    while not inputs[-1]:
        inputs.pop()
    return net.graph.add_node(op, tuple(inputs), outputs).outputs[0]


def _recurrent(op: Recurrent, width: int = UNITS) -> Callable[[Network, str, Layer, str], str]:
    return lambda net, x, layer, out: recurrent_layer(net, x, op, out, width=width, start=layer.start)


def _padded(net: Network, x: str, layer: Layer, out: str) -> str:
    """A convolution behind a padding."""
    reach = (layer.kernel - 1) * layer.dilation
    line = net.node(Permute((0, 2, 1)), x, out=f"{out}.line")
    line = net.node(Pad((0, 0, 0, 0, reach, 0)), line, out=f"{out}.padded") if reach else line
    return _convolved(net, line, layer, out, (0, 0))


def _chomped(net: Network, x: str, layer: Layer, out: str) -> str:
    """A convolution that pads both ends, whose last steps are cut off after a batch norm."""
    reach, steps = (layer.kernel - 1) * layer.dilation, net.graph.types[x].bounds[1]
    line = net.node(Permute((0, 2, 1)), x, out=f"{out}.line")
    y = _convolved(net, line, layer, out, (reach, reach))
    return net.node(Slice(1, 0, steps), y, out=f"{out}.cut") if reach else y


def _convolved(net: Network, line: str, layer: Layer, out: str, padding: tuple[int, int]) -> str:
    weight = net.weight(f"{out}.w", UNITS, net.graph.types[line].bounds[1], layer.kernel)
    y = net.node(Conv1d(1, padding, layer.dilation), line, weight, net.weight(f"{out}.b", UNITS), out=f"{out}.conv")
    y = net.node(Relu(), y, out=f"{out}.relu")
    ones = [net.constant(f"{out}.{k}", net.rng.uniform(0.5, 1.5, UNITS)) for k in ("gamma", "beta", "mean", "var")]
    return net.node(Permute((0, 2, 1)), net.node(BatchNorm(), y, *ones, out=f"{out}.norm"), out=f"{out}.steps")


def _residual(net: Network, x: str, layer: Layer, out: str) -> str:
    inner = net.node(Relu(), net.linear(x, net.graph.types[x].bounds[2], out=f"{out}.fc"), out=f"{out}.relu")
    total = net.node(Add(), x, inner, out=f"{out}.sum")
    bias = net.constant(f"{out}.shift", net.rng.normal(size=net.graph.types[x].bounds[2]))
    return net.node(Relu(), net.node(Add(), total, bias, out=f"{out}.shifted"), out=f"{out}.y")


def _joined(net: Network, x: str, layer: Layer, out: str) -> str:
    return net.node(Concat(2), net.node(Softmax(2), x, out=f"{out}.soft"), x, out=f"{out}.both")


LAYERS: Mapping[str, Callable[[Network, str, Layer, str], str]] = {
    "gru": _recurrent(Gru()),
    "lstm": _recurrent(Lstm()),
    "projected": _recurrent(Lstm(False, True), 3),
    "rnn": _recurrent(Rnn()),
    "rectified": _recurrent(Rnn(False, True)),
    "padded": _padded,
    "chomped": _chomped,
    "residual": _residual,
    "joined": _joined,
}


def joined_steps(pieces: np.ndarray) -> np.ndarray:
    """(1, T, F) of the outputs of calls (calls, steps, F)."""
    whole: np.ndarray = pieces.reshape(1, -1, *pieces.shape[2:])
    return whole
