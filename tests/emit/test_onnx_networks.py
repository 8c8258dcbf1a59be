"""The networks of the zoo in ONNX: the same floats, and quantized the same codes.

Where ONNX Runtime computes in integers, it gives our codes. It does so for layers with a rounding of their own, not for
a convolution that adds a shortcut in passing: that one it computes in floats, in which a code on a tie may fall on the
other side. Through a deep network with random weights such codes multiply, so each rounding is compared by itself.
"""

from functools import cache

import numpy as np
import onnx
import pytest

from penjing import api, zoo
from penjing.core.arithmetic import quantize
from penjing.emit.onnx.emit import emit_onnx
from penjing.ops.evaluate import evaluate
from penjing.program.interpret import interpret
from penjing.testing.roundings import cut_at_roundings, reals_at_roundings
from penjing.zoo import data, weights

TOLERANCE = 1e-4  # of the largest output
SAMPLES, CALIBRATED, FEW = 32, 8, 2
MOST_ON_TIES = 1e-3  # share of the codes
SHORTCUTS = ("resnet8", "resnet8-option-a", "resnet20")
STRAIGHT = ("edgecnn", "lenet5", "lenet300", "dscnn", "mobilenetv1", "autoencoder")
DEEP = ("resnet56", "mobilenetv1", "mobilenetv2")


def params(names):
    return [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in names]


@cache
def network(name):
    """(float graph, quantized graph, inputs)."""
    model = zoo.find(name)
    x = model.random_inputs(SAMPLES, seed=7)
    if name.startswith("mobilenet"):  # any size that 32 divides will do
        x = np.ascontiguousarray(x[:, :, :64, :64])
    graph = api.capture(zoo.create(name, trained_batchnorm=True), x[:2])
    return graph, api.quantize(graph, [x[:CALIBRATED]], observer="min-max"), x


@pytest.mark.parametrize("name", params(zoo.names()))
def test_a_network_computes_the_same_in_floats(run_onnx, name):
    graph, _, x = network(name)
    (found,) = run_onnx(emit_onnx(graph), x[:FEW])
    (expected,) = evaluate(graph, x[:FEW])
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("name", params(STRAIGHT))
def test_a_network_without_shortcuts_gives_our_codes(steps_apart, name):
    _, graph, x = network(name)
    (apart,) = steps_apart(graph, x)
    assert not apart.any()


def test_layers_in_float32_are_written_as_they_are(steps_apart):
    graph, _, x = network("edgecnn")
    kept = api.quantize(graph, [x[:CALIBRATED]], observer="min-max", keep_float=["conv1", "fc*"])
    (apart,) = steps_apart(kept, x)
    assert np.abs(apart).max() <= 1  # in whichever order ONNX Runtime adds, a real may lie beside a tie
    model = onnx.load_model_from_string(emit_onnx(kept))
    (first, second) = (node for node in model.graph.node if node.op_type == "Gemm")
    rounded = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert not rounded & {first.output[0], *second.input}


@pytest.mark.parametrize("optimized", [True, False], ids=["optimized", "as-written"])
@pytest.mark.parametrize("name", SHORTCUTS)
def test_a_network_with_shortcuts_is_one_step_from_our_codes(steps_apart, name, optimized):
    _, graph, x = network(name)
    (apart,) = steps_apart(graph, x, optimized=optimized)
    assert np.abs(apart).max() <= 1


@pytest.mark.parametrize("optimized", [True, False], ids=["optimized", "as-written"])
@pytest.mark.parametrize("name", params(zoo.names()))
def test_each_rounding_of_a_network_gives_our_codes_save_for_ties(steps_apart, name, optimized):
    _, graph, x = network(name)
    cut, stands_for = cut_at_roundings(graph)
    found = steps_apart(cut, *reals_at_roundings(graph, cut, stands_for, [x[:FEW]]), optimized=optimized)
    apart = np.concatenate([one.ravel() for one in found])
    assert np.abs(apart).max() <= 1
    assert (apart != 0).mean() <= MOST_ON_TIES


@pytest.fixture(scope="module")
def trained_resnet(data_dir):
    """(quantized graph, the codes that its program gives, 1,000 test images, their labels)."""
    cifar = data.load("cifar10")
    graph = api.capture(weights.trained("resnet20"), cifar.normalise(cifar.test_x[:2]))
    graph = api.quantize(graph, [cifar.normalise(cifar.train_x[:256])])
    x, source = cifar.normalise(cifar.test_x[:1000]), graph.types[graph.inputs[0]].quant
    (codes,) = interpret(api.lower(graph), quantize(x, source.scale, source.zero_point))
    return graph, codes.astype(int), x, cifar.test_y[:1000]


@pytest.mark.slow
@pytest.mark.parametrize("optimized", [True, False], ids=["optimized", "as-written"])
def test_the_trained_network_is_as_accurate_and_says_the_same(run_onnx, trained_resnet, optimized):
    graph, ours, x, y = trained_resnet
    (found,) = run_onnx(emit_onnx(graph), x, optimized=optimized)
    target = graph.types[graph.outputs[0]].quant
    theirs = np.rint(found / target.scale).astype(int) + target.zero_point
    assert np.abs(theirs - ours).max() <= 1
    first = np.sort(ours, axis=1)
    is_close = first[:, -1] - first[:, -2] <= 1  # one step up, one down: the order may turn
    assert (is_close | (theirs.argmax(1) == ours.argmax(1))).all()
    assert abs((theirs.argmax(1) == y).mean() - (ours.argmax(1) == y).mean()) <= 0.003
