"""The node tests of the onnx package, those of operators that penjing claims, and their way through penjing."""

import importlib
import re
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.case.node as cases
from onnx import TensorProto, helper, numpy_helper

from penjing import api
from penjing.frontends.onnx.capture import capture
from penjing.frontends.onnx.codes import QUANTIZED
from penjing.frontends.onnx.model import NEWEST_OPSET, OLDEST_OPSET
from penjing.ops import operators
from penjing.ops.evaluate import evaluate
from penjing.program.interpret import interpret

CLAIMED = {name for cls in operators().values() for name in cls.onnx} | {n for n in QUANTIZED if "." not in n}


@dataclass(frozen=True)
class NodeTest:
    """One test: a model of one node, inputs and expected outputs."""

    name: str
    model: Any
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


@cache
def node_tests() -> dict[str, NodeTest]:
    """Of the package's own tests, those of one node of a claimed operator; expansions of functions are left out."""
    for file in sorted(Path(cases.__file__).parent.glob("*.py")):
        made = re.findall(r'make_node\(\s*(?:op_type=)?"(\w+)"', file.read_text())
        if CLAIMED.intersection(made) and file.stem not in ("__init__", "cast_like", "castlike"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(f"{cases.__name__}.{file.stem}")
    found = {}
    for case in cases._NodeTestCases:
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in CLAIMED and "_expanded" not in case.name:
            inputs, outputs = case.data_sets[0]
            found[case.name] = NodeTest(case.name, case.model, _arrays(inputs), _arrays(outputs))
    return found


def _arrays(values: Any) -> list[np.ndarray]:
    return [numpy_helper.to_array(v) if isinstance(v, TensorProto) else np.asarray(v) for v in values]


def prepared(test: NodeTest) -> tuple[Any, list[np.ndarray]]:
    """The test's model as a network would hold it, and what it takes.

    Its first input, and others of the same kind, are the network's; the rest are constants. It asks for an opset that
    penjing reads: where a test asks for a newer one, the operator has only learned more element types since. Codes that
    come in or go out are made from floats before, and made floats behind. Sequences come batch first. Of tests whose
    masks or angles differ from sample to sample, the first sample is taken.
    """
    test = _first_sample(test)
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    for entry in model.opset_import:
        entry.version = min(max(entry.version, OLDEST_OPSET), NEWEST_OPSET)
    graph = model.graph
    infos, feeds = list(graph.input), []
    del graph.input[:]
    for i, (info, array) in enumerate(zip(infos, test.inputs, strict=True)):
        alike = array.shape == test.inputs[0].shape and array.dtype == test.inputs[0].dtype and array.dtype.kind == "f"
        if i == 0 or alike or (graph.node[0].op_type == "Attention" and i < _OPERANDS):
            graph.input.append(info)
            feeds.append(array)
        else:
            graph.initializer.append(numpy_helper.from_array(array, info.name))
    if graph.node[0].op_type == "LayerNormalization":  # mean and deviation are for training
        del graph.output[1:], graph.node[0].output[1:]
    if graph.node[0].op_type in QUANTIZED:
        _through_floats(graph, test, feeds)
    if graph.node[0].op_type in ("LSTM", "GRU", "RNN") and not any(a.name == "layout" for a in graph.node[0].attribute):
        _batch_first(graph, feeds)
    return model, feeds


_OPERANDS = 3  # queries, keys, values


def _first_sample(test: NodeTest) -> NodeTest:
    if test.model.graph.node[0].op_type not in ("Attention", "RotaryEmbedding"):
        return test
    samples = test.inputs[0].shape[0]

    def first(array: np.ndarray, least: int) -> np.ndarray:
        return array[:1] if array.ndim >= least and array.shape[0] == samples else array

    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    # masks lead with the batch where they have four axes, and tables of angles where they have three
    ranks = (2, 3, 3, 2) if model.graph.node[0].op_type == "RotaryEmbedding" else (3, 3, 3, 4, 4, 4, 1)
    inputs = [first(array, rank) for array, rank in zip(test.inputs, ranks, strict=False)]
    for info, array in zip(model.graph.input, inputs, strict=True):
        for dim, extent in zip(info.type.tensor_type.shape.dim, array.shape, strict=True):
            dim.dim_value = extent
    return NodeTest(test.name, model, inputs, [first(array, 3) for array in test.outputs])


def _batch_first(graph: Any, feeds: list[np.ndarray]) -> None:
    x = graph.input[0].name
    feeds[0] = feeds[0].transpose(1, 0, 2)
    graph.input[0].CopyFrom(helper.make_tensor_value_info("sequences", TensorProto.FLOAT, feeds[0].shape))
    graph.node.insert(0, helper.make_node("Transpose", ["sequences"], [x], perm=[1, 0, 2]))


_CODES = (np.dtype(np.uint8), np.dtype(np.int8))


def _through_floats(graph: Any, test: NodeTest, feeds: list[np.ndarray]) -> None:
    node = graph.node[0]
    if feeds[0].dtype in _CODES and len(node.input) > 1 and test.inputs[1].size == 1:
        scale, zero = node.input[1], node.input[2] if len(node.input) > 2 else ""
        codes = node.input[0]
        del graph.input[:]
        graph.input.append(helper.make_tensor_value_info("real", TensorProto.FLOAT, feeds[0].shape))
        graph.node.insert(0, helper.make_node("QuantizeLinear", ["real", scale, zero], [codes]))
        point = int(test.inputs[2].reshape(-1)[0]) if zero else 0
        feeds[0] = ((feeds[0].astype(np.int64) - point) * test.inputs[1].astype(np.float32)).astype(np.float32)
    if test.outputs[0].dtype in _CODES:
        last = graph.node[len(graph.node) - 1]
        at = {"QLinearConv": 6, "QLinearMatMul": 6, "QuantizeLinear": 1}[last.op_type]
        back = [last.output[0], last.input[at], *last.input[at + 1 : at + 2]]
        del graph.output[:]
        graph.output.append(helper.make_tensor_value_info("real_output", TensorProto.FLOAT, test.outputs[0].shape))
        graph.node.append(helper.make_node("DequantizeLinear", back, ["real_output"]))


def run(test: NodeTest, path: Path) -> str:
    """'' when penjing computes what the test expects, else what differs; errors of penjing pass through."""
    model, feeds = prepared(test)
    path.write_bytes(model.SerializeToString())
    captured = capture(path, check=False)
    test = _first_sample(test)
    if captured.ranges is not None and not captured.needs_calibration:
        return _codes(captured, feeds, test)
    floats = (feed.astype(np.float32) for feed in feeds)
    for actual, expected in zip(evaluate(captured.graph, *floats), test.outputs, strict=False):
        rtol = 4e-3 if expected.dtype.name in ("float16", "bfloat16") else 1e-3
        if expected.dtype.name == "bfloat16" and test.model.graph.node[0].op_type == "Attention":
            rtol = 2e-2  # its scores, weights and sums are each rounded to 8 bits
        same = actual.shape == expected.shape
        if not same or not np.allclose(actual, expected.astype(np.float64), rtol, 1e-5, equal_nan=True):
            return (
                f"{test.name}: {actual.shape}, {expected.shape}, {actual.reshape(-1)[:8]}, {expected.reshape(-1)[:8]}"
            )
    return ""


def _codes(captured: Any, feeds: list[np.ndarray], test: NodeTest) -> str:
    """The codes of the integer program, which may be shifted by 128, against those of the test."""
    program = api.lower(api.quantize(captured.graph, (), known=captured.ranges))
    quant = program.types[program.inputs[0]].quant
    assert quant is not None
    codes = np.clip(np.rint(feeds[0] / quant.scale) + quant.zero_point, 0, 255).astype(np.uint8)
    (actual,) = interpret(program, codes)
    expected = test.outputs[0]
    if expected.dtype in _CODES:
        expected = expected.astype(np.int64) + (128 if expected.dtype == np.int8 else 0)
    else:
        target = program.types[program.outputs[0]].quant
        assert target is not None
        expected = np.rint(expected / target.scale) + target.zero_point
    # weights that are not symmetric are rounded once more
    steps = 1 if captured.notes else 0
    same = actual.shape == expected.shape and np.abs(actual - expected.astype(np.int64)).max() <= steps
    return "" if same else f"{test.name}: codes {actual.reshape(-1)[:8]}, {expected.reshape(-1)[:8]}"
