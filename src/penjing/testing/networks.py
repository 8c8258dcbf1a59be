"""Small networks made by hand, for tests: a few lines per graph, constants from a seeded generator."""

from collections.abc import Iterator

import numpy as np

from penjing.ir.graph import Graph, Operation
from penjing.ir.types import Constant, Dim, DType, Shape, Source, Type
from penjing.ir.verify import verify
from penjing.ops.conv2d import Conv2d
from penjing.ops.embedding import id_rows
from penjing.ops.linear import Linear
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu
from penjing.ops.reshape import Reshape

BATCH = Dim("batch", 1)


class Network:
    """Builds a Graph node by node; every method returns the name of the value that it made."""

    def __init__(self, name: str = "net", seed: int = 0) -> None:
        self.graph = Graph(name)
        self.rng = np.random.default_rng(seed)

    def input(self, *shape: int, name: str = "x") -> str:
        """A graph input of one sample's `shape`, behind a batch axis."""
        return self.graph.add_input(name, Type((BATCH, *shape)))

    def ids(self, *shape: int, name: str = "ids") -> str:
        """A graph input of ids."""
        return self.graph.add_input(name, Type((BATCH, *shape), DType.S32))

    def constant(self, name: str, array: np.ndarray) -> str:
        """A float32 constant."""
        return self.graph.add_constant(name, Constant(np.asarray(array, np.float32)))

    def weight(self, name: str, *shape: int) -> str:
        """A constant of normal numbers, scaled so that a layer's outputs are about as large as its inputs."""
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        return self.constant(name, self.rng.normal(size=shape) / np.sqrt(fan_in))

    def node(self, op: Operation, *inputs: str, out: str, source: Source | None = None) -> str:
        """One application of `op`."""
        return self.graph.add_node(op, inputs, (out,), *([source] if source else [])).output

    def conv(self, x: str, channels: int, *, out: str, kernel: int = 3, bias: bool = True, groups: int = 1) -> str:
        """A convolution of odd `kernel` that keeps height and width."""
        pad = kernel // 2
        taken = self.graph.types[x].bounds[1]
        names = [self.weight(f"{out}.weight", channels, taken // groups, kernel, kernel)]
        if bias:
            names.append(self.weight(f"{out}.bias", channels))
        return self.node(Conv2d(padding=(pad, pad, pad, pad), groups=groups), x, *names, out=out)

    def linear(self, x: str, outputs: int, *, out: str) -> str:
        """A linear layer with a bias."""
        names = (
            self.weight(f"{out}.weight", outputs, self.graph.types[x].bounds[-1]),
            self.weight(f"{out}.bias", outputs),
        )
        return self.node(Linear(), x, *names, out=out)

    def flatten(self, x: str, *, out: str) -> str:
        """All axes but the batch in one."""
        shape: Shape = (BATCH, self.graph.types[x].elements)
        return self.node(Reshape(shape), x, out=out)

    def done(self, *outputs: str) -> Graph:
        """The verified graph."""
        self.graph.outputs = outputs
        verify(self.graph)
        return self.graph


def edge_cnn(seed: int = 0) -> Graph:
    """EdgeCNN with random weights: 1x32x32, two convolutions of 16 and 32 channels, two linear layers, 10 outputs."""
    net = Network("edgecnn", seed)
    value = net.input(1, 32, 32)
    for i, channels in ((1, 16), (2, 32)):
        value = net.conv(value, channels, out=f"conv{i}")
        value = net.node(Relu(), value, out=f"relu{i}")
        value = net.node(MaxPool2d((2, 2), (2, 2)), value, out=f"pool{i}")
    value = net.flatten(value, out="flat")
    value = net.node(Relu(), net.linear(value, 128, out="fc1"), out="relu3")
    return net.done(net.linear(value, 10, out="fc2"))


def batches(graph: Graph, samples: int, count: int = 1, seed: int = 1) -> Iterator[tuple[np.ndarray, ...]]:
    """`count` batches of normal float32 inputs, or random ids, for `graph`, `samples` each."""
    rng, rows = np.random.default_rng(seed), id_rows(graph)
    shapes = {name: (samples, *graph.types[name].bounds[1:]) for name in graph.inputs}
    for _ in range(count):
        yield tuple(
            rng.integers(0, rows[name], shape).astype(np.int32)
            if name in rows
            else rng.normal(size=shape).astype(np.float32)
            for name, shape in shapes.items()
        )
