"""ONNX's own Attention and RotaryEmbedding, beside the node tests: what follows the length, and reasons."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from penjing.core.errors import UnsupportedOp
from penjing.core.length import Length
from penjing.frontends.onnx.capture import capture
from penjing.ops.evaluate import evaluate

pytest.importorskip("onnxruntime", minversion="1.23", reason="runs opset 23")
rng = np.random.default_rng(1)


@pytest.fixture
def write(tmp_path):
    """Writes a model of float inputs: name -> shape."""

    def made(nodes, inputs, constants=(), outputs=("y",), opset=23):
        floats = TensorProto.FLOAT
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info(name, floats, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, floats, None) for name in outputs],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 11
        path = tmp_path / "net.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return made


def attention(**attributes):
    return helper.make_node("Attention", ["q", "k", "v"], ["y"], **attributes)


@pytest.mark.parametrize("opset", [23, 24])
@pytest.mark.parametrize("causal", [0, 1])
def test_grouped_heads_of_any_length_are_carried(write, causal, opset):
    node = attention(q_num_heads=4, kv_num_heads=2, is_causal=causal, scale=0.3)
    inputs = {"q": ["n", "l", 24], "k": ["n", "l", 12], "v": ["n", "l", 10]}
    graph = capture(write([node], inputs, opset=opset), length=Length(9)).graph  # compared with onnxruntime
    (attend,) = [n for n in graph.nodes if n.op.name == "attend"]
    assert attend.op.causal == bool(causal)
    x = [rng.normal(size=(2, 5, shape[-1])).astype(np.float32) for shape in inputs.values()]
    assert evaluate(graph, *x)[0].shape == (2, 5, 20)


def test_a_mask_of_nothing_vanishes_and_others_are_constants(write):
    shapes = {name: ["n", 2, 5, 4] for name in "qkv"}
    node = helper.make_node("Attention", ["q", "k", "v", "m"], ["y"])
    free = capture(write([node], shapes, {"m": np.ones((5, 5), bool)})).graph
    assert [n.op.name for n in free.nodes] == ["permute", "matmul", "attend"] and len(free.nodes[-1].inputs) == 2
    hidden = np.ones((5, 5), bool)
    hidden[:, 3] = False
    assert len(capture(write([node], shapes, {"m": hidden})).graph.nodes[-1].inputs) == 3


@pytest.mark.parametrize(
    ("attributes", "inputs", "outputs", "why"),
    [
        ({"softcap": 3.0}, [], [], "a softcap"),
        ({}, ["", "pk", "pv"], ["a", "b"], "outputs of keys"),
        ({}, [], ["", "", "s"], "outputs of keys, values or scores"),
        ({}, ["m"], [], "computed from the data"),
    ],
)
def test_what_attention_cannot_be_is_refused_with_a_reason(write, attributes, inputs, outputs, why):
    node = helper.make_node("Attention", ["q", "k", "v", *inputs], ["y", *outputs], **attributes)
    shapes = {name: ["n", 2, 5, 5 if name == "m" else 4] for name in ("q", "k", "v", *filter(None, inputs))}
    path = write([node], shapes, outputs=["y", *filter(None, outputs)])
    with pytest.raises(UnsupportedOp, match=why):
        capture(path)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("turned", [0, 4])
def test_a_rotary_embedding_with_places_is_carried(write, interleaved, turned):
    angles = rng.uniform(-3, 3, (9, (turned or 6) // 2))
    constants = {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    constants["places"] = np.array([[0, 1, 2, 5, 8]])
    expand = helper.make_node("Expand", ["places", "shape"], ["each"])
    shape = helper.make_node("Shape", ["x"], ["s"])
    cut = helper.make_node("Slice", ["s", "zero", "one"], ["batch"])
    whole = helper.make_node("Concat", ["batch", "five"], ["shape"], axis=0)
    node = helper.make_node(
        "RotaryEmbedding", ["x", "cos", "sin", "each"], ["y"], interleaved=interleaved, rotary_embedding_dim=turned,
        num_heads=2,
    )  # fmt: skip
    constants |= {"zero": np.array([0]), "one": np.array([1]), "five": np.array([5])}
    graph = capture(write([shape, cut, whole, expand, node], {"x": ["n", 5, 12]}, constants)).graph
    assert [n.op.interleaved for n in graph.nodes if n.op.name == "rotary"] == [bool(interleaved)]
