"""Encoders of text as exporters write them: masks of padding are fixed, and the length is any or one."""

import warnings

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import penjing
from penjing import api
from penjing.core.errors import InvalidInput, UnsupportedOp
from penjing.core.length import Length
from penjing.frontends.onnx.capture import capture, coverage
from penjing.frontends.onnx.inputs import FIX_HINT
from penjing.ops.evaluate import evaluate

onnxruntime = pytest.importorskip("onnxruntime")
LONGEST = 24
MASK, ALL = {"attention_mask": 1}, {"attention_mask": 1, "token_type_ids": 0}
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def exported(hugging_face, tmp_path_factory):
    """Path of the file of an encoder; one export for each kind."""
    folder, made = tmp_path_factory.mktemp("text"), {}

    def path(eager=False, head="sentence", opset=17):
        key = (eager, head, opset)
        if key not in made:
            torch.manual_seed(0)
            file = folder / f"{'eager' if eager else 'sdpa'}_{head}_{opset}.onnx"
            made[key] = hugging_face.export(hugging_face.Bert(eager=eager, head=head), file, opset=opset)
        return made[key]

    return path


def inputs(graph, batch, steps):
    """Ids, and segments where they are an input."""
    words = rng.integers(1, 50, (batch, steps)).astype(np.int32)
    return (words, rng.integers(0, 2, (batch, steps)).astype(np.int32))[: len(graph.inputs)]


def source(path, given):
    """What onnxruntime makes of the file, with nothing padded."""
    ids, types = given[0], given[1] if len(given) > 1 else np.zeros_like(given[0])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: array.astype(np.int64) for name, array in feeds.items()})


@pytest.mark.parametrize(
    ("eager", "head", "opset"), [(True, "sentence", 11), (False, "sentence", 17), (True, "pooler", 20)]
)
@pytest.mark.parametrize("fixed", [MASK, ALL])
def test_an_encoder_of_any_length_agrees_with_onnxruntime(exported, eager, head, opset, fixed):
    path = exported(eager, head, opset)
    graph = capture(path, length=Length(LONGEST), fixed=fixed).graph
    assert len(graph.inputs) == 3 - len(fixed)
    for steps in (1, 7, LONGEST):
        given = inputs(graph, 2, steps)
        for made, want in zip(evaluate(graph, *given), source(path, given), strict=True):
            np.testing.assert_allclose(made, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("eager", [True, False])
def test_an_encoder_of_one_length_agrees_with_onnxruntime(exported, eager):
    path = exported(eager, "sentence", 17)
    graph = capture(path, shapes={"input_ids": (9,)}, fixed=MASK).graph
    given = inputs(graph, 3, 9)
    for made, want in zip(evaluate(graph, *given), source(path, given), strict=True):
        np.testing.assert_allclose(made, want, rtol=0, atol=1e-5)


def test_nothing_is_left_of_masks_and_counts(exported):
    graph = capture(exported(), length=Length(LONGEST), fixed=ALL).graph
    names = [node.op.name for node in graph.nodes]
    # words and segments, places, and two sums around layers; the mean of all steps and its unit
    assert names.count("add") == 4 and names.count("prefix") == 1 and "mul" not in names
    assert names[-2:] == ["mean", "rms_norm"]


def test_a_library_gives_the_bytes_of_the_oracle_at_every_length(exported, tmp_path):
    path = exported()
    graph = capture(path, length=Length(LONGEST), fixed=MASK).graph
    batches = [inputs(graph, 8, steps) for steps in (3, 11, LONGEST)]
    api.save(api.build(api.lower(api.quantize(graph, batches))), tmp_path / "text.tray")
    library, oracle = (penjing.load(tmp_path / "text.tray", engine=engine) for engine in ("library", "interpreter"))
    for steps in (1, 2, 13, LONGEST):
        given = inputs(graph, 2, steps)
        made = library.run(*given)
        for a, b, want in zip(made, oracle.run(*given), source(path, given), strict=True):
            assert np.array_equal(a, b)
            assert np.abs(a - want).max() < 0.35  # of tokens up to 3: coarse, but no other number


def test_a_mask_that_is_not_fixed_is_refused_with_the_option(exported):
    with pytest.raises(UnsupportedOp, match=r"reads the ids %attention_mask.*--fix attention_mask=1") as raised:
        capture(exported(), length=Length(LONGEST))
    assert FIX_HINT.format(name="attention_mask") in raised.value.hint
    assert not coverage(exported(), length=Length(LONGEST)).complete
    assert coverage(exported(), length=Length(LONGEST), fixed=MASK).complete


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"fixed": {"mask": 1}, "length": Length(9)}, "the model has no input 'mask'"),
        ({"fixed": {"attention_mask": 0.5}, "length": Length(9)}, "0.5 is no number of INT64"),
        ({"fixed": {"attention_mask": float("nan")}, "length": Length(9)}, "nan"),
        ({"fixed": {**ALL, "input_ids": 3}}, "no input that is not fixed"),
        ({"fixed": ALL}, "the extent of axis 1 is open"),
        ({"fixed": ALL, "length": Length(9, 2)}, "axis"),
        ({"fixed": ALL, "length": Length(9), "shapes": {"input_ids": (8,)}}, "the bound of the length 9"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(exported, options, why):
    with pytest.raises(InvalidInput, match=why):
        capture(exported(), **options)


def test_a_longer_sequence_than_the_table_of_positions_is_refused(exported):
    with pytest.raises(UnsupportedOp):
        capture(exported(), length=Length(LONGEST + 1), fixed=ALL)


def test_a_length_that_the_file_fixes_is_refused(save):
    path = save([helper.make_node("Relu", ["x"], ["y"])], ("n", 4, 5))
    with pytest.raises(InvalidInput, match="axis 1 is always 4"):
        capture(path, length=Length(9))


def test_masks_of_bools_can_be_fixed(tmp_path):
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "l", 4]),
        helper.make_tensor_value_info("keep", TensorProto.BOOL, ["n", "other name"]),
    ]
    nodes = [
        helper.make_node("Unsqueeze", ["keep", "last"], ["k"]),
        helper.make_node("Where", ["k", "x", "zero"], ["y"]),
    ]
    constants = [numpy_helper.from_array(np.array([-1]), "last"), numpy_helper.from_array(np.float32(0), "zero")]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "l", 4])
    graph = helper.make_graph([*nodes, helper.make_node("Relu", ["y"], ["z"])], "net", values, [output], constants)
    graph.output[0].name = "z"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    shapes = {"keep": (6,)}
    assert [n.op.name for n in capture(path, shapes={"x": (6, 4), **shapes}, fixed={"keep": 1}).graph.nodes] == ["relu"]
    with pytest.raises(InvalidInput, match="BOOL") as raised:
        capture(path, shapes={"x": (6, 4), **shapes})
    assert "--fix keep=1" in raised.value.hint


