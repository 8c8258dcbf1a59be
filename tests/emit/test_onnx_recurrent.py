"""Recurrent layers in ONNX: the same floats, the codes of their weights, and steps that are not rounded inside."""

import numpy as np
import pytest

from penjing import api
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import UnsupportedOp
from penjing.emit.onnx.emit import emit_onnx
from penjing.frontends.onnx.capture import capture
from penjing.ir.graph import Graph
from penjing.ir.types import Constant, Dim, Quant, Type
from penjing.ops.concat import Concat
from penjing.ops.evaluate import evaluate
from penjing.ops.gru import Gru
from penjing.ops.linear import Linear
from penjing.ops.lstm import Lstm
from penjing.ops.rnn import Rnn
from penjing.ops.slice import Select
from penjing.program.interpret import interpret

onnx = pytest.importorskip("onnx", reason="ONNX files are read and run by onnx and onnxruntime")

FEATURES, UNITS, STEPS = 5, 6, 7
BATCH = Dim("batch", 1)
LAYERS = {
    "lstm": Lstm,
    "gru": Gru,
    "tanh": Rnn,
    "relu": lambda reverse=False: Rnn(reverse, rectified=True),
}
WEIGHTS = (1, 2)  # positions among a layer's inputs


def sequences(count=3):
    return np.random.default_rng(4).normal(size=(count, STEPS, FEATURES)).astype(np.float32)


class Net(Graph):
    """A graph under construction, with random constants."""

    def __init__(self):
        super().__init__("net")
        self.rng = np.random.default_rng(3)
        self.add_input("x", Type((BATCH, STEPS, FEATURES)))

    def normal(self, name, *shape):
        return self.add_constant(name, Constant((0.3 * self.rng.normal(size=shape)).astype(np.float32)))

    def layer(self, x, kind, name, *states, reverse=False, biases=True):
        op = LAYERS[kind](reverse)
        rows = op.gates * UNITS
        names = [self.normal(f"{name}.w_ih", rows, self.types[x].bounds[2]), self.normal(f"{name}.w_hh", rows, UNITS)]
        names += [self.normal(f"{name}.{b}", rows) if biases else "" for b in ("b_ih", "b_hh")]
        inputs = [x, *names, *([""] if kind == "lstm" and states else []), *states]
        while not inputs[-1]:
            inputs.pop()
        outputs = (name, f"{name}.last") if kind in ("lstm", "gru") else (name,)
        self.add_node(op, tuple(inputs), outputs)
        return outputs

    def head(self, y):
        self.add_node(Select(1, STEPS - 1), (y,), ("end",))
        width = self.types["end"].bounds[1]
        self.add_node(Linear(), ("end", self.normal("head", 4, width), self.normal("head.b", 4)), ("out",))
        return "out"


def one_layer(kind, *, biases=True, last=False):
    """The last step of one layer through a linear one, and on request the state that it leaves."""
    net = Net()
    y, *carried = net.layer("x", kind, "core", biases=biases)
    net.outputs = (net.head(y), *(carried if last else ()))
    return net


def both_directions_twice(kind):
    net, x = Net(), "x"
    for k in range(2):
        ways = [net.layer(x, kind, f"core{k}{way}", reverse=bool(way))[0] for way in range(2)]
        net.add_node(Concat(2), tuple(ways), (f"both{k}",))
        x = f"both{k}"
    net.outputs = (net.head(x),)
    return net


def with_states():
    """Starts from one state for all samples, and from a cell that is an input."""
    net = Net()
    cell = net.add_input("c", Type((BATCH, UNITS)))
    net.outputs = net.layer("x", "lstm", "core", net.normal("h", 1, UNITS), cell)
    return net


def reals(graph, codes):
    quant = graph.types[graph.inputs[0]].quant
    return dequantize(codes, quant.scale, quant.zero_point)


def as_network(graph):
    """What a graph says: its operators, and arrays of weights by name."""
    weights = {n.inputs[i] for n in graph.nodes if n.op.name in ("lstm", "gru", "rnn") for i in WEIGHTS}
    return [node.op for node in graph.nodes], {name: graph.constants[name].array for name in weights}


@pytest.mark.parametrize(
    "make",
    [lambda kind: one_layer(kind, last=True), lambda kind: one_layer(kind, biases=False), both_directions_twice],
    ids=["with its state", "without biases", "both directions twice"],
)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_computes_the_same_in_onnx_and_is_the_same_when_it_is_read_again(run_onnx, tmp_path, kind, make):
    x = sequences()
    graph = make(kind)
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
    graph = one_layer("gru")
    (tmp_path / "net.onnx").write_bytes(emit_onnx(graph))
    assert as_network(capture(tmp_path / "net.onnx").graph)[0] == as_network(graph)[0]


def test_states_that_are_learned_and_states_that_are_given_are_written(run_onnx, tmp_path):
    x, cell = sequences(), np.random.default_rng(5).normal(size=(3, UNITS)).astype(np.float32)
    graph = with_states()
    data = emit_onnx(graph)
    (tmp_path / "net.onnx").write_bytes(data)
    again = capture(tmp_path / "net.onnx").graph
    for ours, theirs, read in zip(
        evaluate(graph, x, cell), run_onnx(data, x, cell), evaluate(again, x, cell), strict=True
    ):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)
        np.testing.assert_allclose(read, ours, rtol=0, atol=1e-5)
    assert (1, UNITS) in [constant.array.shape for constant in again.constants.values()]


@pytest.mark.parametrize("kind", LAYERS)
def test_a_quantized_layer_is_a_few_steps_off_and_gives_the_same_program_when_it_is_read_again(
    run_onnx, tmp_path, kind
):
    x = sequences(64)
    graph = api.quantize(one_layer(kind), [x])
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
    graph = api.quantize(one_layer("lstm", last=True), [x])
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
    graph = one_layer("gru")
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
    graph = api.quantize(one_layer("lstm"), [x], symmetric=True)
    assert np.isfinite(run_onnx(emit_onnx(graph, tensorrt=True), x)[0]).all()


def test_a_projection_is_refused():
    graph = Net()
    shapes = ((4 * UNITS, FEATURES), (4 * UNITS, 3), (3, UNITS))
    w_ih, w_hh, w_hr = (graph.normal(f"w{k}", *shape) for k, shape in enumerate(shapes))
    graph.add_node(Lstm(projected=True), ("x", w_ih, w_hh, "", "", w_hr), ("y", "c"))
    graph.outputs = ("y",)
    with pytest.raises(UnsupportedOp, match="no recurrent layer with a projection"):
        emit_onnx(graph)
