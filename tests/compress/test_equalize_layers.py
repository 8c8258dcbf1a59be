"""Cross-layer equalization: the same outputs, ranges that agree, and a reason wherever it is not done."""

import numpy as np
import pytest

from penjing.compress.quantize.equalize_layers import EqualizeLayers
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.compress.structure.fold_batch_norm import FoldBatchNorm
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.passes import PassResult, run_passes
from penjing.ir.types import Constant
from penjing.ir.verify import verify
from penjing.ops.add import Add
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.conv2d import Conv2d
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.mean import Mean
from penjing.ops.pool2d import AvgPool2d, MaxPool2d
from penjing.ops.prelu import Prelu
from penjing.ops.relu import Relu, Relu6
from penjing.testing.networks import Network, batches


def uneven(net: Network, seed: int = 3) -> None:
    """Scale the output channels of every layer of `net` by factors from 1/30 to 30."""
    rng = np.random.default_rng(seed)
    for node in net.graph.nodes:
        if node.op.name not in ("conv2d", "linear"):
            continue
        factors = np.exp(rng.uniform(-3.4, 3.4, size=net.graph.types[node.inputs[1]].shape[0])).astype(np.float32)
        for name in node.inputs[1:]:
            array = net.graph.constants[name].array
            net.graph.set_constant(name, Constant(array * factors.reshape(-1, *(1,) * (array.ndim - 1))))


