"""GPTQ: never worse than plain rounding on what it saw, far better on real layers, and zeros stay zeros."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing import api
from penjing.compress.layer_inputs import LayerInputs, collect_layer_inputs
from penjing.compress.quantize.gptq import Gptq, output_error
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.grid import grid_codes
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant
from penjing.ir.verify import verify
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.linear import Linear
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu
from penjing.testing.networks import Network, batches
from penjing.zoo import data


def digits(count: int, start: int = 0) -> np.ndarray:
    loaded = data.load("digits")
    return loaded.normalise(loaded.train_x[start : start + count])[:, :, ::4, ::4]


def network() -> Graph:
    net = Network()
    value = net.node(Relu(), net.conv(net.input(1, 8, 8), 8, out="conv1"), out="relu1")
    value = net.node(Relu(), net.conv(value, 16, out="conv2"), out="relu2")
    value = net.node(MaxPool2d((2, 2), (2, 2)), value, out="pool")
    return net.done(net.linear(net.flatten(value, out="flat"), 10, out="fc"))


@pytest.fixture(scope="module")
def seen():
    graph = network()
    return graph, collect_layer_inputs(graph, [digits(48)]), collect_layer_inputs(graph, [digits(48, 500)])


def errors(graph: Graph, changed: Graph, inputs: dict[str, LayerInputs]) -> dict[str, float]:
    found = {}
    for name, known in inputs.items():
        rows, others = (g.constants[name].array.reshape(len(g.constants[name].array), -1) for g in (graph, changed))
        found[name] = float(output_error(rows, others, known.gram).sum())
    return found


@pytest.mark.parametrize(("bits", "share"), [(2, 0.9), (3, 0.6), (4, 0.6), ("ternary", 0.8)])
def test_the_output_error_on_other_samples_is_far_below_that_of_plain_rounding(seen, bits, share):
    graph, inputs, others = seen
    got = Gptq(inputs, bits).run(graph).graph
    plain = RoundWeights(bits, clip="mse").run(graph).graph
    verify(got)
    better, worse = errors(graph, got, others), errors(graph, plain, others)
    assert len(better) == 3
    # the first layer's few weights have little to make up for one another
    assert all(better[name] < (share if "conv1" not in name else 1.0) * worse[name] for name in better)


@settings(max_examples=25)
@given(
    st.integers(0, 2**32),
    st.sampled_from([2, 3, 4, 8, "ternary"]),
    st.sampled_from([None, 3]),
    st.sampled_from(["tensor", "channel"]),
    st.booleans(),
)
def test_no_channel_is_worse_than_plain_rounding_and_zeros_stay_zeros(seed, bits, group, per, act_order):
    rng = np.random.default_rng(seed)
    net = Network(seed=int(rng.integers(1000)))
    value = net.node(Relu(), net.conv(net.input(4, 5, 5), 6, out="conv", groups=2), out="relu")
    graph = net.done(net.conv(value, 6, out="depthwise", groups=6))
    for name in ("conv.weight", "depthwise.weight"):
        array = graph.constants[name].array
        graph.set_constant(name, Constant(np.where(rng.random(array.shape) < 0.4, np.float32(0), array)))
    inputs = collect_layer_inputs(graph, batches(graph, 4, seed=seed))
    got = Gptq(inputs, bits, per, group, act_order=act_order).run(graph)
    plain = RoundWeights(bits, per, group, clip="mse").run(graph).graph
    verify(got.graph)
    assert len(got.changed) == 2
    for name in ("conv.weight", "depthwise.weight"):
        before, after, other = (g.constants[name].array.reshape(6, -1) for g in (graph, got.graph, plain))
        grid_codes(got.graph.constants[name])
        assert got.graph.constants[name].quant == plain.constants[name].quant
        assert not after[before == 0].any()
        gram = inputs[name].gram
        assert (output_error(before, after, gram) <= output_error(before, other, gram) * (1 + 1e-6) + 1e-12).all()


def linear(weight: np.ndarray) -> Graph:
    net = Network()
    x = net.input(weight.shape[1])
    return net.done(net.node(Linear(), x, net.constant("w", weight), out="y"))


def inputs_of(gram: np.ndarray) -> dict[str, LayerInputs]:
    return {"w": LayerInputs(gram[None], np.zeros((1, len(gram))), 100)}


def test_for_two_inputs_it_is_the_rule_of_the_paper():
    # w = (0.4, 0.4) on the grid of whole numbers (one weight of 7 sets the scale): 0.4 becomes 0, and what it was worth
    # to the correlated second input is added there: 0.4 + 0.4 * 0.9 = 0.76 becomes 1
    weight = np.array([[0.4, 0.4, 7.0]], np.float32)
    gram = np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]])
    options = {"clip": "max", "act_order": False, "damping": 1e-9}
    got = Gptq(inputs_of(gram), 4, **options).run(linear(weight)).graph
    np.testing.assert_array_equal(grid_codes(got.constants["w"]), [[0, 1, 7]])
    (plain,) = [RoundWeights(4).run(linear(weight)).graph.constants["w"]]
    np.testing.assert_array_equal(grid_codes(plain), [[0, 0, 7]])


def test_without_correlation_it_is_plain_rounding():
    weight = np.random.default_rng(1).normal(size=(5, 90)).astype(np.float32)
    gram = np.diag(np.random.default_rng(2).uniform(0.1, 5, size=90))
    got = Gptq(inputs_of(gram), 3).run(linear(weight)).graph
    plain = RoundWeights(3, clip="mse").run(linear(weight)).graph
    np.testing.assert_array_equal(got.constants["w"].array, plain.constants["w"].array)


@pytest.mark.parametrize("act_order", [False, True])
def test_more_inputs_than_a_block_are_treated_as_one_by_one(act_order, monkeypatch):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(600, 150)) @ rng.normal(size=(150, 150))
    graph, inputs = linear(rng.normal(size=(4, 150)).astype(np.float32)), inputs_of(x.T @ x / 600)
    whole = Gptq(inputs, 4, act_order=act_order).run(graph).graph.constants["w"]
    monkeypatch.setattr("penjing.compress.quantize.gptq._BLOCK", 7)
    np.testing.assert_array_equal(
        Gptq(inputs, 4, act_order=act_order).run(graph).graph.constants["w"].array, whole.array
    )


def test_inputs_that_are_always_zero_do_no_harm():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(100, 12))
    x[:, [2, 7]] = 0
    weight = rng.normal(size=(3, 12)).astype(np.float32)
    got = Gptq(inputs_of(x.T @ x / 100), 4).run(linear(weight)).graph.constants["w"]
    plain = RoundWeights(4, clip="mse").run(linear(weight)).graph.constants["w"]
    np.testing.assert_array_equal(got.array[:, [2, 7]], plain.array[:, [2, 7]])
    nothing = Gptq(inputs_of(np.zeros((12, 12))), 4).run(linear(weight)).graph.constants["w"]
    np.testing.assert_array_equal(nothing.array, plain.array)


def test_the_program_multiplies_by_the_codes_that_were_chosen(seen):
    graph, inputs, _ = seen
    got = run_passes(graph, [Gptq(inputs, 4, overrides={"fc.weight": 8})])[0]
    quantized = api.quantize(got, [digits(32)])
    for name in inputs:
        codes = grid_codes(got.constants[name])
        assert np.abs(codes).max() <= (127 if name == "fc.weight" else 7)
        np.testing.assert_array_equal(quantized.constants[f"{name}.q"].array, codes)


def test_layers_of_which_nothing_is_known_or_on_a_grid_are_left_alone():
    net = Network()
    up = net.node(ConvTranspose2d(stride=(2, 2)), net.input(4, 3, 3), net.weight("up", 4, 3, 2, 2), out="z")
    graph = net.done(net.conv(up, 2, out="conv"))
    inputs = collect_layer_inputs(graph, batches(graph, 4))
    result = Gptq(inputs).run(RoundWeights(overrides={"conv.weight": 8}).run(graph).graph)
    assert {r.where: r.text for r in result.declined} == {
        "up": "it lies on a grid already",
        "conv.weight": "it lies on a grid already",
    }
    result = Gptq(inputs).run(graph)
    assert {r.where: r.text for r in result.declined} == {"up": "nothing is known of what it reads"}


def test_options_that_do_not_fit_are_refused(seen):
    graph, inputs, _ = seen
    for damping in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="damping"):
            Gptq(inputs, damping=damping).run(graph)
    with pytest.raises(InvalidInput, match="2 to 8 bits"):
        Gptq(inputs, 9).run(graph)
    with pytest.raises(InvalidInput, match=r"no\.weight"):
        Gptq(inputs, overrides={"no.weight": 4}).run(graph)
    with pytest.raises(InvalidInput, match=r"no\.weight"):
        Gptq({"no.weight": inputs["fc.weight"]}).run(graph)
    with pytest.raises(InvalidInput, match="rows of 256"):
        Gptq({**inputs, "fc.weight": inputs["conv1.weight"]}).run(graph)
    with pytest.raises(QuantizationError, match="groups of 5"):
        Gptq(inputs, group=5).run(graph)
    with pytest.raises(QuantizationError, match="no inverse"):
        Gptq(inputs_of(np.ones((12, 12))), damping=1e-300).run(linear(np.eye(12, dtype=np.float32)))
    spoilt = graph.copy()
    spoilt.set_constant("fc.weight", Constant(np.full_like(graph.constants["fc.weight"].array, np.nan)))
    with pytest.raises(InvalidInput, match="NaN"):
        Gptq(inputs).run(spoilt)