class Causal(torch.nn.Module):
    """Attention to earlier tokens, its mask made of the length."""

    def __init__(self, hide):
        super().__init__()
        self.hide, self.words, self.qkv = hide, torch.nn.Embedding(9, 8), torch.nn.Linear(8, 24)

    def forward(self, ids):
        n, length = ids.shape
        parts = self.qkv(self.words(ids)).split(8, -1)
        q, k, v = (part.view(n, length, 2, 4).transpose(1, 2) for part in parts)
        y = torch.softmax(self.hide(q @ k.transpose(-1, -2) / 2, torch.arange(length)), -1) @ v
        return y.transpose(1, 2).reshape(n, length, 8)


def _export(module, path):
    axes = {"ids": {0: "n", 1: "l"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.randint(0, 9, (2, 5))
        torch.onnx.export(
            module.eval(), example, path, dynamo=False, input_names=["ids"], dynamic_axes=axes, opset_version=17
        )
    return path


HIDDEN = {
    "by a choice": lambda s, i: s.masked_fill(i[None, :] > i[:, None], float("-inf")),
    "by a sum": lambda s, i: s + torch.triu(torch.full((s.shape[-1], s.shape[-1]), -1e9), 1),
}


@pytest.mark.parametrize("how", HIDDEN)
def test_a_causal_mask_that_is_made_of_the_length_needs_no_constant(tmp_path, how):
    graph = capture(_export(Causal(HIDDEN[how]), tmp_path / "net.onnx"), length=Length(16)).graph
    (attend,) = [node for node in graph.nodes if node.op.name == "attend"]
    assert attend.op.causal and len(attend.inputs) == 2


def test_another_mask_that_follows_the_length_is_refused(tmp_path):
    path = _export(Causal(lambda s, i: s.masked_fill(i[None, :] > i[:, None] + 2, -1e9)), tmp_path / "net.onnx")
    with pytest.raises(UnsupportedOp, match="follows the length and is not causal"):
        capture(path, length=Length(16))
    assert [n.op.causal for n in capture(path, shapes={"ids": (6,)}).graph.nodes if n.op.name == "attend"] == [False]


_AXES = {"ReduceMean": {"axes": [1]}}


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([("Mul", ["x", "f"])], "not by its first elements"),  # a number that is the length
        (
            [("Neg", ["f"], ["minus"]), ("Range", ["minus", "zero", "one"], ["r"]), ("Add", ["x", "r"])],
            "first elements",
        ),
        ([("ReduceSum", ["x", "at"], ["s"]), ("Div", ["s", "three"])], "not by its first elements"),
        (
            [
                ("Range", ["zero", "f", "one"], ["r"]),
                ("Greater", ["r", "three"], ["late"]),
                ("Where", ["late", "low", "zero"], ["m"]),
                ("Add", ["x", "m"]),
            ],
            "a mask that follows the length and is not causal",
        ),
        (
            [
                ("ReduceMean", ["x"], ["s"]),
                ("ConstantOfShape", ["s0"], ["c"]),
                ("Add", ["c", "one"], ["ones"]),
                ("Add", ["s", "ones"]),
            ],
            "repeats what it meets",
        ),
    ],
)
def test_what_differs_along_the_length_is_no_constant(save, nodes, why):
    made = [
        helper.make_node("Shape", ["x"], ["s0"]),
        helper.make_node("Gather", ["s0", "place"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        *(helper.make_node(op, given, *(output or [["y"]]), **_AXES.get(op, {})) for op, given, *output in nodes),
    ]
    constants = {"place": np.array(1), "at": np.array([1]), "three": np.float32(3)}
    constants |= {"zero": np.float32(0), "one": np.float32(1), "low": np.float32(-1e9)}
    with pytest.raises(UnsupportedOp, match=why):
        capture(save(made, ("n", "l"), constants), length=Length(9))
