"""Inputs of integers: ids that Gather looks up in a constant table, and nothing else may read."""

import warnings

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from penjing import api
from penjing.core.errors import InvalidInput, UnsupportedOp
from penjing.frontends.onnx.capture import capture
from penjing.ir.types import DType
from penjing.ops.evaluate import evaluate
from penjing.program.interpret import interpret

node = helper.make_node
ROWS, WIDTH, STEPS = 11, 6, 5
TABLE = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)


class Words(nn.Module):
    """Words and places are looked up and added, as in BERT."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(ROWS, WIDTH), nn.Embedding(8, WIDTH)
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, ids):
        return self.out(self.norm(self.words(ids) + self.places(torch.arange(ids.shape[1]))))


def test_an_exported_network_of_words_is_carried_and_lowered(tmp_path):
    torch.manual_seed(0)
    module, ids = Words().eval(), torch.randint(0, ROWS, (2, STEPS))
    path = tmp_path / "words.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, ids, path, dynamo=False, input_names=["ids"], dynamic_axes={"ids": {0: "n"}})
    graph = capture(path).graph
    assert [n.op.name for n in graph.nodes] == ["embedding", "add", "layer_norm", "linear"]
    assert graph.types["ids"].dtype is DType.S32
    x = ids.numpy().astype(np.int32)
    with torch.no_grad():
        want = module(ids).numpy()
    np.testing.assert_allclose(evaluate(graph, x)[0], want, rtol=0, atol=1e-5)
    quantized = api.quantize(graph, [x])
    (codes,), quant = interpret(api.lower(quantized), x), quantized.types[quantized.outputs[0]].quant
    assert np.abs((codes.astype(int) - quant.zero_point) * quant.scale - want).max() < 0.1


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
def test_ids_have_32_or_64_bits_and_may_be_cast_between_them(model_of, tmp_path, kind):
    nodes = [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Gather", ["t", "i"], ["y"])]
    model = model_of(nodes, ("n", STEPS), {"t": TABLE}, kind=kind)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    (made,) = capture(tmp_path / "net.onnx").graph.nodes
    assert made.op.name == "embedding" and made.inputs[1] == "x"


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node("Relu", ["x"], ["y"])], "reads the ids %x"),
        ([node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], "reads the ids %x"),
        ([node("Gather", ["t", "x"], ["g"]), node("Add", ["x", "x"], ["y"])], "reads the ids %x"),
        ([node("Gather", ["t", "x"], ["y"], axis=1)], "a table that is no matrix of rows"),
        ([node("Gather", ["x", "i"], ["y"], axis=1)], "reads the ids %x"),
    ],
)
def test_what_takes_ids_for_numbers_is_refused(save, nodes, why):
    model = save(nodes, ("n", STEPS), {"t": TABLE, "i": np.array([0])}, kind=TensorProto.INT64)
    with pytest.raises(UnsupportedOp, match=why):
        capture(model)


def test_places_of_real_data_are_refused(save):
    nodes = [node("Gather", ["t", "x"], ["y"])]
    with pytest.raises((UnsupportedOp, InvalidInput)):
        capture(save(nodes, ("n", STEPS), {"t": TABLE}))


def test_inputs_of_other_integers_are_refused(save):
    with pytest.raises(InvalidInput, match="ids of INT64 or INT32"):
        capture(save([node("Gather", ["t", "x"], ["y"])], ("n", STEPS), {"t": TABLE}, kind=TensorProto.UINT8))