def equalized(graph: Graph, **options) -> PassResult:
    result = EqualizeLayers(**options).run(graph)
    verify(result.graph)
    for inputs in batches(graph, 6):
        for want, got in zip(evaluate(graph, *inputs), evaluate(result.graph, *inputs), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
    return result


def reasons(result: PassResult) -> dict[str, str]:
    return {remark.where: remark.text for remark in result.declined}


def rows(graph: Graph, name: str) -> np.ndarray:
    weight = np.abs(graph.constants[name].array)
    return weight.reshape(len(weight), -1).max(axis=1)


def columns(graph: Graph, name: str) -> np.ndarray:
    weight = np.abs(graph.constants[name].array)
    return weight.max(axis=tuple(i for i in range(weight.ndim) if i != 1))


def chain() -> Graph:
    """A pointwise and a depthwise layer, pooling, flattening: everything through which a scale may pass."""
    net = Network()
    value = net.node(Relu(), net.conv(net.input(3, 8, 8), 8, out="wide"), out="relu1")
    value = net.node(Relu(), net.conv(value, 8, out="depthwise", groups=8), out="relu2")
    value = net.node(MaxPool2d((2, 2), (2, 2)), value, out="pool")
    value = net.node(Prelu(), net.conv(value, 6, out="narrow", kernel=1), net.weight("slopes", 6), out="prelu")
    value = net.node(AvgPool2d((2, 2), (2, 2)), value, out="pool2")
    value = net.node(Relu(), net.linear(net.flatten(value, out="flat"), 12, out="fc1"), out="relu3")
    graph = net.done(net.linear(value, 4, out="fc2"))
    uneven(net)
    return graph


def test_every_pair_of_a_chain_is_scaled_and_the_network_stays_the_same():
    result = equalized(chain())
    assert reasons(result) == {"fc2.weight": "fc2 leaves the graph"}
    assert [remark.where for remark in result.changed] == [
        "wide.weight",
        "depthwise.weight",
        "narrow.weight",
        "fc1.weight",
    ]
    assert "for fc2.weight" in result.changed[3].text


def test_without_biases_every_pair_has_the_same_range():
    graph = chain()
    for name in ("wide.bias", "depthwise.bias", "narrow.bias", "fc1.bias"):
        graph.set_constant(name, Constant(np.zeros_like(graph.constants[name].array)))
    got = equalized(graph, rounds=200, tolerance=1e-6).graph
    np.testing.assert_allclose(rows(got, "wide.weight"), rows(got, "depthwise.weight"), rtol=1e-4)
    np.testing.assert_allclose(rows(got, "depthwise.weight"), columns(got, "narrow.weight"), rtol=1e-4)
    np.testing.assert_allclose(rows(got, "narrow.weight"), columns(got, "fc1.weight").reshape(6, 4).max(1), rtol=1e-4)
    np.testing.assert_allclose(rows(got, "fc1.weight"), columns(got, "fc2.weight"), rtol=1e-4)


def test_the_first_visit_is_the_formula_of_the_paper():
    net = Network()
    graph = net.done(net.linear(net.node(Relu(), net.linear(net.input(5), 7, out="a"), out="r"), 3, out="b"))
    uneven(net)
    graph.set_constant("a.bias", Constant(np.zeros(7, np.float32)))
    got = equalized(graph, rounds=1).graph
    s = np.sqrt(rows(graph, "a.weight") / columns(graph, "b.weight"))
    np.testing.assert_allclose(
        got.constants["a.weight"].array, graph.constants["a.weight"].array / s[:, None], rtol=1e-6
    )
    np.testing.assert_allclose(got.constants["b.weight"].array, graph.constants["b.weight"].array * s, rtol=1e-6)


def test_a_network_whose_channels_were_scaled_apart_rounds_as_well_as_before():
    net = Network()
    graph = net.done(net.linear(net.node(Relu(), net.linear(net.input(12), 24, out="a"), out="r"), 6, out="b"))
    (x,) = next(batches(graph, 64))
    (want,) = evaluate(graph, x)
    apart = graph.copy()
    factors = np.exp(np.random.default_rng(3).uniform(-3, 3, size=24)).astype(np.float32)
    for name, scaled in (("a.weight", factors[:, None]), ("a.bias", factors), ("b.weight", 1 / factors)):
        apart.set_constant(name, Constant(graph.constants[name].array * scaled))

    def error(made: Graph) -> float:
        (got,) = evaluate(run_passes(made, [RoundWeights(bits=6, per="tensor")])[0], x)
        return float(np.square(got - want).mean())

    assert error(equalized(apart).graph) < min(0.05 * error(apart), 1.5 * error(graph))


def test_no_bias_grows_beyond_the_largest_of_its_layer():
    net = Network()
    graph = net.done(net.linear(net.node(Relu(), net.linear(net.input(5), 7, out="a"), out="r"), 3, out="b"))
    weight = graph.constants["a.weight"].array.copy()
    weight[2] *= 1e-6  # all bias
    graph.set_constant("a.weight", Constant(weight))
    got = equalized(graph).graph
    assert np.abs(got.constants["a.bias"].array).max() <= np.abs(graph.constants["a.bias"].array).max() * 1.00001


def test_zeros_stay_zeros_and_dead_channels_stay_as_they_are():
    graph = chain()
    dead = graph.constants["wide.weight"].array.copy()
    dead[3] = 0
    graph.set_constant("wide.weight", Constant(dead))
    unread = graph.constants["fc2.weight"].array.copy()
    unread[:, 5] = 0
    unread[1, ::2] = 0
    graph.set_constant("fc2.weight", Constant(unread))
    got = equalized(graph).graph
    for name in ("wide.weight", "fc2.weight"):
        np.testing.assert_array_equal(got.constants[name].array == 0, graph.constants[name].array == 0)
    np.testing.assert_array_equal(
        got.constants["fc1.weight"].array[5] == 0, graph.constants["fc1.weight"].array[5] == 0
    )


def normed() -> Graph:
    net = Network()
    value = net.input(3, 6, 6)
    for i, channels in enumerate((5, 6, 4)):
        value = net.conv(value, channels, out=f"conv{i}", bias=i == 1)
        statistics = [
            net.weight(f"gamma{i}", channels),
            net.weight(f"beta{i}", channels),
            net.weight(f"mean{i}", channels),
        ]
        var = net.constant(f"var{i}", net.rng.uniform(0.1, 9, size=channels))
        inputs = ("", "", *statistics[2:], var) if i == 2 else (*statistics, var)
        value = net.node(BatchNorm(), value, *inputs, out=f"norm{i}")
        value = net.node(Relu(), value, out=f"relu{i}")
    value = net.node(Mean((2, 3)), value, out="mean")
    graph = net.done(net.linear(value, 3, out="fc"))
    uneven(net)
    return graph


def test_a_batch_norm_is_scaled_as_if_it_were_folded():
    graph = normed()
    result = equalized(graph)
    assert len(result.changed) == 3
    first = run_passes(result.graph, [FoldBatchNorm()])[0]
    second = run_passes(graph, [FoldBatchNorm(), EqualizeLayers()])[0]
    assert first.constants.keys() == second.constants.keys()
    for name, constant in first.constants.items():
        other = second.constants[name].array
        np.testing.assert_allclose(constant.array, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


def test_a_layer_that_several_read_is_equalized_with_all_of_them():
    net = Network()
    value = net.node(Relu(), net.conv(net.input(3, 6, 6), 5, out="stem"), out="relu")
    graph = net.done(*(net.conv(value, 4, out=f"branch{i}", kernel=1) for i in range(2)))
    uneven(net)
    graph.set_constant("stem.bias", Constant(np.zeros(5, np.float32)))
    got = equalized(graph, tolerance=1e-6).graph
    both = np.maximum(columns(got, "branch0.weight"), columns(got, "branch1.weight"))
    np.testing.assert_allclose(rows(got, "stem.weight"), both, rtol=1e-4)


def test_a_bias_that_two_layers_share_is_scaled_for_one_alone():
    net = Network()
    x = net.input(4)
    shared = net.weight("shared", 4)
    a = net.node(Linear(), x, net.weight("a", 4, 4), shared, out="ya")
    b = net.node(Linear(), a, net.weight("b", 4, 4), shared, out="yb")
    graph = net.done(b)
    uneven(net)
    got = equalized(graph).graph
    np.testing.assert_array_equal(got.constants["shared"].array, graph.constants["shared"].array)


def test_a_constant_that_a_norm_reads_twice_is_scaled_in_one_place_alone():
    net = Network()
    ones, zeros = net.constant("ones", np.ones(5)), net.constant("zeros", np.zeros(5))
    value = net.conv(net.input(3, 6, 6), 5, out="conv")
    value = net.node(BatchNorm(), value, ones, zeros, zeros, ones, out="norm")
    graph = net.done(net.conv(net.node(Relu(), value, out="relu"), 4, out="last"))
    uneven(net)
    assert equalized(graph).changed


@pytest.mark.parametrize("name", ["wide.weight", "narrow.bias", "fc2.weight"])
def test_a_number_that_is_none_is_refused(name):
    graph = chain()
    spoilt = graph.constants[name].array.copy()
    spoilt[0] = np.nan
    graph.set_constant(name, Constant(spoilt))
    with pytest.raises(InvalidInput, match="NaN"):
        EqualizeLayers().run(graph)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda net, y: net.conv(net.node(Relu6(), y, out="r"), 2, out="z"), "goes to relu6"),
        (lambda net, y: net.conv(net.node(Add(), y, y, out="r"), 2, out="z"), "goes to add"),
        (lambda net, y: net.conv(net.node(Add(), "x", y, out="r"), 2, out="z"), "goes to add"),
        (
            lambda net, y: net.node(ConvTranspose2d(), y, net.weight("up", 4, 2, 2, 2), out="z"),
            "goes to conv_transpose2d",
        ),
        (lambda net, y: net.linear(y, 3, out="z"), "along another axis"),
        (lambda net, y: net.node(Relu(), y, out="z"), "z leaves the graph"),
    ],
)
def test_each_reason_to_decline_is_given_and_nothing_changes(build, reason):
    net = Network()
    y = net.conv(net.input(4, 5, 5), 4, out="y")
    graph = net.done(build(net, y))
    result = equalized(graph)
    assert reason in reasons(result)["y.weight"]
    for name, constant in graph.constants.items():
        np.testing.assert_array_equal(result.graph.constants[name].array, constant.array)


def test_a_shared_weight_and_one_on_a_grid_are_left_alone():
    net = Network()
    w = net.weight("w", 4, 4, 1, 1)
    y = net.node(Relu(), net.node(Conv2d(), net.input(4, 5, 5), w, out="y"), out="r")
    result = equalized(net.done(net.node(Conv2d(), y, w, out="z")))
    assert reasons(result)["w"] == "weight w is shared with another layer"
    result = equalized(run_passes(chain(), [RoundWeights(overrides={"fc2.weight": 4})])[0])
    assert not result.changed
    assert reasons(result)["fc1.weight"] == "weight fc1.weight lies on a grid already"


@pytest.mark.parametrize("options", [{"rounds": 0}, {"tolerance": 0.0}, {"tolerance": float("nan")}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InvalidInput, match="rounds >= 1"):
        EqualizeLayers(**options).run(chain())
