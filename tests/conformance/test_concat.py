"""Networks of concats, compiled: parts that lie in the concat from the start change no byte and are not copied."""

import dataclasses
from collections.abc import Callable

import pytest

from penjing import api
from penjing.ir.graph import Graph
from penjing.ops.concat import Concat
from penjing.ops.mean import Mean
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu
from penjing.ops.silu import Silu
from penjing.program.plan import moved_inputs
from penjing.testing.isas import native_isas
from penjing.testing.model_suite import corner_samples, model_sources, run_model_suite
from penjing.testing.networks import Network, batches
from penjing.testing.plan_check import plan_problems
from penjing.toolchain import host_target
from penjing.vector.prepare import prepare

HOST = host_target()
PLAIN = dataclasses.replace(HOST, isas=())


def rectified(net: Network, x: str, channels: int, *, out: str, kernel: int = 3, groups: int = 1) -> str:
    """A convolution and its rectifier."""
    return net.node(Relu(), net.conv(x, channels, kernel=kernel, groups=groups, out=f"{out}.conv"), out=out)


def branches() -> Graph:
    """Channels of four branches, as in Inception: of every kind of width around a vector, and 8 + 8 that make 16."""
    net = Network("branches")
    x = net.input(3, 7, 9)
    first = [rectified(net, x, n, out=f"a{n}", kernel=k) for n, k in ((16, 1), (5, 3), (33, 3), (48, 1))]
    joined = net.node(Concat(1), *first, out="first")
    pooled = net.node(MaxPool2d((3, 3), (1, 1), (1, 1, 1, 1)), joined, out="pooled")
    eights = [rectified(net, x, 8, out=f"b{k}", kernel=k) for x, k in ((joined, 3), (pooled, 1))]
    return net.done(net.node(Concat(1), *eights, out="y"))


def ghosts() -> Graph:
    """Half of the channels by a depthwise layer, which alone can write into the concat; few channels, then many."""
    net = Network("ghosts")
    value = net.input(3, 9, 6)
    for i, channels in enumerate((5, 8, 20, 72)):
        half = rectified(net, value, channels, kernel=1, out=f"half{i}")
        other = rectified(net, half, channels, groups=channels, out=f"other{i}")
        value = net.node(Concat(1), half, other, out=f"joined{i}")
    return net.done(value)


def dense() -> Graph:
    """Each layer reads all before it, as in DenseNet; activations are tables."""
    net = Network("dense")
    value = net.conv(net.input(2, 6, 5), 32, out="stem")
    for i in range(3):
        grown = net.node(Silu(), net.conv(value, 32, out=f"conv{i}"), out=f"grown{i}")
        value = net.node(Concat(1), value, grown, out=f"joined{i}")
    return net.done(value)


def nested() -> Graph:
    """Concats of concats, along channels and along rows."""
    net = Network("nested")
    x = net.input(3, 5, 4)
    a, b, c, d, e = (rectified(net, x, n, out=f"v{i}") for i, n in enumerate((7, 16, 9, 23, 32)))
    inner = net.node(Concat(1), a, b, out="inner")
    middle = net.node(Concat(1), c, inner, out="middle")
    return net.done(net.node(Concat(2), middle, e, net.node(Concat(1), d, c, out="other"), out="y"))


def heads() -> Graph:
    """Vectors side by side, which plain C gains from as well; one is returned, one is read twice."""
    net = Network("heads")
    x = net.node(Mean((2, 3)), net.conv(net.input(2, 4, 4), 20, out="conv"), out="mean")
    a, b, c = (net.node(Relu(), net.linear(x, n, out=f"fc{n}"), out=f"head{n}") for n in (10, 17, 33))
    joined = net.node(Concat(1), a, net.node(Concat(1), b, a, c, out="inner"), out="joined")
    return net.done(net.linear(joined, 4, out="y"), c, net.node(Concat(1), joined, b, out="all"))


NETWORKS = (branches, ghosts, dense, nested, heads)
THREADS = (1, 2) if HOST.isas else (1,)


def lowered(make: Callable[[], Graph]) -> Graph:
    graph = make()
    return api.lower(api.quantize(graph, batches(graph, 8)))


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("threads", THREADS)
def test_concats_equal_the_interpreter(make, threads, host, rng):
    program = lowered(make)
    prepared = prepare(program, host, threads)
    assert plan_problems(prepared.program, prepared.plan) == []
    report = run_model_suite(program, corner_samples(program, rng, 6), host, threads=threads, optimize="-O1")
    assert not report.problems, "\n".join(report.problems)


@pytest.mark.parametrize("make", NETWORKS)
def test_concats_equal_the_interpreter_in_plain_c(make, rng):
    program = lowered(make)
    assert plan_problems(program, prepare(program, PLAIN).plan) == []
    report = run_model_suite(program, corner_samples(program, rng, 6), PLAIN, optimize="-O1")
    assert not report.problems, "\n".join(report.problems)


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("target", [PLAIN, HOST] if HOST.isas else [PLAIN], ids=["plain", "simd"])
def test_concats_are_clean_under_the_sanitizers(make, target, sanitize, rng):
    program = lowered(make)
    isas = native_isas(target)[:1] or None
    report = run_model_suite(program, corner_samples(program, rng, 2), target, sanitize, optimize="-O1", isas=isas)
    assert not report.problems, "\n".join(report.problems)


def fire() -> Graph:
    """Two convolutions and their concat, as in SqueezeNet."""
    net = Network("fire")
    x = net.input(3, 7, 9)
    parts = [rectified(net, x, n, kernel=k, out=f"a{n}") for n, k in ((16, 1), (24, 3))]
    return net.done(net.node(Concat(1), *parts, out="y"))


@pytest.mark.skipif(not HOST.isas, reason="no SIMD kernels for this machine")
def test_a_concat_of_convolutions_is_no_code():
    prepared = prepare(lowered(fire), HOST)
    assert "q_concat" in [node.op.name for node in prepared.program.nodes]
    sources = model_sources(prepared, HOST.isas, standalone=False)
    assert not any(b"pj_q_concat" in (text.encode() if isinstance(text, str) else text) for text in sources.values())


def test_plain_c_does_not_copy_vectors_that_only_a_concat_takes():
    prepared = prepare(lowered(heads), PLAIN)
    moved = {n.output: moved_inputs(prepared.program, prepared.plan, n) for n in prepared.program.nodes}
    assert (moved["joined"], moved["inner"]) == ((), (2,))  # what is returned lies in the output
