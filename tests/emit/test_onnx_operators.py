"""Every operator in ONNX: in floats it is its own meaning, quantized it gives our codes.

The steps of a quantized recurrent layer are written in floats; test_onnx_recurrent.py says what that means.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings

from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.emit.onnx.emit import emit_onnx
from penjing.ops.evaluate import evaluate
from penjing.testing.random_graphs import float_graphs
from penjing.testing.roundings import cut_at_roundings, reals_at_roundings
from penjing.testing.sample_graphs import knows_position, network_operators, operator_samples, sample_graph

NAMES = network_operators()
IN_CODES = [name for name in NAMES if name not in ("gru", "lstm", "rnn")]
OPSETS = (17, 18, 20, 21)  # where the form of an operator changes
TOLERANCE = 1e-5  # of the largest output: sums of floats in another order
TIES = 0.05  # the share of codes that may fall on the other side of a half: means of two or four codes often lie on one


def in_networks(name):
    return [one for one in operator_samples([name]) if not knows_position(one[1])]


def quantized(graph, *inputs):
    return QuantizeStatic(calibrate(graph, [inputs], "min-max")).run(graph).graph


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", NAMES)
def test_the_samples_of_an_operator_compute_their_float_meaning(run_onnx, name, opset):
    samples = [one for one in in_networks(name) if not getattr(one[1].op, "projected", False)]
    made = sample_graph(name, samples)
    found = run_onnx(emit_onnx(made.graph, opset=opset), *made.inputs)
    for got, want in zip(found, evaluate(made.graph, *made.inputs), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * np.abs(want).max())


@pytest.mark.parametrize("optimized", [True, False], ids=["optimized", "as-written"])
@pytest.mark.parametrize("name", IN_CODES)
def test_the_samples_of_an_operator_round_as_the_program_does(steps_apart, name, optimized):
    made = sample_graph(name, in_networks(name))
    found = steps_apart(quantized(made.graph, *made.inputs), *made.inputs, optimized=optimized)
    apart = np.concatenate([one.ravel() for one in found])
    assert np.abs(apart).max() <= 1
    assert (apart != 0).mean() <= TIES


# A batch norm at random has outputs that cancel to nothing but rounding errors; its samples are compared above.
GRAPHS = float_graphs([name for name in NAMES if name != "batch_norm"], max_layers=10)
GRAPHS_IN_CODES = float_graphs([name for name in IN_CODES if name != "batch_norm"], max_layers=10)


@settings(max_examples=40)
@given(case=GRAPHS)
def test_random_networks_compute_the_same_in_floats(run_onnx, case):
    assume(not any(getattr(node.op, "projected", False) for node in case.graph.nodes))
    found = run_onnx(emit_onnx(case.graph), *case.batch)
    for got, want in zip(found, evaluate(case.graph, *case.batch), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())


@settings(max_examples=40)
@given(case=GRAPHS_IN_CODES)
def test_random_networks_round_where_the_program_does(steps_apart, case):
    graph = quantized(case.graph, *case.batch)
    cut, stands_for = cut_at_roundings(graph)
    assume(cut.outputs)
    reals = reals_at_roundings(graph, cut, stands_for, case.batch)
    for optimized in (True, False):
        for apart in steps_apart(cut, *reals, optimized=optimized):
            assert np.abs(apart).max(initial=0) <= 1
