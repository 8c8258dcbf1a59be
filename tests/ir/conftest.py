"""Graphs by hand that hold every feature of the text form."""

import numpy as np
import pytest

from penjing.api import lower, quantize
from penjing.ir.graph import Graph
from penjing.ir.types import Constant, Dim, DType, Encoding, Quant, Source, State, Type
from penjing.ir.verify import verify
from penjing.ops.add import Add
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.linear import Linear
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Clamp, Relu
from penjing.ops.softmax import Softmax
from penjing.ops.split import Split
from penjing.testing.networks import Network, batches

BATCH, SEQ = Dim("batch", 1), Dim("s0.len", 512)


def every_feature() -> Graph:
    """Symbolic extents, a state, absent inputs, several outputs, odd names, sources, quantization of both kinds."""
    graph = Graph('odd "名" \\ name\n', stage="imported")
    graph.add_input("x", Type((BATCH, 4, 6), quant=Quant((float(np.float32(0.1)),), 7)))
    graph.add_input("tokens", Type((BATCH, SEQ)))
    kept = Type((BATCH, 4, 6))
    graph.states["h"] = State(kept, "h.next", -0.5)
    graph.types["h"] = kept
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, size=(3, 6)).astype(np.int8)
    scales = tuple(float(s) for s in np.float32([0.25, 1e-38, 3e38]))
    graph.add_constant("0.weight", Constant(codes, Encoding.DENSE, Quant(scales, 0, 0)))
    graph.add_constant("moving mean", Constant(rng.normal(size=4).astype(np.float32)))
    graph.add_constant("方差", Constant(rng.uniform(1, 2, size=4).astype(np.float32)))
    graph.add_constant("tiny", Constant(np.float32(5e-324 + 1e-45)))
    graph.add_constant("s32", Constant(np.int32([[-(2**31), 2**31 - 1]])))
    graph.add_constant("s16", Constant(np.int16([-1])))
    here = Source("my models/model.py", 12, "aten.batch_norm.default")
    graph.add_node(BatchNorm(eps=1e-5), ("x", "", "", "moving mean", "方差"), ('n"orm',), here)
    graph.add_node(Add(), ('n"orm', "h"), ("h.next",), Source(origin="aten.add.Tensor"))
    graph.add_node(Split(1, (1, 3)), ("h.next",), ("part a", "part b"), Source("model.py", 0))
    graph.add_node(Clamp(-np.inf, np.inf), ("part b",), ("1",))
    graph.add_node(Clamp(-1.5, 6.0), ("1",), ("none",))
    graph.add_node(Linear(), ("none", "0.weight"), ("return",))
    graph.add_node(Softmax(2), ("return",), ("inf",))
    graph.add_node(Relu(), ("tokens",), ("x" * 300,))
    graph.add_node(Add(), ("tokens", "tiny"), ("\\\t\u2028",))
    graph.outputs = ("inf", "part a", "inf", "x" * 300, "x")
    verify(graph)
    return graph


def small_program() -> Graph:
    """A lowered convolutional network with a residual, a table and a folded transpose."""
    net = Network("small")
    x = net.input(2, 6, 6)
    a = net.node(Relu(), net.conv(x, 4, out="conv1"), out="relu1")
    b = net.node(Add(), net.conv(a, 4, out="conv2"), a, out="sum")
    c = net.node(MaxPool2d((2, 2), (2, 2)), b, out="pool")
    y = net.linear(net.flatten(c, out="flat"), 3, out="fc")
    graph = net.done(net.node(Softmax(1), y, out="probabilities"), y)
    return lower(quantize(graph, batches(graph, 4)))


@pytest.fixture(scope="session")
def featured() -> Graph:
    return every_feature()


@pytest.fixture(scope="session")
def program() -> Graph:
    return small_program()


@pytest.fixture(scope="session")
def u8() -> Type:
    return Type((BATCH, 4), DType.U8, Quant((0.5,), 3))
