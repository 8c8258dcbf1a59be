"""Weights on grids of few codes: which codes, how far from the weights, and that programs multiply exactly those."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing import api
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.grid import grid_codes
from penjing.ir.passes import PassResult, run_passes
from penjing.ir.types import Constant
from penjing.ir.verify import verify
from penjing.ops.conv2d import Conv2d
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.linear import Linear
from penjing.ops.relu import Relu
from penjing.testing.networks import Network, batches

BITS = [2, 3, 4, 5, 6, 7, 8, "ternary"]


def network() -> Graph:
    net = Network()
    value = net.node(Relu(), net.conv(net.input(8, 6, 6), 12, out="conv"), out="relu")
    value = net.node(Relu(), net.conv(value, 12, out="depthwise", groups=12), out="relu2")
    up = net.weight("up.weight", 12, 6, 2, 2)
    value = net.node(ConvTranspose2d(stride=(2, 2)), value, up, out="up")
    return net.done(net.linear(net.flatten(value, out="flat"), 5, out="fc"))


def single(weight: np.ndarray) -> Graph:
    net = Network()
    x = net.input(weight.shape[1])
    return net.done(net.node(Linear(), x, net.constant("w", weight), out="y"))


def rounded(graph: Graph, **options) -> PassResult:
    result = RoundWeights(**options).run(graph)
    verify(result.graph)
    return result


def codes_of(graph: Graph, name: str = "w") -> np.ndarray:
    return grid_codes(graph.constants[name])


def error(weight: np.ndarray, **options) -> float:
    got = rounded(single(weight), **options).graph.constants["w"].array
    return float(np.square(got.astype(np.float64) - weight).sum())


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_every_layer_gets_codes_of_so_many_bits_and_keeps_its_zeros(bits, per):
    graph = network()
    for name in [name for name in graph.constants if name.endswith("weight")]:
        holes = np.random.default_rng(1).random(graph.constants[name].array.shape) < 0.4
        graph.set_constant(name, Constant(np.where(holes, np.float32(0), graph.constants[name].array)))
    result = rounded(graph, bits=bits, per=per)
    assert len(result.changed) == 4
    assert not result.declined
    top = 1 if bits == "ternary" else 2 ** (bits - 1) - 1
    for name in ("conv.weight", "depthwise.weight", "up.weight", "fc.weight"):
        before, after = graph.constants[name], result.graph.constants[name]
        assert np.abs(codes_of(result.graph, name)).max() == top
        assert not after.array[before.array == 0].any()
        assert before.quant is None  # the graph passed in stays as it was


@given(st.integers(0, 2**32), st.sampled_from([2, 3, 4, 8]), st.sampled_from(["tensor", "channel"]))
def test_without_clipping_no_weight_moves_by_more_than_half_a_step(seed, bits, per):
    rng = np.random.default_rng(seed)
    weight = (rng.normal(size=(4, 12)) * rng.uniform(1e-3, 10, size=(4, 1))).astype(np.float32)
    got = rounded(single(weight), bits=bits, per=per).graph.constants["w"]
    steps = got.quant.scale_array()[:, None]
    assert (np.abs(got.array - weight) <= steps * np.float32(0.5 + 1e-5)).all()


@given(st.integers(0, 2**32))
def test_ternary_weights_have_the_least_squared_error_of_all_ternary_weights(seed):
    weight = np.random.default_rng(seed).standard_t(3, size=(1, 9)).astype(np.float32)
    best = np.inf
    for support in range(1, 10):  # the best support of a size is that of the largest magnitudes
        chosen = np.sort(np.abs(weight[0].astype(np.float64)))[::-1][:support]
        best = min(best, float(np.square(weight, dtype=np.float64).sum() - chosen.sum() ** 2 / support))
    assert error(weight, bits="ternary") == pytest.approx(best, rel=1e-5)


def test_ternary_weights_are_nearer_than_those_of_the_approximate_threshold():
    weight = np.random.default_rng(5).laplace(size=(16, 200)).astype(np.float32)
    threshold = 0.7 * np.abs(weight).mean(axis=1, keepdims=True)  # Li et al., equation 7
    kept = np.abs(weight) > threshold
    scale = (np.abs(weight) * kept).sum(axis=1, keepdims=True) / kept.sum(axis=1, keepdims=True)
    theirs = float(np.square(np.sign(weight) * kept * scale - weight).sum())
    assert error(weight, bits="ternary") < theirs < error(weight, bits=2)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_cutting_the_range_at_the_least_error_helps_few_bits(bits):
    weight = np.random.default_rng(6).standard_t(4, size=(8, 300)).astype(np.float32)
    assert error(weight, bits=bits, clip="mse") < 0.9 * error(weight, bits=bits, clip="max")


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("clip", ["max", "mse"])
@pytest.mark.parametrize("bits", [2, 4, "ternary"])
def test_groups_of_their_own_size_cost_far_less_when_weights_differ_in_size(per, clip, bits):
    rng = np.random.default_rng(7)
    weight = (rng.normal(size=(6, 4, 16)) * np.array([1, 0.1, 0.3, 0.06])[:, None]).reshape(6, 64).astype(np.float32)
    alone = error(weight, bits=bits, per=per, clip=clip)
    # two bits without clipping round nearly all to zero, in groups as well
    assert (
        error(weight, bits=bits, per=per, clip=clip, group=16) < (0.9 if (bits, clip) != (2, "max") else 0.95) * alone
    )


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize(("bits", "top"), [(2, 1), (3, 3), (4, 7), (6, 31), ("ternary", 1)])
def test_codes_of_a_group_are_whole_multiples_that_fit_int8(bits, top, per):
    rng = np.random.default_rng(8)
    weight = (rng.normal(size=(5, 8, 8)) * 10.0 ** rng.uniform(-3, 1, size=(5, 8, 1))).reshape(5, 64)
    weight[2, :8] = 0
    got = rounded(single(weight.astype(np.float32)), bits=bits, per=per, group=8, clip="max").graph
    assert len(got.constants["w"].quant.scales) == (5 if per == "channel" else 1)
    for group in codes_of(got).reshape(-1, 8).astype(int):
        step = np.gcd.reduce(group)
        assert step == 0 or np.abs(group // step).max() <= top


def test_without_clipping_a_group_too_moves_no_weight_by_more_than_half_of_its_step():
    rng = np.random.default_rng(9)
    weight = (rng.normal(size=(5, 8, 8)) * 10.0 ** rng.uniform(-2, 0, size=(5, 8, 1))).astype(np.float32)
    got = rounded(single(weight.reshape(5, 64)), bits=4, group=8).graph.constants["w"]
    coarsest = np.abs(weight).max(axis=(1, 2), keepdims=True) / 7
    wanted = (
        np.maximum(np.ceil(np.abs(weight).max(axis=2, keepdims=True) / 7 / (coarsest / 18) - 1e-4), 1) * coarsest / 18
    )
    assert (np.abs(got.array.reshape(weight.shape) - weight) <= 0.5001 * wanted).all()


def test_groups_change_nothing_at_8_bits():
    weight = np.random.default_rng(2).normal(size=(4, 32)).astype(np.float32)
    plain, grouped = (rounded(single(weight), bits=8, group=group).graph for group in (None, 8))
    np.testing.assert_array_equal(codes_of(plain), codes_of(grouped))


def test_layers_take_the_bits_that_are_given_for_them_and_programs_multiply_by_these_codes():
    graph = network()
    names = {"conv.weight": 8, "depthwise.weight": 4, "up.weight": 3, "fc.weight": "ternary"}
    got, _ = run_passes(graph, [RoundWeights(bits=2, overrides=names)])
    quantized = api.quantize(got, batches(graph, 16))
    for name, bits in names.items():
        codes = codes_of(got, name)
        assert np.abs(codes).max() == (1 if bits == "ternary" else 2 ** (bits - 1) - 1)
        np.testing.assert_array_equal(quantized.constants[f"{name}.q"].array, codes)


def test_a_weight_on_a_grid_is_left_alone():
    first = rounded(network(), bits=4).graph
    result = rounded(first, bits=2)
    assert not result.changed
    assert {remark.text for remark in result.declined} == {"it lies on a grid already"}
    np.testing.assert_array_equal(codes_of(result.graph, "fc.weight"), codes_of(first, "fc.weight"))


def test_a_weight_whose_readers_disagree_about_its_channels_is_left_alone():
    net = Network()
    x = net.input(4, 5, 5)
    w = net.weight("w", 4, 4, 1, 1)
    one = net.node(ConvTranspose2d(), x, w, out="up")
    result = rounded(net.done(net.node(Conv2d(), one, w, out="y")))
    assert [remark.text for remark in result.declined] == [
        "the layers that share it disagree about its output channels"
    ]


@pytest.mark.parametrize("weight", [np.zeros((3, 8)), np.full((3, 8), 1e-44), np.full((3, 8), 3e38)])
@pytest.mark.parametrize("group", [None, 4])
@pytest.mark.parametrize("bits", [4, "ternary"])
def test_weights_of_zero_and_of_extreme_size_survive(weight, group, bits):
    for clip in ("max", "mse"):
        got = rounded(single(weight.astype(np.float32)), bits=bits, group=group, clip=clip).graph.constants["w"]
        assert np.isfinite(got.array).all()
        np.testing.assert_allclose(got.array, weight, rtol=1e-3, atol=np.finfo(np.float32).tiny)


@pytest.mark.parametrize("bits", [1, 9, 0, -4, 4.0, "binary", True])
def test_bits_that_do_not_exist_are_refused(bits):
    with pytest.raises(InvalidInput, match="2 to 8 bits"):
        rounded(network(), bits=bits)
    with pytest.raises(InvalidInput, match="2 to 8 bits"):
        rounded(network(), overrides={"fc.weight": bits})


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInput, match=r"no\.such\.weight"):
        rounded(network(), overrides={"no.such.weight": 4})
    with pytest.raises(InvalidInput, match="per 'tensor'"):
        rounded(network(), per="row")
    with pytest.raises(InvalidInput, match="clip"):
        rounded(network(), clip="none")
    with pytest.raises(InvalidInput, match="at least one weight"):
        rounded(network(), group=0)
    with pytest.raises(QuantizationError, match="groups of 7 do not divide the 72 weights") as caught:
        rounded(network(), bits=4, group=7)
    assert "conv.weight" in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_named(bad):
    graph = network()
    spoilt = graph.constants["fc.weight"].array.copy()
    spoilt[0, 0] = bad
    graph.set_constant("fc.weight", Constant(spoilt))
    with pytest.raises(InvalidInput, match="NaN or infinite") as caught:
        rounded(graph, bits=4)
    assert caught.value.where == "fc.weight"
