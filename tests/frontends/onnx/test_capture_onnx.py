"""ONNX models become the graphs that they describe, or are refused with places and reasons."""

import warnings

import numpy as np
import pytest
import torch
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from penjing import api
from penjing.core.errors import InvalidInput, ParityError, UnsupportedOp
from penjing.frontends.onnx import compare
from penjing.frontends.onnx.capture import capture, coverage
from penjing.ops.evaluate import evaluate
from penjing.ops.relu import Clamp
from penjing.program.interpret import interpret

node = helper.make_node
RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def ops_of(graph):
    return [n.op.name for n in graph.nodes]


class Small(torch.nn.Module):
    """Without a batch norm: the exporter folds one, in its own rounding."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(2, 6, 3, padding=1)
        self.second = torch.nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.third = torch.nn.Linear(6 * 4 * 4, 5)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x) + x)
        x = torch.nn.functional.max_pool2d(x, 2)
        x = torch.nn.functional.hardswish(torch.nn.functional.gelu(x))
        return torch.softmax(self.third(x.view(x.size(0), -1)), -1)


def export(module, example, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (example,), str(path), dynamo=False, input_names=["x"], **options)


@pytest.mark.parametrize(("opset", "fixed"), [(11, False), (14, True), (17, False)])
def test_an_exported_network_is_the_captured_one_and_gives_the_same_program(tmp_path, opset, fixed):
    torch.manual_seed(0)
    module, x = Small(), floats(4, 2, 8, 8)
    path = tmp_path / "small.onnx"
    axes = None if fixed else {"x": {0: "batch"}}
    export(module, torch.from_numpy(x[:2]), path, opset_version=opset, dynamic_axes=axes)
    ours, theirs = capture(path).graph, api.capture(module, x)
    assert ops_of(ours) == ops_of(theirs)
    assert set(theirs.constants) == set(ours.constants)
    for name, constant in theirs.constants.items():
        np.testing.assert_array_equal(constant.array, ours.constants[name].array)
    programs = [api.lower(api.quantize(graph, [x])) for graph in (ours, theirs)]
    codes = RNG.integers(0, 256, (3, 2, 8, 8)).astype(np.uint8)
    np.testing.assert_array_equal(interpret(programs[0], codes)[0], interpret(programs[1], codes)[0])


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.nn.functional.gelu, "gelu"),
        (lambda x: torch.nn.functional.gelu(x, approximate="tanh"), "gelu"),
        (lambda x: x * torch.clamp(x + 3, 0, 6) / 6, "hardswish"),
        (lambda x: torch.clamp(x + 3, 0, 6) / 6, "hardsigmoid"),
        (lambda x: x / 6 * torch.clamp(3 + x, 0, 6), "hardswish"),
        (torch.nn.functional.silu, "silu"),
        (lambda x: torch.sigmoid(x) * x, "silu"),
        (lambda x: torch.clamp(x, 0, 6), "relu6"),
        (lambda x: torch.clamp(x, min=0), "relu"),
        (lambda x: 0.5 * (torch.erf(x / 2**0.5) + 1) * x, "gelu"),
        (lambda x: x * 0.5 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x * x * x))), "gelu"),
    ],
)
def test_a_decomposed_activation_becomes_one_operator(tmp_path, function, name):
    class Net(torch.nn.Module):
        def forward(self, x):
            return function(x)

    export(Net(), torch.zeros(1, 5), tmp_path / "net.onnx", dynamic_axes={"x": {0: "n"}})
    assert ops_of(capture(tmp_path / "net.onnx").graph) == [name]


def test_what_only_resembles_a_pattern_keeps_its_meaning(save):
    constants = {"half": np.float32(0.6), "root": np.float32(2**0.5), "one": np.float32(1)}
    gelu = [
        node("Div", ["x", "root"], ["a"]),
        node("Erf", ["a"], ["b"]),
        node("Add", ["b", "one"], ["c"]),
        node("Mul", ["x", "c"], ["d"]),
        node("Mul", ["d", "half"], ["y"]),
    ]
    with pytest.raises(UnsupportedOp, match=r"Erf \(b\): it is carried only as a part of GELU"):
        capture(save(gelu, constants=constants))
    near = [
        node("Add", ["x", "three"], ["a"]),
        node("Clip", ["a", "low", "high"], ["b"]),
        node("Mul", ["x", "b"], ["y"]),
    ]
    graph = capture(save(near, constants={"three": np.float32(3), "low": np.float32(0), "high": np.float32(6)})).graph
    assert ops_of(graph) == ["add", "relu6", "mul"]


def test_biases_and_borders_become_parts_of_the_layer(save):
    constants = {
        "pads": np.array([0, 0, 1, 2, 0, 0, 0, 1]),
        "w": floats(3, 2, 2, 2),
        "b": floats(1, 3, 1, 1),
        "v": floats(9, 4),
        "c": floats(4),
    }
    nodes = [
        node("Pad", ["x", "pads"], ["p"]),
        node("Conv", ["p", "w"], ["conv"]),
        node("Add", ["b", "conv"], ["sum"]),
        node("Flatten", ["sum"], ["flat"]),
        node("MatMul", ["flat", "v"], ["m"]),
        node("Add", ["m", "c"], ["y"]),
    ]
    with pytest.raises(UnsupportedOp):  # 3 x 3 x 4 is no 9
        capture(save(nodes, ("n", 2, 3, 2), constants))
    graph = capture(save(nodes, ("n", 2, 3, 2), {**constants, "v": floats(36, 4)})).graph
    assert ops_of(graph) == ["conv2d", "reshape", "linear"]
    assert graph.nodes[0].op.padding == (1, 2, 0, 1)


def test_shape_arithmetic_is_evaluated_and_the_batch_stays_open(save):
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Slice", ["s", "from", "to"], ["rest"]),
        node("ReduceProd", ["rest"], ["size"], keepdims=1),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "size"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"]),
    ]
    constants = {"zero": np.array(0), "from": np.array([1]), "to": np.array([9]), "axes": np.array([0])}
    graph = capture(save(nodes, ("n", 2, 3, 2), constants)).graph
    assert ops_of(graph) == ["reshape"]
    assert str(graph.types[graph.outputs[0]].shape[0]) == "batch<=1"
    mixed = [
        *nodes[:2],
        node("Mul", ["n", "two"], ["n1_"]),
        node("Unsqueeze", ["n1_", "axes"], ["n1"]),
        nodes[5],
        nodes[6],
    ]
    with pytest.raises(UnsupportedOp, match="mixes the batch"):
        capture(save(mixed, ("n", 2, 3, 2), {**constants, "two": np.array(2), "size": np.array([6])}))


def test_a_model_of_a_fixed_batch_takes_any(save):
    nodes = [node("Reshape", ["x", "shape"], ["r"]), node("Relu", ["r"], ["y"])]
    graph = capture(save(nodes, (4, 2, 3), {"shape": np.array([4, 6])})).graph
    assert evaluate(graph, floats(7, 2, 3))[0].shape == (7, 6)


def test_samples_that_are_not_kept_apart_are_found(save):
    # two samples of two become one of four, which only the comparison of samples can see
    nodes = [
        node("Reshape", ["x", "shape"], ["r"]),
        node("Softmax", ["r"], ["s"], axis=1),
        node("Flatten", ["s"], ["y"]),
    ]
    with pytest.raises((ParityError, UnsupportedOp)):
        capture(save(nodes, (2, 4), {"shape": np.array([1, 8])}))


def test_every_place_that_cannot_be_carried_is_told_with_its_reason(save):
    nodes = [
        node("Loop", ["", "", "x"], ["a"], name="loop", body=helper.make_graph([], "body", [], [])),
        node("InstanceNormalization", ["x", "w"], ["b"], name="norm"),
        node("Foo", ["x"], ["c"], name="foo", domain="my.own"),
        node("CumSum", ["x", "axis"], ["d"], name="sum"),
        node("Relu", ["x"], ["e"]),
        node("RandomNormal", [], ["f"], name="random", shape=[3, 4]),
    ]
    path = save(nodes, constants={"w": floats(1, 8, 4), "axis": np.array(1)}, outputs=tuple("abcdef"))
    found = coverage(path)
    assert [s.target for s in found.supported] == ["Relu"]
    reasons = {u.target: (u.places, u.reason) for u in found.unsupported}
    assert reasons["Loop"][0] == ("loop",) and reasons["Loop"][1].startswith("control flow that depends on data")
    assert reasons["InstanceNormalization"] == (("norm",), "not carried yet")
    assert reasons["my.own.Foo"] == (("foo",), "the domain my.own is not known")
    assert reasons["CumSum"] == (("sum",), "no operator of penjing has this name")
    assert reasons["RandomNormal"] == (("random",), "draws random numbers")
    with pytest.raises(UnsupportedOp, match="in 5 places"):
        capture(path)


def test_values_are_named_after_the_model_and_inputs_without_a_fixed_shape_are_asked_for(save):
    nodes = [node("Relu", ["x"], ["/block/Relu_output_0"]), node("Tanh", ["/block/Relu_output_0"], ["123"])]
    path = save(nodes, ("n", 3, "height", 4), outputs=("123",))
    with pytest.raises(InvalidInput, match=r"axis 2 is open \(height\)"):
        capture(path)
    graph = capture(path, shapes={"x": (3, 5, 4)}).graph
    assert [n.output for n in graph.nodes] == ["block.Relu_output_0", "v123"]
    for wrong in ({"z": (3, 5, 4)}, {"x": (3, 5)}, {"x": (3, 5, 5)}, {"x": (3, 0, 4)}):
        with pytest.raises(InvalidInput):
            capture(path, shapes=wrong)


def test_half_precision_models_become_float32(save):
    weight = floats(4, 6).astype(np.float16)
    path = save([node("MatMul", ["x", "w"], ["y"])], constants={"w": weight}, kind=TensorProto.FLOAT16)
    graph = capture(path).graph
    np.testing.assert_array_equal(graph.constants["w"].array, weight.T.astype(np.float32))


@pytest.mark.parametrize("reference", [False, True])
def test_a_wrong_import_is_a_parity_error_that_names_the_first_node(save, monkeypatch, reference):
    monkeypatch.setattr(Clamp, "function", lambda self, x: x + np.float32(0.5))
    if reference:
        monkeypatch.setattr(compare.importlib.util, "find_spec", lambda name: None)
    nodes = [
        node("Tanh", ["x"], ["a"]),
        node("Clip", ["a", "low", "high"], ["b"]),
        node("Relu", ["b"], ["y"]),
    ]
    with pytest.raises(ParityError, match=r"node b \(clamp, from Clip b\), the first to depart"):
        capture(save(nodes, constants={"low": np.float32(-0.5), "high": np.float32(0.5)}))


def test_external_data_are_read_beside_the_model_and_nowhere_else(tmp_path, model_of):
    weight = floats(4, 300)
    model = model_of([node("MatMul", ["x", "w"], ["y"])], constants={"w": weight})
    external_data_helper.convert_model_to_external_data(model, location="net.data", size_threshold=0)
    folder = tmp_path / "model"
    folder.mkdir()
    external_data_helper.write_external_data_tensors(model, str(folder))
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    np.testing.assert_array_equal(capture(path).graph.constants["w"].array, weight.T)

    (tmp_path / "outside").write_bytes(bytes(4 * 1200))
    (folder / "link").symlink_to(tmp_path / "outside")
    hostile = ["../outside", str(tmp_path / "outside"), "link", "C:\\x", "missing", "", ".", "a/../../outside", "\0"]
    for location in hostile:
        for entry in model.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = location
        path.write_bytes(model.SerializeToString())
        with pytest.raises(InvalidInput, match=r"its data (lie outside|are missing)"):
            capture(path)
    for key, value in (("offset", "1"), ("length", "5"), ("offset", "-1"), ("offset", "9" * 30), ("length", "x")):
        tensor = numpy_helper.from_array(weight, "w")
        external_data_helper.set_external_data(tensor, "net.data")
        del tensor.external_data[1:]
        tensor.external_data.add(key=key, value=value)
        tensor.ClearField("raw_data")
        del model.graph.initializer[:]
        model.graph.initializer.append(tensor)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(InvalidInput):
            capture(path)
