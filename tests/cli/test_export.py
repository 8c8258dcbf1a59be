"""`penjing export`: ONNX files of networks in floats and of quantized ones, and what it refuses."""

import numpy as np
import pytest

from penjing import api

onnx = pytest.importorskip("onnx", reason="penjing export needs onnx")

NET = ("export", "net.py:TinyNet", "--input-shape", "1x8x8")


def operators(path) -> list[str]:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    return [node.op_type for node in model.graph.node]


def test_a_float_network_becomes_floats(penjing, place):
    told = penjing(*NET)
    assert told.code == 0, told.err
    assert "tinynet.onnx" in told.out
    assert "floats, opset 17" in told.out
    assert "batch x 1 x 8 x 8" in told.out
    assert operators(place / "tinynet.onnx") == ["Conv", "Relu", "MaxPool", "Reshape", "Gemm"]


def test_samples_quantize_it_on_the_way(penjing, place):
    found = penjing(*NET, "--calibrate", "samples.npy", "--opset", "18", "-o", "small.onnx", "--json").json()
    assert (found["file"], found["opset"], found["quantized"]) == ("small.onnx", 18, True)
    assert found["bytes"] == (place / "small.onnx").stat().st_size
    assert list(found["inputs"].values()) == [["batch", 1, 8, 8]]
    assert list(found["outputs"].values()) == [["batch", 3]]
    assert "QuantizeLinear" in operators(place / "small.onnx")


def test_a_quantized_graph_keeps_its_codes(penjing, place):
    assert penjing("quantize", *NET[1:], "--calibrate", "samples.npy", "-o", "small.graph").code == 0
    assert penjing("export", "small.graph", "-o", "small.onnx").code == 0
    graph = api.load_graph("small.graph").graph
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load("small.onnx").graph.initializer}
    weights = {name: c.array for name, c in graph.constants.items() if c.array.dtype == np.int8}
    assert weights
    for name, codes in weights.items():
        np.testing.assert_array_equal(stored[f"{name}.codes"], codes)


def test_tensorrt_is_calibrated_around_zero(penjing, place):
    assert penjing(*NET, "--calibrate", "samples.npy", "--tensorrt", "-o", "a.onnx").code == 0
    kinds = {onnx.TensorProto.DataType.Name(one.data_type) for one in onnx.load("a.onnx").graph.initializer}
    assert kinds == {"FLOAT", "INT8", "INT64"}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--int4",), "holds floats"),
        (("--tensorrt",), "holds floats"),
        (("--opset", "9"), "opset 9"),
        (("--calibrate", "samples.npy", "--int4"), "four bits"),
        (("--calibrate", "nothing.npy"), "nothing.npy"),
    ],
)
def test_options_that_do_not_fit_are_refused(refused, place, arguments, what):
    assert what in refused(*NET, *arguments, error="InvalidInput").err


def test_a_graph_is_not_quantized_twice(penjing, refused, place):
    assert penjing("quantize", *NET[1:], "--calibrate", "samples.npy", "-o", "small.graph").code == 0
    calibrated = ("export", "small.graph", "--calibrate", "samples.npy")
    assert "quantized already" in refused(*calibrated, error="InvalidInput").err
    assert "symmetric" in refused("export", "small.graph", "--tensorrt", error="QuantizationError").err


@pytest.fixture
def no_work(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("work began before the output was looked at")

    monkeypatch.setattr(api, "capture", fail)


def test_an_existing_file_is_refused_before_any_work(refused, place, no_work):
    (place / "tinynet.onnx").write_text("precious")
    assert "--force" in refused(*NET, error="OutputExists").err
    assert "--force" in refused(*NET, "-o", "tinynet.onnx", error="OutputExists").err


def test_force_replaces_it(penjing, place):
    (place / "tinynet.onnx").write_text("old")
    assert penjing(*NET, "--force").code == 0
    assert operators(place / "tinynet.onnx")


@pytest.mark.parametrize("output", ["no/such/a.onnx", "net.py/a.onnx", "."])
def test_an_output_that_cannot_be_written_is_told_before_any_work(refused, place, no_work, output):
    refused(*NET, "-o", output, "--force", error="WriteFailed")


def test_a_full_disk_leaves_the_old_file(penjing, place, small_disk):
    old = small_disk / "a.onnx"
    old.write_bytes(b"precious")
    told = penjing("export", "zoo:edgecnn", "-o", str(old), "--force")
    assert told.code == 1
    assert "No space left on device" in told.err
    assert [path.name for path in small_disk.iterdir()] == ["a.onnx"]
    assert old.read_bytes() == b"precious"
