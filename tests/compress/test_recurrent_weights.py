"""Passes treat both weights of a recurrent layer as weights, and know that its output is no product of either."""

import numpy as np
import pytest

from penjing import api
from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.prune.patterns import NOfM
from penjing.compress.prune.prune_channels import PruneChannels
from penjing.compress.prune.prune_magnitude import PruneMagnitude
from penjing.compress.prune.prune_n_of_m import PruneNOfM
from penjing.compress.prune.prune_obs import PruneObs
from penjing.compress.quantize.bias_drift import expected_drift
from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.correct_bias import CorrectBias
from penjing.compress.quantize.gptq import Gptq
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.compress.share.share_weights import ShareWeights
from penjing.compress.structure.low_rank import LowRank
from penjing.ir.graph import Graph
from penjing.ir.grid import grid_codes
from penjing.ir.passes import Pass
from penjing.ir.verify import verify
from penjing.ops.evaluate import evaluate
from penjing.ops.gru import Gru
from penjing.ops.layers import float_weights, layer_nodes
from penjing.ops.linear import Linear
from penjing.ops.lstm import Lstm
from penjing.ops.slice import Select
from penjing.testing.networks import Network

BOTH = ("lstm.ih", "lstm.hh")


@pytest.fixture(scope="module")
def graph() -> Graph:
    """linear -> LSTM -> GRU -> linear of the last step."""
    net = Network("recurrent")
    x = net.node(Linear(), net.input(6, 8), net.weight("fc", 16, 8), net.constant("fc.bias", np.zeros(16)), out="fc.y")
    lstm = (net.weight("lstm.ih", 48, 16), net.weight("lstm.hh", 48, 12), net.constant("lstm.b", np.zeros(48)))
    y = net.graph.add_node(Lstm(), (x, *lstm, lstm[2]), ("h", "c")).outputs[0]
    gru = (net.weight("gru.ih", 30, 12), net.weight("gru.hh", 30, 10))
    y = net.graph.add_node(Gru(), (y, *gru), ("g", "g.last")).outputs[0]
    last = net.node(Select(1, 5), y, out="last")
    return net.done(net.node(Linear(), last, net.weight("head", 3, 10), out="y"))


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(64, 6, 8)).astype(np.float32)


def test_all_weights_are_found_and_layers_are_those_whose_output_is_a_product(graph):
    assert list(float_weights(graph)) == ["fc", *BOTH, "gru.ih", "gru.hh", "head"]
    assert [layer.weight for layer in layer_nodes(graph)] == ["fc", "head"]


def test_magnitude_pruning_reaches_both(graph):
    pruned = PruneMagnitude(ratio=0.5).run(graph).graph
    assert all(np.mean(pruned.constants[name].array == 0) == pytest.approx(0.5, abs=0.02) for name in BOTH)


def test_patterns_leave_them_alone_until_they_are_named(graph, samples):
    result = PruneNOfM(2, 4).run(graph)
    reason = "no kernel of lstm leaves out zeros: they shrink the file, not the time"
    assert [r.text for r in result.declined if r.where in BOTH] == [reason] * 2
    named = PruneNOfM(2, 4, per_layer=dict.fromkeys(BOTH, 2)).run(graph).graph
    for name in BOTH:
        groups = named.constants[name].array.reshape(48, -1, 4)
        assert (np.count_nonzero(groups, axis=2) <= 2).all()


def test_channels_before_a_recurrent_layer_can_go(graph):
    pruned = PruneChannels(ratio={"fc": 0.5}, round_to=4).run(graph).graph
    assert pruned.constants["fc"].array.shape == (8, 8) and pruned.constants["lstm.ih"].array.shape == (48, 8)
    assert pruned.constants["lstm.hh"].array.shape == (48, 12)
    verify(pruned)


@pytest.mark.parametrize("made", [RoundWeights(4), ShareWeights(16), LowRank(energy=0.5)], ids=lambda p: p.name)
def test_a_pass_leaves_a_network_that_runs(made: Pass, graph, samples):
    changed = made.run(graph).graph
    verify(changed)
    assert evaluate(changed, samples)[0].shape == (64, 3)


def test_codes_that_were_chosen_are_kept(graph, samples):
    rounded = RoundWeights(4).run(graph).graph
    codes = {name: grid_codes(rounded.constants[name]) for name in BOTH}
    quantized = QuantizeStatic(calibrate(rounded, [samples], "min-max")).run(rounded).graph
    for name in BOTH:
        np.testing.assert_array_equal(quantized.constants[f"{name}.q"].array, codes[name])


def test_what_the_input_weight_reads_is_known_and_serves_pruning_and_rounding(graph, samples):
    inputs = collect_layer_inputs(graph, [samples])
    assert set(inputs) == {"fc", "lstm.ih", "gru.ih", "head"}
    assert inputs["lstm.ih"].rows == 64 * 6
    rounded = Gptq(inputs=inputs, bits=3).run(graph)
    assert {r.where: r.text for r in rounded.declined}["lstm.hh"] == "nothing is known of what it reads"
    pruned = PruneObs(inputs, NOfM(2, 4), {"lstm.ih": NOfM(2, 4)}).run(graph).graph
    assert np.mean(pruned.constants["lstm.ih"].array == 0) >= 0.5


def test_a_drift_of_the_input_products_is_taken_off_their_bias(graph, samples):
    inputs = collect_layer_inputs(graph, [samples])
    rounded = RoundWeights(3).run(graph).graph
    drift = expected_drift(graph, rounded, {"lstm.ih": inputs["lstm.ih"].mean, "gru.ih": inputs["gru.ih"].mean})
    corrected = CorrectBias(drift).run(rounded).graph
    verify(corrected)
    lstm = next(node for node in corrected.nodes if node.op.name == "lstm")
    # both biases were one constant: the other stays as it was
    np.testing.assert_array_equal(corrected.constants[lstm.inputs[4]].array, np.zeros(48, np.float32))
    np.testing.assert_allclose(corrected.constants[lstm.inputs[3]].array, -drift["lstm.ih"], rtol=1e-6)
    gru = next(node for node in corrected.nodes if node.op.name == "gru")
    np.testing.assert_allclose(corrected.constants[gru.inputs[3]].array, -drift["gru.ih"], rtol=1e-6)


def test_a_recurrent_network_can_be_trained_and_keeps_its_zeros(graph, samples):
    torch = pytest.importorskip("torch")
    pruned = PruneMagnitude(ratio=0.5).run(graph).graph
    module = api.trainable(pruned)
    x = torch.from_numpy(samples)
    np.testing.assert_allclose(module(x).detach().numpy(), evaluate(pruned, samples)[0], atol=1e-5)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    before = float(module(x).square().sum())
    for _ in range(2):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()
    trained = module.to_graph()
    assert float(module(x).square().sum()) < before
    for name in BOTH:
        old, new = pruned.constants[name].array, trained.constants[name].array
        assert (new[old == 0] == 0).all() and (new != old).any()


def test_training_for_integers_rounds_both(graph, samples):
    torch = pytest.importorskip("torch")
    from penjing.train.qat import quantization_aware

    module = quantization_aware(graph, calibrate(graph, [samples]).ranges, bits=4)
    module(torch.from_numpy(samples)).square().mean().backward()
    trained = module.to_graph()
    assert all(trained.constants[name].quant is not None for name in BOTH)
