"""ONNX models on the command line."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx import load as load_onnx

from penjing.bundle.tray import open_tray
from penjing.recipe.graph_file import load_graph
from penjing.runtime.loading import load

node = helper.make_node
RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def write(path, nodes, constants, height=8):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, height, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())


@pytest.fixture
def plain(place):
    """plain.onnx: a convolution, a relu and a linear layer."""
    nodes = [
        node("Conv", ["x", "conv.weight"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("Flatten", ["r"], ["f"]),
        node("Gemm", ["f", "fc.weight"], ["y"], transB=1),
    ]
    weights = {"conv.weight": RNG.normal(size=(4, 1, 3, 3)), "fc.weight": RNG.normal(size=(3, 256))}
    write(place / "plain.onnx", nodes, {name: w.astype(np.float32) for name, w in weights.items()})
    return place


def test_a_model_of_ids_is_built_from_ids_and_runs_on_them(penjing, place):
    graph = helper.make_graph(
        [node("Gather", ["t", "x"], ["g"]), node("Flatten", ["g"], ["f"]), node("Gemm", ["f", "w"], ["y"], transB=1)],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(floats(*shape), name) for name, shape in (("t", (9, 4)), ("w", (3, 20)))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (place / "words.onnx").write_bytes(model.SerializeToString())
    ids = RNG.integers(0, 9, (20, 5))
    np.save("ids.npy", ids)
    np.save("reals.npy", floats(20, 5))
    np.save("beyond.npy", ids + 1)
    assert penjing("build", "words.onnx", "--calibrate", "ids.npy", "--target", "host").code == 0
    assert load(place / "words.tray").run(ids).shape == (20, 3)
    for source, said in (("reals.npy", "takes ids"), ("random", "no source of samples"), ("beyond.npy", "rows 0..8")):
        failed = penjing("build", "words.onnx", "--calibrate", source, "-o", "other.tray")
        assert failed.code == 1 and said in failed.err
        assert not (place / "other.tray").exists()


@pytest.fixture
def quantized(place):
    """quantized.onnx: a matrix between quantized activations; half.onnx leaves the last in floats."""
    codes = {"s": np.float32(0.02), "z": np.array(128, np.uint8)}
    constants = {**codes, "w": RNG.integers(-127, 128, (64, 3)).astype(np.int8), "ws": np.float32(0.01)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Flatten", ["d"], ["f"]),
        node("DequantizeLinear", ["w", "ws"], ["wd"]),
    ]
    last = [node("QuantizeLinear", ["m", "s", "z"], ["mq"]), node("DequantizeLinear", ["mq", "s", "z"], ["y"])]
    write(place / "quantized.onnx", [*nodes, node("MatMul", ["f", "wd"], ["m"]), *last], constants)
    write(place / "half.onnx", [*nodes, node("MatMul", ["f", "wd"], ["y"])], constants)
    return place


def test_ops_tells_what_is_carried_and_where_what_is_not(penjing, plain):
    told = penjing("ops", "plain.onnx")
    assert told.code == 0
    assert told.out.startswith("plain: 4 of 4 operators are carried")
    write(
        plain / "bad.onnx",
        [node("InstanceNormalization", ["x", "w"], ["y"], name="/norm")],
        {"w": np.ones(3, np.float32)},
    )
    told = penjing("ops", "bad.onnx", "--json")
    assert told.code == 1
    assert told.json()["unsupported"] == [
        {"operator": "InstanceNormalization", "count": 1, "places": ["/norm"], "reason": "not carried yet"}
    ]


def test_a_model_is_built_and_pruned_under_its_file_name(penjing, plain):
    assert penjing("build", "plain.onnx", "--calibrate", "samples.npy").code == 0
    assert load(plain / "plain.tray").run(np.load("samples.npy")).shape == (40, 3)
    assert penjing("prune", "plain.onnx", "--ratio", "0.5", "-o", "less.graph").code == 0
    weight = load_graph(plain / "less.graph").graph.constants["fc.weight"].array
    assert (weight == 0).mean() == 0.5


def test_a_quantized_model_is_built_without_calibration_and_says_so(penjing, quantized):
    told = penjing("build", "quantized.onnx")
    assert told.code == 0
    assert "its scales are kept, and no calibration is needed" in told.err
    manifest = open_tray(quantized / "quantized.tray").manifest
    assert (np.float32(manifest.inputs[0].scale), manifest.inputs[0].zero_point) == (np.float32(0.02), 128)


def test_what_a_model_leaves_in_floats_asks_for_calibration(penjing, refused, quantized):
    refused("build", "half.onnx", error="InvalidInput")
    assert penjing("build", "half.onnx", "--calibrate", "samples.npy").code == 0
    manifest = open_tray(quantized / "half.tray").manifest
    assert np.float32(manifest.inputs[0].scale) == np.float32(0.02)


def test_a_mask_of_padding_is_fixed_and_the_length_is_any(penjing, refused, place):
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "l"]) for name in ("ids", "mask")]
    nodes = [
        node("Gather", ["t", "ids"], ["g"]),
        node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["m", "last"], ["u"]),
        node("Mul", ["g", "u"], ["k"]),
        node("MatMul", ["k", "w"], ["y"]),
    ]
    constants = {"t": floats(9, 4), "w": floats(4, 3), "last": np.array([-1])}
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    made = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "net", ids, outputs, made), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    (place / "text.onnx").write_bytes(model.SerializeToString())
    np.save("ids.npy", RNG.integers(0, 9, (20, 5)))
    told = penjing("ops", "text.onnx", "--input-shape", "1..6")
    assert told.code == 1 and "--fix mask=1" in told.out
    options = ("--input-shape", "1..6", "--fix", "mask=1")
    assert penjing("ops", "text.onnx", *options).code == 0
    assert penjing("quantize", "text.onnx", *options, "--calibrate", "ids.npy", "-o", "text.graph").code == 0
    graph = load_graph(place / "text.graph").graph
    assert [n.op.name for n in graph.nodes] == ["embedding", "linear"]
    assert str(graph.types["ids"].shape[1]) == "length<=6"
    for wrong in ("mask", "mask=one", "other=1", "ids=0.5"):
        refused("ops", "text.onnx", "--input-shape", "6", "--fix", wrong, error="InvalidInput")
    refused("ops", "text.graph", "--fix", "mask=1", error="InvalidInput")


def test_an_open_extent_is_said_by_input_shape(penjing, refused, place):
    write(place / "open.onnx", [node("Relu", ["x"], ["y"])], {}, height="h")
    refused("ops", "open.onnx", error="InvalidInput")
    assert penjing("ops", "open.onnx", "--input-shape", "1x5x8").code == 0
    refused("ops", "open.onnx", "--input-shape", "1x5", error="InvalidInput")


@pytest.mark.parametrize("options", [("--weights", "tested.npz"), ("--prune", "0.5")])
def test_options_that_do_not_fit_a_quantized_model_are_refused(refused, quantized, options):
    refused("build", "quantized.onnx", *options, error="InvalidInput")


def test_a_file_that_is_no_model_is_refused(refused, place):
    (place / "text.onnx").write_text("not a model")
    refused("ops", "text.onnx", error="InvalidInput")
    refused("build", "text.onnx", "--calibrate", "samples.npy", error="InvalidInput")
    refused("ops", "missing.onnx", error="InvalidInput")


def test_a_quantized_model_is_exported_with_its_own_scales(penjing, quantized):
    told = penjing("export", "quantized.onnx", "-o", "again.onnx", "--json")
    assert told.code == 0, told.err
    assert told.json()["quantized"] is True
    stored = {one.name: numpy_helper.to_array(one) for one in load_onnx("again.onnx").graph.initializer}
    assert np.float32(0.02) in [float(array) if array.size == 1 else None for array in stored.values()]
