"""Recurrent layers in ONNX: the same floats, the codes of their weights, and steps that are not rounded inside."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from penjing import api
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import UnsupportedOp
from penjing.emit.onnx.emit import emit_onnx
from penjing.frontends.onnx.capture import capture
from penjing.ir.types import Constant, Quant
from penjing.ops.evaluate import evaluate
from penjing.program.interpret import interpret

FEATURES, UNITS, STEPS = 5, 6, 7
LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "tanh": nn.RNN, "relu": nn.RNN}
WEIGHTS = (1, 2)  # positions among a layer's inputs


def core(kind, **options):
    torch.manual_seed(3)
    more = {"nonlinearity": "relu"} if kind == "relu" else {}
    return LAYERS[kind](FEATURES, UNITS, batch_first=True, **more, **options)


def sequences(count=3):
    return np.random.default_rng(4).normal(size=(count, STEPS, FEATURES)).astype(np.float32)


class Net(nn.Module):
    """The last step through a linear layer, and the last state of the first layer."""

    def __init__(self, layer, *, last=False):
        super().__init__()
        self.core, self.last = layer, last
        self.out = nn.Linear(UNITS * (1 + layer.bidirectional), 4)

    def forward(self, x):
        y, state = self.core(x)
        state = state[1] if isinstance(state, tuple) else state
        return (self.out(y[:, -1]), state[0]) if self.last else self.out(y[:, -1])


class Learned(nn.Module):
    """Starts from one learned state, and from a cell that is an input."""

    def __init__(self):
        super().__init__()
        self.core = core("lstm")
        self.h = nn.Parameter(torch.full((1, 1, UNITS), 0.3))

    def forward(self, x, c):
        return self.core(x, (self.h.expand(-1, x.shape[0], -1), c[None]))[0]


def reals(graph, codes):
    quant = graph.types[graph.inputs[0]].quant
    return dequantize(codes, quant.scale, quant.zero_point)


def as_network(graph):
    """What a graph says: its operators, and arrays of weights by name."""
    weights = {n.inputs[i] for n in graph.nodes if n.op.name in ("lstm", "gru", "rnn") for i in WEIGHTS}
    return [node.op for node in graph.nodes], {name: graph.constants[name].array for name in weights}


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False}], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_computes_the_same_in_onnx_and_is_the_same_when_it_is_read_again(run_onnx, tmp_path, kind, options):
    x = sequences()
    graph = api.capture(Net(core(kind, **options), last=True), x[:2])
    data = emit_onnx(graph)
    (tmp_path / "net.onnx").write_bytes(data)
    again = capture(tmp_path / "net.onnx").graph
    for ours, theirs, read in zip(evaluate(graph, x), run_onnx(data, x), evaluate(again, x), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)
        np.testing.assert_allclose(read, ours, rtol=0, atol=1e-5)
    (_, first), (_, second) = as_network(graph), as_network(again)
    assert sorted(first) == sorted(second)
    for name, array in first.items():
        np.testing.assert_array_equal(second[name], array)


def test_a_network_with_one_layer_is_the_same_node_by_node(tmp_path):
    graph = api.capture(Net(core("gru")), sequences(2))
    (tmp_path / "net.onnx").write_bytes(emit_onnx(graph))
    assert as_network(capture(tmp_path / "net.onnx").graph)[0] == as_network(graph)[0]


def test_states_that_are_learned_and_states_that_are_given_are_written(run_onnx, tmp_path):
    x, cell = sequences(), np.random.default_rng(5).normal(size=(3, UNITS)).astype(np.float32)
    graph = api.capture(Learned(), (x[:2], cell[:2]))
    data = emit_onnx(graph)
    (tmp_path / "net.onnx").write_bytes(data)
    again = capture(tmp_path / "net.onnx").graph
    expected = evaluate(graph, x, cell)[0]
    np.testing.assert_allclose(run_onnx(data, x, cell)[0], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(evaluate(again, x, cell)[0], expected, rtol=0, atol=1e-5)
    assert [c.array.shape for name, c in again.constants.items() if name.startswith("h")] == [(1, UNITS)]


@pytest.mark.parametrize("kind", LAYERS)
def test_a_quantized_layer_is_a_few_steps_off_and_gives_the_same_program_when_it_is_read_again(
    run_onnx, tmp_path, kind
):
    x = sequences(64)
    graph = api.quantize(api.capture(Net(core(kind)), x[:2]), [x])
    source, target = (graph.types[name].quant for name in (graph.inputs[0], graph.outputs[0]))
    codes = quantize(x, source.scale, source.zero_point)
    data = emit_onnx(graph)
    (found,) = run_onnx(data, reals(graph, codes))
    (ours,) = interpret(api.lower(graph), codes)
    apart = np.abs(np.rint(found / target.scale) + target.zero_point - ours)
    assert apart.max() <= 4  # what rounding the state at every step makes, at the most seen here times two
    assert apart.mean() <= 1
    (tmp_path / "net.onnx").write_bytes(data)
    again = capture(tmp_path / "net.onnx")
    assert not again.needs_calibration
    assert not again.notes
    program = api.lower(api.quantize(again.graph, [], known=again.ranges))
    np.testing.assert_array_equal(interpret(program, codes)[0], ours)


def stored(data):
    return {one.name: one for one in onnx.load_from_string(data).graph.initializer}


def test_weights_are_stored_as_codes_and_what_is_added_to_them_as_floats():
    x = sequences(8)
    graph = api.quantize(api.capture(Net(core("lstm"), last=True), x[:2]), [x])
    tensors = stored(emit_onnx(graph))
    layer = next(node for node in graph.nodes if node.op.name == "lstm")
    for place in WEIGHTS:
        codes = onnx.numpy_helper.to_array(tensors[f"{layer.inputs[place]}.codes"])
        i, f, g, o = np.split(graph.constants[layer.inputs[place]].array, 4)
        np.testing.assert_array_equal(codes, np.concatenate([i, o, f, g])[None])
    biases = onnx.numpy_helper.to_array(tensors[f"{layer.outputs[0]}.biases"])
    assert biases.shape == (1, 8 * UNITS)
    assert biases.dtype == np.float32


def test_weights_of_few_codes_are_stored_in_four_bits(run_onnx):
    x = sequences(8)
    graph = api.capture(Net(core("gru")), x[:2])
    (layer,) = [node for node in graph.nodes if node.op.name == "gru"]
    for place in WEIGHTS:
        array = graph.constants[layer.inputs[place]].array
        codes = np.clip(np.rint(array / 0.0625), -7, 7).astype(np.float32)
        graph.set_constant(layer.inputs[place], Constant(codes * np.float32(0.0625), quant=Quant((0.0625,))))
    quantized = api.quantize(graph, [x])
    small, large = emit_onnx(quantized, int4=True), emit_onnx(quantized, opset=21)
    kinds = [tensor.data_type for name, tensor in stored(small).items() if "core" in name and name.endswith(".codes")]
    assert kinds == [onnx.TensorProto.INT4] * 2
    for ours, theirs in zip(run_onnx(small, x), run_onnx(large, x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_codes_around_zero_can_be_asked_for(run_onnx):
    x = sequences(8)
    graph = api.quantize(api.capture(Net(core("lstm")), x[:2]), [x], symmetric=True)
    assert np.isfinite(run_onnx(emit_onnx(graph, tensorrt=True), x)[0]).all()


def test_a_projection_is_refused():
    layer = nn.LSTM(FEATURES, UNITS, proj_size=3, batch_first=True)
    graph = api.capture(layer, sequences(2))
    with pytest.raises(UnsupportedOp, match="no recurrent layer with a projection"):
        emit_onnx(graph)
