"""Filters that are multiples of one another are computed once, and the network stays the same function."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing.compress.share.tie_filters import TieFilters
from penjing.compress.share.tie_layers import TieLayers
from penjing.compress.structure.layers import readers_of_weights
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant, Encoding, Quant
from penjing.ops.adaptive_pool import AdaptiveAvgPool
from penjing.ops.add import Add
from penjing.ops.conv2d import Conv2d
from penjing.ops.evaluate import evaluate
from penjing.ops.leaky_relu import LeakyRelu
from penjing.ops.mean import Mean
from penjing.ops.pool2d import AvgPool2d, MaxPool2d
from penjing.ops.relu import Relu, Relu6
from penjing.ops.sigmoid import Sigmoid
from penjing.testing.networks import Network, batches


def tie(graph: Graph, **options):
    got, (log,) = run_passes(graph, [TieFilters(**options)])
    return got, log


def assert_same(got: Graph, graph: Graph) -> None:
    (x,) = batches(graph, 3)
    for y, want in zip(evaluate(got, *x), evaluate(graph, *x), strict=True):
        np.testing.assert_allclose(y, want, rtol=0, atol=1e-5 * max(1, np.abs(want).max()))


def copy_filters(net: Network, layer: str, copies: dict[int, tuple[int, float]]) -> None:
    """Channel j becomes a times channel i, for j: (i, a)."""
    for name in (f"{layer}.weight", f"{layer}.bias"):
        array = net.graph.constants[name].array.copy()
        for j, (i, a) in copies.items():
            array[j] = np.float32(a) * array[i]
        net.graph.set_constant(name, Constant(array))


ROADS = {
    "relu": (Relu(),),
    "nothing": (),
    "pools": (MaxPool2d((2, 2), (2, 2)), LeakyRelu(0.1), AvgPool2d((2, 2), (1, 1), (0, 0, 0, 0))),
    "sigmoid": (Sigmoid(),),
    "relu6": (Relu6(), MaxPool2d((2, 2), (2, 2))),
}


@st.composite
def networks(draw):
    """A layer with copied filters, a road, and a layer that reads it: conv, or linear behind flatten, mean or pool."""
    kind = draw(st.sampled_from(sorted(ROADS)))
    end = draw(st.sampled_from(["conv", "flat", "mean", "adaptive"]))
    net = Network(seed=draw(st.integers(0, 99)))
    value = net.conv(net.input(2, 6, 6), 7, out="first")
    scalable = kind not in ("sigmoid", "relu6")
    multiple = st.floats(0.01, 20) if scalable else st.just(1.0)
    sources = draw(st.dictionaries(st.integers(4, 6), st.tuples(st.integers(0, 3), multiple), max_size=3))
    copy_filters(net, "first", sources)
    for i, op in enumerate(ROADS[kind]):
        value = net.node(op, value, out=f"road{i}")
    if end == "conv":
        return net.done(net.conv(value, 3, out="last")), len(sources)
    if end == "mean":
        value = net.node(Mean((2, 3)), value, out="mean")
    elif end == "adaptive":
        value = net.node(AdaptiveAvgPool((2, 1)), value, out="pool")
    value = net.flatten(value, out="flat") if end != "mean" else value
    return net.done(net.linear(value, 3, out="last")), len(sources)


@settings(max_examples=60, deadline=None)
@given(networks())
def test_copies_and_positive_multiples_leave_and_the_function_stays(drawn):
    graph, copies = drawn
    got, log = tie(graph)
    assert_same(got, graph)
    assert len(got.constants["first.weight"].array) == 7 - copies
    assert got.constants.keys() == graph.constants.keys()
    if copies:
        assert f"tied 7 filters to {7 - copies}" in log.changed[0].text
    else:
        assert not log.changed and "no two of its 7" in log.declined[0].text


def test_linear_layers_lose_features_and_silent_filters_leave():
    net = Network()
    value = net.node(Relu(), net.linear(net.input(5), 8, out="a"), out="r")
    copy_filters(net, "a", {3: (0, 2.0), 6: (1, 0.0), 7: (1, 0.0)})
    graph = net.done(net.linear(value, 4, out="b"))
    got, log = tie(graph)
    assert_same(got, graph)
    assert got.constants["a.weight"].array.shape == (5, 5) and got.constants["b.weight"].array.shape == (4, 5)
    assert f"{8 * 5 + 8 * 4} -> {5 * 5 + 5 * 4} MACs" in log.changed[0].text


def test_a_multiple_is_no_copy_behind_what_does_not_scale_and_a_negative_one_is_none_behind_a_rectifier():
    for op, factor in ((Sigmoid(), 2.0), (Relu6(), 0.5), (Relu(), -1.0)):
        net = Network()
        value = net.conv(net.input(2, 5, 5), 6, out="a")
        copy_filters(net, "a", {4: (1, factor)})
        _, log = tie(net.done(net.conv(net.node(op, value, out="r"), 2, out="b")))
        assert not log.changed and "no two" in log.declined[0].text


def test_near_filters_are_tied_within_the_tolerance_only():
    net = Network()
    value = net.conv(net.input(3, 6, 6), 8, out="a")
    copy_filters(net, "a", {5: (0, 1.0), 6: (1, 3.0)})
    noisy = net.graph.constants["a.weight"].array.copy()
    noise = net.rng.normal(size=noisy[5:7].shape)
    noisy[5:7] += (
        0.05 * noise * np.linalg.norm(noisy[5:7].reshape(2, -1), axis=1)[:, None, None, None] / 27**0.5
    ).astype(np.float32)
    net.graph.set_constant("a.weight", Constant(noisy))
    graph = net.done(net.conv(net.node(Relu(), value, out="r"), 2, out="b"))
    assert not tie(graph, tolerance=0.01)[1].changed
    got, log = tie(graph, tolerance=0.1)
    assert "to 6" in log.changed[0].text
    (x,) = batches(graph, 20)
    (y,), (want,) = evaluate(got, *x), evaluate(graph, *x)
    assert 0 < np.linalg.norm(y - want) < 0.06 * np.linalg.norm(want - want.mean(axis=0))


def test_channels_that_others_need_stay_and_the_reason_is_told():
    def reason(build) -> str:
        net = Network()
        x = net.input(4, 6, 6)
        value = net.conv(x, 4, out="a")
        copy_filters(net, "a", {2: (1, 1.0)})
        outputs = build(net, x, value)
        got, log = tie(net.done(*(outputs if isinstance(outputs, tuple) else (outputs,))), layers=("a.weight",))
        assert not log.changed and len(got.constants["a.weight"].array) == 4
        return log.declined[0].text

    assert "output of the network" in reason(lambda net, x, a: (net.conv(a, 2, out="b"), "a"))
    assert "s (add) reads" in reason(lambda net, x, a: net.conv(net.node(Add(), a, x, out="s"), 2, out="b"))
    assert "b (conv2d) reads" in reason(lambda net, x, a: net.conv(a, 4, out="b", groups=4))

    def shared(net, x, a):
        net.weight("w", 3, 4, 1, 1)
        return net.node(Add(), net.node(Conv2d(), a, "w", out="b"), net.node(Conv2d(), x, "w", out="c"), out="y")

    assert "is shared" in reason(shared)


def test_several_layers_may_read_the_channels():
    net = Network()
    value = net.node(Relu(), net.conv(net.input(2, 4, 4), 5, out="a"), out="r")
    copy_filters(net, "a", {0: (4, 1.5)})
    net.graph.set_constant("a.bias", Constant(np.zeros(5, np.float32)))  # biases of zeros leave with the others
    flat = net.linear(net.flatten(value, out="f"), 3, out="c")
    graph = net.done(net.conv(value, 2, out="b"), flat)
    net.graph.set_constant("b.bias", Constant(np.zeros(2, np.float32)))
    got, log = tie(graph)
    assert_same(got, graph)
    assert got.constants["b.weight"].array.shape == (2, 4, 3, 3) and got.constants["c.weight"].array.shape == (3, 64)
    assert len(log.changed) == 1


@pytest.mark.parametrize("cls", [TieFilters, TieLayers])
def test_options_and_weights_that_do_not_fit_are_refused(cls):
    net = Network()
    graph = net.done(net.linear(net.node(Relu(), net.linear(net.input(3), 4, out="a"), out="r"), 2, out="b"))
    for options in ({"tolerance": -0.1}, {"tolerance": 1.0}, {"tolerance": float("nan")}, {"layers": ("x",)}):
        with pytest.raises(InvalidInput):
            run_passes(graph, [cls(**options)])
    graph.set_constant("a.weight", Constant(np.full((4, 3), np.inf, np.float32)))
    with pytest.raises(InvalidInput, match="NaN or infinite"):
        cls().run(graph)


def layers_alike() -> Graph:
    net = Network()
    value = net.input(6)
    for name in "abcd":
        value = net.node(Relu(), net.linear(value, 6, out=name), out=f"r{name}")
    first = net.graph.constants["a.weight"].array
    net.graph.set_constant("c.weight", Constant(first))
    net.graph.set_constant("d.weight", Constant(first * np.float32(1.001)))
    return net.done(net.linear(value, 3, out="e"))


def test_equal_layers_read_one_constant():
    graph = layers_alike()
    got, (log,) = run_passes(graph, [TieLayers()])
    assert [node.output for node in readers_of_weights(got)["a.weight"]] == ["a", "c"]
    assert "c.weight" not in got.constants and "144 bytes fewer" in log.changed[0].text
    assert {remark.where for remark in log.declined} == {"b.weight", "d.weight", "e.weight"}
    (x,) = batches(graph, 3)
    np.testing.assert_array_equal(*(evaluate(g, *x)[0] for g in (got, graph)))


def test_near_layers_read_their_mean():
    graph = layers_alike()
    got, _ = run_passes(graph, [TieLayers(tolerance=0.01)])
    assert len(readers_of_weights(got)["a.weight"]) == 3
    mean = np.mean([graph.constants[f"{name}.weight"].array for name in "acd"], axis=0)
    np.testing.assert_allclose(got.constants["a.weight"].array, mean, rtol=1e-6)
    got, (log,) = run_passes(graph, [TieLayers(0.01, layers=("a.weight", "b.weight"))])
    assert not log.changed and len(log.declined) == 2


def test_equal_layers_on_one_grid_keep_it_and_near_ones_lose_it():
    graph = layers_alike()
    codes = np.arange(-18, 18, dtype=np.float32).reshape(6, 6)
    for name, step in (("a", 0.5), ("c", 0.5), ("d", 0.50001)):
        constant = Constant(codes * np.float32(step), Encoding.CODEBOOK, Quant((float(np.float32(step)),)))
        graph.set_constant(f"{name}.weight", constant)
    got, _ = run_passes(graph, [TieLayers()])
    assert got.constants["a.weight"].quant == Quant((0.5,)) and got.constants["a.weight"].encoding is Encoding.CODEBOOK
    got, _ = run_passes(graph, [TieLayers(0.01)])
    assert got.constants["a.weight"].quant is None
