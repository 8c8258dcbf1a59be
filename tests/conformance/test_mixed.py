"""Programs of codes with islands in float32: compiled libraries give the interpreter's bytes, whatever the shapes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penjing import api
from penjing.ir.graph import Graph
from penjing.ir.types import Dim, Type
from penjing.ops.add import Add
from penjing.ops.conv1d import Conv1d
from penjing.ops.conv2d import Conv2d
from penjing.ops.f_add import FAdd
from penjing.ops.f_conv2d import FConv2d
from penjing.ops.f_linear import FLinear
from penjing.ops.f_sums import LARGEST, summands
from penjing.ops.mul import Mul
from penjing.ops.operator import Sample
from penjing.ops.permute import Permute
from penjing.ops.relu import Relu6
from penjing.ops.reshape import Reshape
from penjing.program.plan import plan
from penjing.testing.isas import runnable_isas
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.networks import BATCH, Network, batches, edge_cnn
from penjing.testing.op_suite import op_case, run_op_cases
from penjing.toolchain import host_target

HOST = host_target()
CLAMPS = ((-LARGEST, LARGEST), (0.0, LARGEST), (-1.0, 6.0))


def mixed(graph: Graph, *keep: str) -> Graph:
    return api.lower(api.quantize(graph, batches(graph, 16), keep_float=keep))


def every_kind() -> Graph:
    """Convolutions of all kinds, additions, products and moves, half of them in float32; islands of several layers."""
    net = Network("mixed")
    x = net.input(3, 9, 7)
    a = net.node(Relu6(), net.conv(x, 6, out="a"), out="ra")
    b = net.conv(a, 6, out="b", groups=6)
    added = net.node(Add(), net.conv(b, 6, out="c", groups=2), a, out="sum")
    strided = net.node(Conv2d((2, 1), (1, 0, 2, 1), (1, 2)), added, net.weight("d.weight", 5, 6, 3, 2), out="d")
    codes = net.conv(strided, 4, out="e", kernel=1)
    product = net.node(Mul(), net.conv(codes, 4, out="f"), net.conv(codes, 1, out="g"), out="product")
    lines = net.node(Reshape((BATCH, 4, net.graph.types[product].elements // 4)), product, out="lines")
    line = net.node(Conv1d(1, (1, 1)), lines, net.weight("h.weight", 3, 4, 3), out="h")
    turned = net.node(Permute((0, 2, 1)), line, out="turned")
    return net.done(net.linear(turned, 17, out="i"), net.linear(net.flatten(turned, out="flat"), 2, out="j"))


TWO_ISLANDS = ("[abcd].*", "[hi].*")


@pytest.mark.parametrize("keep", [("*",), TWO_ISLANDS], ids=["one island", "two islands"])
def test_islands_equal_the_interpreter(keep, host, rng):
    program = mixed(every_kind(), *keep)
    report = run_model_suite(program, corner_samples(program, rng, 20), host, isas=runnable_isas(host)[:1])
    assert not report.problems, "\n".join(report.problems)
    assert report.touched_bytes <= report.planned_bytes


@pytest.mark.slow  # a first build for a target builds its C library as well
@pytest.mark.parametrize("name", ["wasm32", "aarch64-linux", "armv7-linux"])
def test_islands_equal_the_interpreter_on(name, runnable, rng):
    program = mixed(every_kind(), *TWO_ISLANDS)
    report = run_model_suite(program, corner_samples(program, rng, 4), runnable(name))
    assert not report.problems, "\n".join(report.problems)


def test_a_tray_holds_weights_in_float32_and_gives_them_back(tmp_path):
    net = Network("small")
    graph = net.done(net.linear(net.input(40), 50, out="a"))
    api.save(api.build(mixed(graph, "a.weight")), tmp_path / "small.tray")
    (x,) = next(batches(graph, 3, seed=8))
    by_library, by_interpreter = (
        api.load(tmp_path / "small.tray", engine=e).run(x) for e in ("library", "interpreter")
    )
    np.testing.assert_array_equal(by_library[0], by_interpreter[0])


def test_sequences_of_any_length_equal_the_interpreter(host, rng):
    net = Network("length")
    x = net.graph.add_input("x", Type((BATCH, Dim("length", 12), 5)))
    graph = net.done(net.node(Add(), net.linear(x, 7, out="a"), net.linear(x, 7, out="b"), out="y"))
    program = mixed(graph, "*")
    samples = [tuple(s[:, :n] for s in sample) for n in (1, 2, 5, 12) for sample in corner_samples(program, rng, 1)]
    report = run_model_suite(program, samples, host, isas=runnable_isas(host)[:1])
    assert not report.problems, "\n".join(report.problems)


def test_a_float_value_takes_four_bytes_of_the_plan():
    memory = plan(mixed(edge_cnn(), "conv1.weight"))
    (place,) = (place for name, place in memory.places.items() if name == "relu1.float")
    assert place.nbytes == 4 * 16 * 32 * 32


@st.composite
def convolutions(draw) -> Sample:
    """Any geometry in which a window fits, any number of groups and channels around the width of vectors."""
    groups, per_in = draw(st.sampled_from([(1, 1), (1, 3), (1, 17), (2, 2), (3, 1), (18, 1)]))
    per_out = draw(st.sampled_from([1, 1, 2, 5, 16, 19]))
    kernel, stride, dilation = (draw(st.tuples(*[st.integers(1, n)] * 2)) for n in (3, 3, 2))
    padding = draw(st.tuples(*[st.integers(0, 2)] * 4))
    least = [
        max(1, d * (k - 1) + 1 - padding[i] - padding[i + 2])
        for i, (k, d) in enumerate(zip(kernel, dilation, strict=True))
    ]
    size = [n + draw(st.integers(0, 5)) for n in least]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = summands(rng, (draw(st.integers(1, 2)), *size, groups * per_in))
    w = summands(rng, (*kernel, per_in, groups * per_out))
    op = FConv2d(stride, padding, dilation, groups, *draw(st.sampled_from(CLAMPS)))
    return Sample(op, (x, w, summands(rng, (groups * per_out,))), constant=(1, 2))


@st.composite
def linears(draw) -> Sample:
    rows, k, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 70)), draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    arrays = tuple(summands(rng, shape) for shape in ((rows, k), (k, outputs), (outputs,)))
    return Sample(FLinear(*draw(st.sampled_from(CLAMPS))), arrays, constant=(1, 2))


@st.composite
def sums(draw) -> Sample:
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    keeps = [draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape))) for _ in range(2)]
    a, b = (tuple(n if kept else 1 for n, kept in zip(shape, one, strict=True)) for one in keeps)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    op = FAdd(draw(st.sampled_from([1.0, -1.0])), *draw(st.sampled_from(CLAMPS)))
    return Sample(op, (summands(rng, a), summands(rng, b)))


# one program holds many samples, as compiling takes most of the time
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(convolutions(), linears(), sums()), min_size=30, max_size=40))
def test_any_shapes_equal_the_definition(samples):
    cases = [op_case(sample.op.name, i, sample) for i, sample in enumerate(samples)]
    problems = run_op_cases(cases, HOST, optimize="-O2")
    assert not problems, "\n".join(problems)
