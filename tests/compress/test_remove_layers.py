"""Layers leave by their measured effect; what stays is the network without them, and something always stays."""

import numpy as np
import pytest

from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.structure.merge_layers import MergeLayers
from penjing.compress.structure.remove_layers import RemoveLayers, removal_effects
from penjing.core.errors import CalibrationError, InvalidInput, PruningError
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant
from penjing.ops.conv2d import Conv2d
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.relu import Relu, Relu6
from penjing.testing.networks import Network, batches

NEARLY = {"conv1": 0.01, "conv2": 0.3, "fc1": 0.1}  # how far a layer is from a diagonal


def network() -> Graph:
    """Three layers near the identity, the first more than the others, between two that change shapes."""
    net = Network()
    value = net.node(Relu(), net.conv(net.input(2, 6, 6), 4, out="conv0"), out="r0")
    for name in ("conv1", "conv2"):
        value = net.conv(value, 4, out=name)
        centre = np.zeros((4, 4, 3, 3))
        centre[range(4), range(4), 1, 1] = 1
        near(net, name, centre)
        value = net.node(Relu(), value, out=f"r{name[-1]}")
    value = net.linear(net.flatten(value, out="flat"), 12, out="fc0")
    value = net.node(Relu(), net.linear(value, 12, out="fc1"), out="r3")
    near(net, "fc1", np.eye(12))
    return net.done(net.linear(value, 3, out="fc2"))


def near(net: Network, name: str, diagonal: np.ndarray) -> None:
    noise = NEARLY[name] * net.rng.normal(size=diagonal.shape)
    net.graph.set_constant(f"{name}.weight", Constant((diagonal + noise).astype(np.float32)))
    net.graph.set_constant(f"{name}.bias", Constant(np.float32(0.01) * np.ones(len(diagonal), np.float32)))


def remove(graph: Graph, *args, **options):
    got, (log,) = run_passes(graph, [RemoveLayers(*args, **options)])
    return got, log


def change(got: Graph, graph: Graph, x: tuple[np.ndarray, ...]) -> float:
    (y,), (want,) = evaluate(got, *x), evaluate(graph, *x)
    return float(np.linalg.norm(y - want) / np.linalg.norm(want - want.mean(axis=0)))


@pytest.fixture
def x():
    return next(batches(network(), 40))


def test_an_effect_is_what_the_outputs_change_by(x):
    graph = network()
    effects = removal_effects(graph, [tuple(a[:15] for a in x), tuple(a[15:] for a in x)])
    assert effects.keys() == {"conv1.weight", "conv2.weight", "fc1.weight"}
    for name, effect in effects.items():
        got, log = remove(graph, effects, layers=(name,))
        assert change(got, graph, x) == pytest.approx(effect, rel=1e-4)
        assert f"effect {effect:.3f}" in log.changed[0].text and "-> 0 MACs" in log.changed[0].text
    assert min(effects, key=effects.get) == "conv1.weight"


def test_the_least_effect_leaves_first_and_its_rectifier_with_it(x):
    graph = network()
    effects = removal_effects(graph, [x])
    got, log = remove(graph, effects, count=1)
    assert [remark.where for remark in log.changed] == ["conv1.weight"]
    assert [n.output for n in got.nodes] == ["conv0", "r0", "conv2", "r2", "flat", "fc0", "fc1", "r3", "fc2"]
    assert "conv1.weight" not in got.constants and "conv1.bias" not in got.constants
    why = {remark.where: remark.text for remark in log.declined}
    assert "(4, 6, 6) from (2, 6, 6)" in why["conv0.weight"] and "others matter less" in why["conv2.weight"]
    got, log = remove(graph, effects, ratio=1.0)
    assert [n.output for n in got.nodes] == ["conv0", "r0", "flat", "fc0", "r3", "fc2"]


