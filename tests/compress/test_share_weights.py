"""Shared weights: few values, chosen well, on the grid that the kernels read; bad requests are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing import api
from penjing.compress.layer_inputs import LayerInputs, collect_layer_inputs
from penjing.compress.share.codebook import fit_codebook, nearest, squared_error
from penjing.compress.share.round_codebooks import RoundCodebooks
from penjing.compress.share.share_weights import ShareWeights
from penjing.core.errors import CalibrationError, InvalidInput, QuantizationError
from penjing.core.targets import find_target
from penjing.ir.graph import Graph
from penjing.ir.grid import grid_codes
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant, Encoding
from penjing.ops.conv2d import Conv2d
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.relu import Relu
from penjing.testing.networks import Network, batches
from penjing.vector.specialise import kernel_choices


def network(seed: int = 0) -> Graph:
    """A linear layer, a grouped convolution and a transposed one, whose channels differ in spread."""
    net = Network(seed=seed)
    value = net.node(Conv2d(groups=2), net.input(4, 6, 6), uneven(net, "conv", 8, 2, 3, 3), out="a")
    value = net.node(ConvTranspose2d(), net.node(Relu(), value, out="r"), uneven(net, "up", 8, 6, 2, 2), out="b")
    return net.done(
        net.node(Linear(), net.flatten(value, out="f"), uneven(net, "line", 40, 150), net.weight("bias", 40), out="y")
    )


def uneven(net: Network, name: str, *shape: int) -> str:
    spread = np.exp(net.rng.normal(size=(shape[0], *(1,) * (len(shape) - 1))))
    return net.constant(name, spread * net.rng.standard_t(4, size=shape) / np.sqrt(np.prod(shape[1:])))


def share(graph: Graph, *args, **options):
    got, (log,) = run_passes(graph, [ShareWeights(*args, **options)])
    return got, log


def error(got: Graph, graph: Graph, name: str) -> float:
    return float(np.linalg.norm(got.constants[name].array.astype(np.float64) - graph.constants[name].array))


@st.composite
def weighted_values(draw):
    n = draw(st.integers(1, 12))
    number = st.floats(-8, 8, allow_subnormal=False).map(lambda value: round(value, 2))
    values = np.array(draw(st.lists(number, min_size=n, max_size=n)))
    return values, np.array(draw(st.lists(st.floats(0.1, 10), min_size=n, max_size=n))), draw(st.integers(2, 4))


def best_codebook_error(values: np.ndarray, h: np.ndarray, entries: int) -> float:
    """By dynamic programming over all ways to cut the sorted values."""
    order = np.argsort(values)
    w, h = values[order], h[order]

    def cost(i: int, j: int) -> float:
        mean = np.average(w[i:j], weights=h[i:j])
        return float(np.sum(h[i:j] * (w[i:j] - mean) ** 2))

    best = [0.0] + [np.inf] * len(w)
    for _ in range(entries):
        best = [0.0] + [min(best[i] + cost(i, j) for i in range(j)) for j in range(1, len(w) + 1)]
    return best[-1]


@settings(max_examples=60, deadline=None)
@given(weighted_values())
def test_a_codebook_is_at_rest_and_near_the_best_there_is(drawn):
    values, h, entries = drawn
    codebook = fit_codebook(values, h, entries, zero=False)
    assert len(codebook) <= entries and (np.diff(codebook) > 0).all()
    index = nearest(values, codebook)
    np.testing.assert_array_equal(np.abs(values - codebook[index]), np.abs(values[:, None] - codebook).min(axis=1))
    for i in np.unique(index):
        mean = np.average(values[index == i], weights=h[index == i])
        assert codebook[i] == pytest.approx(mean, abs=1e-9)
    # k-means ends in a local minimum: never worse than one entry fewer, chosen best
    assert squared_error(values, h, codebook) <= best_codebook_error(values, h, entries - 1) + 1e-9


def test_normal_numbers_get_the_codebook_that_theory_says():
    values = np.random.default_rng(0).normal(size=40_000)
    for entries, decibels in ((4, 9.30), (16, 20.22), (64, 31.89)):  # Max, 1960, table 1; Jayant and Noll, 1984, 4.5
        codebook = fit_codebook(values, np.ones_like(values), entries, zero=False)
        ratio = np.sum(values**2) / squared_error(values, np.ones_like(values), codebook)
        assert 10 * np.log10(ratio) > decibels - 0.15


@pytest.mark.parametrize("scales", ["channel", "tensor"])
@pytest.mark.parametrize("entries", [2, 16, 64, 256])
def test_a_layer_takes_few_codes_and_quantization_keeps_them(entries, scales):
    graph = network()
    got, log = share(graph, {"conv": entries, "up": entries, "line": entries} if entries < 144 else {"line": entries},
                     scales)  # fmt: skip
    program = api.lower(api.quantize(got, batches(graph, 4)))
    codes = {tuple(np.unique(c.array)) for c in program.constants.values() if c.array.dtype == np.int8}
    for remark in log.changed:
        constant = got.constants[remark.where]
        assert (
            constant.encoding is Encoding.CODEBOOK and constant.array.shape == graph.constants[remark.where].array.shape
        )
        table = tuple(np.unique(grid_codes(constant)))
        assert len(table) <= entries and table in codes
        assert f"{len(table)} values" in remark.text
    assert len(log.changed) == (3 if entries < 144 else 1)


@pytest.mark.parametrize("scales", ["channel", "tensor"])
def test_more_entries_cost_less(scales):
    graph = network()
    for name in ("conv", "up", "line"):
        errors = [error(share(graph, {name: n}, scales)[0], graph, name) for n in (2, 4, 8, 16, 32, 64)]
        assert sorted(errors, reverse=True) == errors and len(set(errors)) == 6


def test_a_scale_for_each_channel_pays_where_channels_differ():
    graph = network()
    for name in ("conv", "line"):
        per_channel, per_tensor = (error(share(graph, {name: 16}, s)[0], graph, name) for s in ("channel", "tensor"))
        assert per_channel < 0.9 * per_tensor


def test_a_codebook_beats_as_many_evenly_spaced_codes():
    graph = network()
    got, _ = share(graph, {"line": 16}, "tensor")
    weight = graph.constants["line"].array.astype(np.float64)
    steps = np.abs(weight).max() / np.linspace(7, 40, 200)
    even = [np.linalg.norm(np.clip(np.rint(weight / s), -8, 7) * s - weight) for s in steps]
    assert error(got, graph, "line") < min(even)


@pytest.mark.parametrize("scales", ["channel", "tensor"])
def test_zeros_of_a_pruned_layer_stay_zero(scales):
    graph = api.prune(network(), ratio=0.7)
    graph.set_constant("line", Constant(np.where(np.arange(40)[:, None] < 3, 0, graph.constants["line"].array)))
    for entries in (2, 5, 16):
        got, _ = share(graph, entries, scales)
        for name in ("conv", "up", "line"):
            assert (got.constants[name].array[graph.constants[name].array == 0] == 0).all()
            assert got.constants[name].array.any()


def test_inputs_that_are_louder_count_more():
    graph = network()
    (loud,) = next(batches(graph, 32))
    loud[:, 0] *= 30
    seen = collect_layer_inputs(graph, [loud])

    def output_error(got: Graph) -> float:
        values: list[np.ndarray] = []
        for g in (got, graph):
            evaluate(g, loud, watch=lambda name, array: values.append(array) if name == "a" else None)
        return float(np.linalg.norm(values[0] - values[1]))

    by_weight, by_output = (share(graph, {"conv": 8}, inputs=inputs)[0] for inputs in (None, seen))
    assert output_error(by_output) < 0.8 * output_error(by_weight)


def test_float_entries_are_rounded_later():
    graph = network()
    floats, _ = share(graph, 16, "tensor", rounded=False)
    for name in ("conv", "up", "line"):
        assert floats.constants[name].encoding is Encoding.CODEBOOK and floats.constants[name].quant is None
        assert np.unique(floats.constants[name].array).size <= 16
    rounded, (log,) = run_passes(floats, [RoundCodebooks()])
    assert {remark.where for remark in log.changed} == {"conv", "up", "line"}
    for name in ("conv", "up", "line"):
        before, after = floats.constants[name].array, rounded.constants[name]
        assert np.unique(grid_codes(after)).size <= 16 and after.encoding is Encoding.CODEBOOK
        assert np.abs(after.array - before).max() <= np.abs(before).max() / 63 / 2 * 1.001
        assert error(rounded, graph, name) < 1.02 * error(floats, graph, name)
    _, (log,) = run_passes(rounded, [RoundCodebooks()])
    assert not log.changed and {remark.text for remark in log.declined} == {"on a grid already"}
    _, (log,) = run_passes(graph, [RoundCodebooks()])
    assert {remark.text for remark in log.declined} == {"not a codebook"}


def test_values_that_are_no_codebook_are_not_rounded():
    graph = network()
    graph.set_constant("line", Constant(graph.constants["line"].array, Encoding.CODEBOOK))
    with pytest.raises(QuantizationError, match="no codebook"):
        run_passes(graph, [RoundCodebooks()])


def test_a_large_layer_of_16_values_is_read_by_the_codebook_kernel():
    net = Network()
    values = np.linspace(-1, 1, 16, dtype=np.float32) ** 3
    net.constant("w", net.rng.choice(values, size=(1024, 2048)) / 64)
    graph = net.done(net.node(Linear(), net.input(2048), "w", out="y"))
    got, _ = share(graph, 16, "tensor")
    program = api.lower(api.quantize(got, batches(graph, 2)))
    assert [choice.kernel for choice in kernel_choices(program, find_target("x86_64-linux"))] == ["v_linear_codebook"]


@pytest.mark.parametrize("entries", [0, 1, 257, -4, 2.5, True, {"line": 1}, {"nowhere": 16}, {"conv": 145}])
def test_codebooks_that_cannot_be_are_refused(entries):
    with pytest.raises(InvalidInput):
        share(network(), entries)


def test_a_tensor_smaller_than_its_codebook_is_left_alone_and_none_large_enough_is_an_error():
    _, log = share(network(), 200)
    assert [remark.where for remark in log.declined] == ["conv", "up"]
    assert "larger than its 144 weights" in log.declined[0].text
    net = Network()
    with pytest.raises(InvalidInput, match="as many weights"):
        share(net.done(net.linear(net.input(3), 4, out="y")), 16)


def test_options_that_exclude_one_another_and_spoilt_numbers_are_refused():
    graph = network()
    with pytest.raises(InvalidInput, match="tensor"):
        share(graph, 16, rounded=False)
    with pytest.raises(InvalidInput, match="scales"):
        share(graph, 16, "row")
    small = {"line": LayerInputs(np.eye(3)[None], np.zeros((1, 3)), 1)}
    with pytest.raises(CalibrationError, match="do not fit"):
        share(graph, {"line": 16}, inputs=small)
    spoilt = np.where(np.arange(150) == 7, np.nan, graph.constants["line"].array).astype(np.float32)
    graph.set_constant("line", Constant(spoilt))
    with pytest.raises(InvalidInput, match="NaN"):
        ShareWeights({"line": 16}).run(graph)
