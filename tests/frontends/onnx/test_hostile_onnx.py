"""Files that are damaged, or made to do harm: always an error of penjing's own, soon, and with little memory."""

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from penjing.core.errors import InvalidInput, PenjingError, UnsupportedOp
from penjing.frontends.onnx.capture import capture, coverage

node = helper.make_node
RNG = np.random.default_rng(0)


def valid(model_of):
    """A model with a bit of everything, as bytes."""
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Conv", ["d", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Shape", ["c"], ["shape"]),
        node("Slice", ["shape", "zero", "one"], ["n"]),
        node("Concat", ["n", "rest"], ["to"], axis=0),
        node("Reshape", ["c", "to"], ["r"]),
        node("Gemm", ["r", "v"], ["y"], transB=1),
    ]
    constants = {
        **{"s": np.float32(0.1), "z": np.array(3, np.uint8), "zero": np.array([0]), "one": np.array([1])},
        **{"rest": np.array([-1]), "w": np.ones((2, 1, 3, 3), np.float32), "v": np.ones((3, 18), np.float32)},
    }
    return model_of(nodes, ("n", 1, 3, 3), constants).SerializeToString()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_bytes_are_refused_or_read_within_bounds(data, model_of, tmp_path):
    content = bytearray(valid(model_of))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "insert", "double"]))
        if how == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del content[at : at + data.draw(st.integers(1, 9))]
        elif how == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            content[at:at] = content[at : at + 40]
        if not content:
            break
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    start = time.process_time()
    try:
        capture(path)
    except PenjingError as error:
        assert str(error)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("content", [b"", b"\0", b"not a model", b"\x08\x07", bytes(1000), b"\x3a\x00"])
def test_what_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="no ONNX model"):
        capture(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InvalidInput, match="cannot be read"):
        capture(tmp_path / "none.onnx")


def relu(x="x", y="y", **more):
    return node("Relu", [x], [y], **more)


BROKEN = {
    "a cycle": ([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), relu("b")], "made later: a cycle"),
    "a node before its inputs": ([relu("a"), relu("x", "a")], "out of order"),
    "a dangling input": ([relu("nowhere")], "nothing makes"),
    "a value made twice": ([relu(), relu()], "exists already"),
    "an input made again": ([relu("x", "x"), relu()], "exists already"),
    "no such output": ([relu("x", "z")], "never computed"),
    "a node that makes nothing": ([node("Relu", ["x"], [""]), relu()], "makes nothing"),
}


@pytest.mark.parametrize(("nodes", "why"), BROKEN.values(), ids=BROKEN)
def test_a_broken_structure_is_told(save, nodes, why):
    with pytest.raises(InvalidInput, match=why):
        capture(save(nodes))


@pytest.mark.parametrize("opset", [1, 7, 10, 25, 99])
def test_other_opsets_are_refused(save, opset):
    with pytest.raises(InvalidInput, match=f"uses opset {opset}; penjing reads 11 to 24"):
        capture(save([relu()], opset=opset))


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((), 1), ((0, 3), 1), (("n", 0), 1), (("n", -3), 1), (("n", 2**62, 2**62), 1), (("n", 3), 9), (("n", 3), 2)],
)
def test_inputs_that_make_no_sense_are_refused(save, shape, kind):
    with pytest.raises(InvalidInput):
        capture(save([relu()], shape, kind=kind))


@pytest.mark.parametrize("dims", [[2**40], [2**32, 2**32], [-1], [0], [1] * 40, [2**62, 4], [7]])
def test_sizes_of_constants_are_compared_with_their_data_first(tmp_path, model_of, dims):
    model = model_of([node("Add", ["x", "c"], ["y"])], constants={"c": np.zeros(4, np.float32)})
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidInput):
        capture(path)


ENDLESS = {
    "Expand": ([node("Expand", ["one", "size"], ["c"])], {"size": np.array([2**40])}),
    "ConstantOfShape": ([node("ConstantOfShape", ["size"], ["c"])], {"size": np.array([2**31, 2**31])}),
    "Tile": ([node("Tile", ["one", "size"], ["c"])], {"size": np.array([2**45])}),
    "Range": ([node("Range", ["a", "b", "d"], ["c"])], {"a": np.int64(0), "b": np.int64(2**60), "d": np.int64(1)}),
    "Add": (
        [node("Add", ["a", "b"], ["c"])],
        {"a": np.zeros((60000, 1), np.float32), "b": np.zeros(60000, np.float32)},
    ),
    "Gather": (
        [node("Gather", ["a", "b"], ["c"])],
        {"a": np.zeros((1, 60000), np.float32), "b": np.zeros(60000, np.int64)},
    ),
}


@pytest.mark.parametrize(("nodes", "constants"), ENDLESS.values(), ids=ENDLESS)
def test_constants_that_would_grow_without_bound_are_not_evaluated(save, nodes, constants):
    path = save([*nodes, node("Add", ["x", "c"], ["y"])], constants={"one": np.ones(1, np.float32), **constants})
    with pytest.raises(UnsupportedOp, match="would make a constant of"):
        capture(path)


def test_activations_that_would_grow_without_bound_are_refused(save):
    sides = np.array([0, 0, 0, 0, 0, 0, 2**20, 2**20])
    with pytest.raises(UnsupportedOp, match=r"makes [0-9]+ elements"):
        capture(save([node("Pad", ["x", "p"], ["y"])], ("n", 1, 4, 4), {"p": sides}))
    with pytest.raises(UnsupportedOp):
        capture(save([node("Reshape", ["x", "p"], ["y"])], ("n", 4), {"p": np.array([2**62, 2**62])}))
    with pytest.raises(UnsupportedOp):
        path = save([node("Resize", ["x", "", "p"], ["y"])], ("n", 1, 4, 4), {"p": np.float32([1, 1, 1e9, 1e9])})
        capture(path)


def test_constants_that_are_not_numbers_are_told(save):
    path = save([node("Add", ["x", "c"], ["y"])], constants={"c": np.float32([1, np.nan, 2, 3])})
    with pytest.raises(InvalidInput, match="constant c holds NaN"):
        capture(path)


@pytest.mark.parametrize("change", ["function", "sparse", "twice", "attribute", "strings"])
def test_features_that_are_not_read_are_told(tmp_path, model_of, change):
    model = model_of([relu()], constants={"c": np.zeros(4, np.float32)})
    if change == "function":
        model.functions.add().name = "f"
    elif change == "sparse":
        model.graph.sparse_initializer.add()
    elif change == "twice":
        model.graph.initializer.append(model.graph.initializer[0])
    elif change == "attribute":
        for _ in range(2):
            model.graph.node[0].attribute.append(helper.make_attribute("a", 1))
    else:
        model.graph.initializer.append(numpy_helper.from_array(np.array(["text"], object), "text"))
        assert model.graph.initializer[1].data_type == TensorProto.STRING
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises((InvalidInput, UnsupportedOp)):
        coverage(path)