def test_a_scale_that_stays_behind_is_the_best_and_merges_into_the_next_layer(x):
    graph = network()
    seen = collect_layer_inputs(graph, [x])
    plain, scaled = removal_effects(graph, [x]), removal_effects(graph, [x], seen)
    for name, value in (("conv2.weight", "conv2"), ("fc1.weight", "fc1")):
        got, _ = remove(graph, layers=(name,), inputs=seen)
        values: list[dict[str, np.ndarray]] = [{}, {}]
        for g, into in zip((graph, got), values, strict=True):
            evaluate(g, *x, watch=lambda n, array, into=into: into.update({n: array.astype(np.float64)}))
        read = values[0][{"conv2": "r1", "fc1": "fc0"}[value]]
        residual = values[0][value] - values[1][value]
        axes = (0, 2, 3) if read.ndim == 4 else (0,)
        # least squares in one number for each channel
        np.testing.assert_allclose((residual * read).sum(axes) / np.square(read).sum(axes), 0, atol=1e-4)
        assert change(got, graph, x) == pytest.approx(scaled[name], rel=1e-3)
    assert scaled["conv2.weight"] < plain["conv2.weight"]
    got, _ = remove(graph, layers=("fc1.weight",), inputs=seen)
    merged, _ = run_passes(got, [MergeLayers()])
    assert [n.op.name for n in merged.nodes if "fc" in n.output] == ["linear", "linear"]


def test_rectifiers_that_differ_both_stay():
    net = Network()
    value = net.node(Relu(), net.conv(net.input(3, 4, 4), 3, out="a"), out="ra")
    value = net.node(Relu6(), net.conv(value, 3, out="b"), out="rb")
    got, _ = remove(net.done(value), layers=("b.weight",))
    assert [node.op.name for node in got.nodes] == ["conv2d", "relu", "relu6"]


def test_a_weight_of_several_layers_takes_all_of_them_along():
    net = Network()
    net.weight("w", 3, 3, 1, 1)
    value = net.node(Conv2d(), net.node(Conv2d(), net.input(3, 4, 4), "w", out="a"), "w", out="b")
    graph = net.done(net.conv(value, 2, out="c"))
    got, _ = remove(graph, layers=("w",))
    assert [node.output for node in got.nodes] == ["c"]


def test_a_layer_that_moves_its_input_can_only_become_the_identity():
    net = Network()
    value = net.node(
        Conv2d(padding=(1, 0, 0, 1), dilation=(1, 1)), net.input(3, 4, 4), net.weight("w", 3, 3, 2, 2), out="a"
    )
    value = net.node(Conv2d(padding=(1, 1, 1, 1), dilation=(2, 2)), value, net.weight("v", 3, 3, 2, 2), out="b")
    graph = net.done(net.conv(value, 2, out="c"))
    seen = collect_layer_inputs(graph, batches(graph, 8))
    _, log = remove(graph, {"w": 0.1, "v": 0.2}, ratio=1, inputs=seen)
    assert [remark.where for remark in log.changed] == ["w"]
    assert "own place" in {remark.where: remark.text for remark in log.declined}["v"]


def test_something_must_be_left():
    net = Network()
    graph = net.done(net.node(Relu(), net.linear(net.linear(net.input(4), 4, out="a"), 4, out="b"), out="y"))
    with pytest.raises(PruningError, match="all 2 layers"):
        remove(graph, layers=("a.weight", "b.weight"))
    got, _ = remove(graph, layers=("a.weight",))
    assert [node.op for node in got.nodes] == [Linear(), Relu()]


def test_a_layer_whose_effect_nobody_measured_stays():
    _, log = remove(network(), {"fc1.weight": 0.2}, count=1)
    assert [remark.where for remark in log.changed] == ["fc1.weight"]
    assert "not measured" in {remark.where: remark.text for remark in log.declined}["conv1.weight"]


@pytest.mark.parametrize(
    "options", [{}, {"count": 1, "layers": ("fc1.weight",)}, {"count": 4}, {"ratio": 1.1}, {"layers": ("fc1.bias",)},
                {"count": 1, "effects": {"fc1.weight": float("nan")}}, {"count": 1, "effects": {"fc1.weight": -1.0}}]
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(InvalidInput):
        remove(network(), **{"effects": {"conv1.weight": 0.1, "conv2.weight": 0.1, "fc1.weight": 0.1}, **options})


def test_no_samples_and_those_of_another_network_are_refused():
    with pytest.raises(CalibrationError, match="empty"):
        removal_effects(network(), [])
    graph = network()
    seen = collect_layer_inputs(graph, batches(graph, 4))
    with pytest.raises(CalibrationError, match="sums of shape"):
        remove(graph, layers=("fc1.weight",), inputs={"fc1.weight": seen["conv1.weight"]})
