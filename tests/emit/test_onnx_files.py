"""What an ONNX file says and how it is written: names, batch, versions, codes, and what cannot be written."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest

from penjing import api
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.core.errors import (
    InvalidGraph,
    InvalidInput,
    MissingDependency,
    OutputExists,
    QuantizationError,
    UnsupportedOp,
)
from penjing.core.version import VERSION
from penjing.emit.onnx.emit import emit_onnx
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant, Dim, State, Type
from penjing.ops.add import Add
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.relu import Relu
from penjing.ops.sigmoid import Sigmoid
from penjing.ops.table import Elementwise
from penjing.testing.networks import BATCH, Network, batches, edge_cnn

onnx = pytest.importorskip("onnx", reason="ONNX files are read and run by onnx and onnxruntime")


@pytest.fixture(scope="module")
def floats() -> Graph:
    return edge_cnn()


@pytest.fixture(scope="module")
def quantized(floats) -> Graph:
    return api.quantize(floats, batches(floats, 8))


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(5, 1, 32, 32)).astype(np.float32)


def read(data: bytes):
    return onnx.load_from_string(data)


def initializers(data: bytes) -> dict:
    return {one.name: one for one in read(data).graph.initializer}


def test_names_batch_and_producer_are_in_the_file(floats):
    model = read(emit_onnx(floats))
    (source,), (target,) = model.graph.input, model.graph.output
    assert (source.name, target.name, model.graph.name) == ("x", "fc2", "edgecnn")
    shape = [one.dim_param or one.dim_value for one in source.type.tensor_type.shape.dim]
    assert shape == ["batch", 1, 32, 32]
    assert (model.producer_name, model.producer_version) == ("penjing", VERSION)
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    assert {"conv1.weight", "fc2.bias"} <= {one.name for one in model.graph.initializer}


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_batch_may_have_any_size(floats, run_onnx, x, n):
    (found,) = run_onnx(emit_onnx(floats), x[:n])
    np.testing.assert_allclose(found, evaluate(floats, x[:n])[0], rtol=0, atol=1e-5)


def test_the_same_graph_gives_the_same_bytes(quantized):
    assert emit_onnx(quantized) == emit_onnx(quantized.copy())


def test_codes_have_the_types_that_integer_kernels_take(quantized):
    made = initializers(emit_onnx(quantized))
    kinds = {name: onnx.TensorProto.DataType.Name(one.data_type) for name, one in made.items()}
    assert kinds["conv1.weight.q.codes"] == kinds["conv1.weight.q.zero_point"] == "INT8"
    assert list(made["conv1.weight.q.scale"].dims) == [16]
    assert kinds["conv1.bias.q.codes"] == "INT32"
    assert kinds["relu1.zero_point"] == "UINT8"
    assert list(made["relu1.scale"].dims) == []
    weight, source = quantized.constants["conv1.weight.q"], quantized.types["x"].quant
    bias_scale = onnx.numpy_helper.to_array(made["conv1.bias.q.scale"])
    np.testing.assert_array_equal(bias_scale, source.scale * weight.quant.scale_array())


def test_q_and_dq_stand_behind_roundings_alone(quantized):
    ops = [node.op_type for node in read(emit_onnx(quantized)).graph.node]
    # x, relu1, pool1, relu2, pool2, flat, relu3, fc2: what conv1, conv2 and fc1 give is not rounded before its relu
    assert ops.count("QuantizeLinear") == 8
    assert ops.count("DequantizeLinear") == 8 + 4 + 4


def test_weights_of_four_bits_take_half_the_bytes(floats, x, steps_apart):
    few, _ = run_passes(floats, [RoundWeights(4)])
    graph = api.quantize(few, batches(floats, 8))
    packed, whole = emit_onnx(graph, int4=True), emit_onnx(graph)
    codes = sum(c.array.size for c in graph.constants.values() if c.array.dtype == np.int8)
    assert len(whole) - len(packed) == pytest.approx(codes / 2, rel=0.01)
    assert read(packed).opset_import[0].version == 21
    (apart,) = steps_apart(graph, x, int4=True)
    assert np.abs(apart).max() <= 1


def test_every_code_of_four_bits_is_stored(run_onnx):
    net = Network()
    values = np.arange(-7, 8, dtype=np.float32)[:, None] / 7  # an odd number of codes
    net.node(Linear(), net.input(1), net.constant("w", values), out="y")
    graph = api.quantize(net.done("y"), [np.linspace(-1, 1, 9, dtype=np.float32)[:, None]])
    codes = next(c for c in graph.constants.values() if c.array.dtype == np.int8)
    few = Constant(np.arange(-7, 8, dtype=np.int8)[:, None], quant=codes.quant)
    graph.set_constant("w.q", few)
    x = np.float32([[1.0]])
    assert run_onnx(emit_onnx(graph, int4=True), x)[0].tolist() == run_onnx(emit_onnx(graph), x)[0].tolist()


def test_tensorrt_gets_codes_around_zero_and_biases_as_floats(floats, x, steps_apart):
    graph = api.quantize(floats, batches(floats, 8), symmetric=True)
    made = initializers(emit_onnx(graph, tensorrt=True))
    kinds = {onnx.TensorProto.DataType.Name(one.data_type) for one in made.values()}
    assert kinds == {"FLOAT", "INT8", "INT64"}
    zeros = [onnx.numpy_helper.to_array(one) for name, one in made.items() if name.endswith("zero_point")]
    assert zeros
    assert not any(zero.any() for zero in zeros)
    (apart,) = steps_apart(graph, x, tensorrt=True)
    assert np.abs(apart).max() <= 1


def test_tensorrt_refuses_ranges_that_are_not_symmetric(quantized):
    with pytest.raises(QuantizationError, match="zero point") as told:
        emit_onnx(quantized, tensorrt=True)
    assert "symmetric=True" in told.value.hint


def test_values_with_known_ranges_stay_floats_for_tensorrt(run_onnx):
    net = Network()
    gate = net.node(Sigmoid(), net.input(4), out="gate")
    graph = api.quantize(net.done(net.linear(gate, 3, out="y")), [np.float32([[-3, 0, 1, 2]])], symmetric=True)
    data = emit_onnx(graph, tensorrt=True)
    assert "gate.codes" not in {name for node in read(data).graph.node for name in node.output}
    run_onnx(data, np.float32([[1, 2, 3, 4]]))


@pytest.mark.parametrize("opset", [16, 22, 0])
def test_an_opset_that_is_not_written_is_refused(floats, opset):
    with pytest.raises(InvalidInput, match=f"opset {opset}"):
        emit_onnx(floats, opset=opset)


def test_options_that_do_not_fit_are_refused(floats, quantized):
    for options in ({"int4": True}, {"tensorrt": True}):
        with pytest.raises(InvalidInput, match="holds floats"):
            emit_onnx(floats, **options)
    with pytest.raises(InvalidInput, match="four bits"):
        emit_onnx(quantized, int4=True, opset=17)
    with pytest.raises(InvalidInput, match="no weight"):
        emit_onnx(quantized, int4=True)


HOSTILE = ["a b", 'quote"d', "line\nbreak", "盆景", "x/../y", "%s{}", "a" * 5000, "\x00", "x.codes", "x.rounded"]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_can_be_a_name(run_onnx, name):
    graph = Graph(name)
    graph.add_input(name, Type((BATCH, 3)))
    w = graph.add_constant(f"{name}.exact", Constant(np.eye(3, dtype=np.float32)))
    graph.add_node(Linear(), (name, w), ("x",))
    graph.add_node(Relu(), ("x",), (f"{name}.real",))
    graph.outputs = (f"{name}.real", "x")
    x = np.float32([[1, -1, 0.5]])
    data = emit_onnx(api.quantize(graph, [x]))
    model = read(data)
    assert [one.name for one in model.graph.input] == [name]
    assert [one.name for one in model.graph.output] == list(graph.outputs)
    if "\x00" not in name:  # which ONNX Runtime's own interface ends at
        np.testing.assert_allclose(run_onnx(data, x)[0], np.maximum(x, 0), atol=0.01)


def test_a_name_that_is_no_text_is_refused():
    graph = Graph("net")
    graph.add_node(Relu(), (graph.add_input("\ud800", Type((BATCH, 3))),), ("y",))
    graph.outputs = ("y",)
    with pytest.raises(InvalidInput, match="UTF-8"):
        emit_onnx(graph)


def test_outputs_that_are_inputs_constants_or_twice_there_are_copied(run_onnx):
    graph = Graph("net")
    x = graph.add_input("x", Type((BATCH, 3)))
    c = graph.add_constant("c", Constant(np.float32([1, 2, 3])))
    graph.add_node(Add(), (x, c), ("y",))
    graph.outputs = ("x", "y", "y", "c")
    value = np.float32([[0.5, 1, 2]])
    found = run_onnx(emit_onnx(graph), value)
    for got, want in zip(found, evaluate(graph, value), strict=True):
        np.testing.assert_array_equal(got, want)


def test_graphs_that_have_no_onnx_form_are_refused(floats, quantized):
    with pytest.raises(InvalidGraph, match="lowered"):
        emit_onnx(api.lower(quantized))
    kept = floats.copy()
    kept.states["s"] = State(Type((1,)), "fc2")
    with pytest.raises(UnsupportedOp, match="between calls"):
        emit_onnx(kept)


def test_an_operator_without_an_onnx_form_is_named():
    @dataclass(frozen=True)
    class Folded(Elementwise):
        name = "folded"
        onnx = ("Folded",)  # read from this name, perhaps with attributes: only the operator itself could write it

        times: int = 2

    graph = Graph("net")
    graph.add_node(Folded(), (graph.add_input("x", Type((BATCH, 3))),), ("y",))
    graph.outputs = ("y",)
    with pytest.raises(UnsupportedOp, match="folded") as told:
        emit_onnx(graph)
    assert "node y" in told.value.where


def test_a_network_beyond_two_gigabytes_is_refused():
    pages = np.zeros((2**29 + 1, 1), np.float32)  # never touched, so they take no memory
    pages.flags.writeable = False
    graph = Graph("large")
    graph.add_input("x", Type((Dim("batch", 1), 1)))
    graph.add_node(Linear(), ("x", graph.add_constant("w", Constant(pages))), ("y",))
    graph.outputs = ("y",)
    with pytest.raises(InvalidInput, match=r"2\.0 GB"):
        emit_onnx(graph)


def test_without_onnx_the_error_says_how_to_get_it(floats, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependency, match="onnx") as told:
        emit_onnx(floats)
    assert "penjing[compress]" in told.value.hint


def test_a_file_is_replaced_only_with_force(floats, tmp_path):
    path = tmp_path / "net.onnx"
    data = api.export_onnx(floats, path)
    assert path.read_bytes() == data
    with pytest.raises(OutputExists):
        api.export_onnx(floats, path)
    api.export_onnx(floats, path, force=True)
