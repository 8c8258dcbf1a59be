"""The parity check of an ONNX model: onnxruntime where it is installed, else the reference of the onnx package.

Of a quantized model the graph is evaluated with its values rounded to the codes that their ranges give, so that both
sides compute the same, but for a value that lies at the border of two codes.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from penjing.core import knobs
from penjing.core.errors import MissingDependency, ParityError
from penjing.core.onnx_package import import_onnx
from penjing.frontends.onnx.model import OnnxModel
from penjing.frontends.onnx.read import Reading
from penjing.frontends.parity import TOLERANCE, Arrays, Case, departure
from penjing.ir.grid import activation_parameters
from penjing.ops.embedding import random_inputs
from penjing.ops.evaluate import Watch, evaluate
from penjing.ops.fusion import between_roundings
from penjing.ops.onnx_call import BATCH
from penjing.ops.operator import Operator

_BATCHES = (1, 3)
_HALF_TOLERANCE = 8 * 2.0**-10  # as the torch front end grants it to half precision
# A code that falls to the other side here and there, and what follows from it.
_CODES_TOLERANCE = 0.1
_CODES_MEAN_TOLERANCE = 0.02
_MOST_ALONE = 4  # samples of a fixed batch that are compared with themselves alone

Ranges = Mapping[str, tuple[float, float]]


def check_model(model: OnnxModel, reading: Reading, ranges: Ranges | None) -> None:
    """Raise ParityError unless the graph computes what the model does, naming the first node that departs.

    A model for any batch runs at a batch of 1 and of 3. One of a fixed batch runs at that, and the graph must moreover
    give samples alone what it gives them together.
    """
    rng = np.random.default_rng(knobs.SEED.integer())
    for batch in _BATCHES if model.batch is None else (model.batch,):
        inputs = random_inputs(reading.graph, batch, rng)
        expected = _source(model, inputs, model.outputs)
        _compare(model, reading, ranges, Case(inputs, expected, f"a batch of {batch}"))
    if model.batch is not None:
        _check_alone(reading, tuple(x[:_MOST_ALONE] for x in inputs))


def _compare(model: OnnxModel, reading: Reading, ranges: Ranges | None, case: Case) -> None:
    made = _evaluated(reading, ranges, case.inputs)
    for name, actual, expected in zip(reading.graph.outputs, made, case.expected, strict=True):
        error = _departure(actual, expected, model, ranges is not None)
        if error:
            raise ParityError(
                f"output %{name} {error} for {case.title}",
                where=_first_departure(model, reading, ranges, case) or f"graph {reading.graph.name}",
                hint="if no cause on the page fits, it is a defect of penjing: report it with the model",
            )


def _departure(actual: np.ndarray, expected: np.ndarray, model: OnnxModel, quantized: bool) -> str:
    """Words for what is wrong, '' where nothing is."""
    if actual.shape != expected.shape:
        return f"has shape {expected.shape} in the source model and {actual.shape} here"
    error = departure(actual, expected)
    tolerance = _CODES_TOLERANCE if quantized else max(TOLERANCE, _HALF_TOLERANCE if model.half else 0.0)
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-5)
    mean = float(np.abs(actual - expected).mean()) / scale if np.isfinite(error) else error
    if error <= tolerance and (not quantized or mean <= _CODES_MEAN_TOLERANCE):
        return ""
    return f"departs from the source model by {error:.2g} of its scale (tolerance {tolerance:g})"


def _evaluated(reading: Reading, ranges: Ranges | None, inputs: Arrays, watch: Watch | None = None) -> Arrays:
    """The graph's outputs, its values rounded to codes where they have a range and become codes."""
    if ranges is None:
        return evaluate(reading.graph, *inputs, watch=watch)
    silent = between_roundings(reading.graph)

    def rounded(name: str, array: np.ndarray) -> np.ndarray:
        if name in ranges and name not in silent:
            scale, zero_point = activation_parameters(*ranges[name])
            array = np.clip(np.rint(array / scale), -zero_point, 255 - zero_point).astype(np.float32) * scale
        if watch is not None:
            watch(name, array)
        return array

    values = {name: c.array for name, c in reading.graph.constants.items()}
    for name, array in zip(reading.graph.inputs, inputs, strict=True):
        values[name] = rounded(name, array) if array.dtype.kind == "f" else array
    for node in reading.graph.nodes:
        assert isinstance(node.op, Operator)
        results = node.op.float_reference(*(values[name] if name else None for name in node.inputs))
        values |= {name: rounded(name, array) for name, array in zip(node.outputs, results, strict=True)}
    return tuple(values[name] for name in reading.graph.outputs)


def _check_alone(reading: Reading, inputs: Arrays) -> None:
    """The graph must give samples together what it gives each alone."""
    pairs = tuple(np.concatenate([x, x[::-1] if x.dtype.kind == "i" else x[::-1] * np.float32(0.5)]) for x in inputs)
    together = evaluate(reading.graph, *pairs)
    for place in range(len(pairs[0])):
        alone = evaluate(reading.graph, *(x[place : place + 1] for x in pairs))
        for name, a, b in zip(reading.graph.outputs, alone, together, strict=True):
            axis = reading.graph.types[name].shape.index(BATCH)
            if departure(a, b.take([place], axis)) > TOLERANCE:
                raise ParityError(
                    f"output %{name} of one sample depends on the others",
                    where=f"graph {reading.graph.name}",
                    hint="axis 0 of every value is the batch; the model uses it for something else",
                )


def _first_departure(model: OnnxModel, reading: Reading, ranges: Ranges | None, case: Case) -> str | None:
    """Words for the first node of the graph whose value departs from the source's."""
    wanted = {name: onnx for name, onnx in reading.origins.items() if onnx not in model.inputs}
    try:
        made = _source(model, case.inputs, tuple(wanted.values()))
    except ParityError:
        return None
    silent = between_roundings(reading.graph) if ranges is not None else set()
    expected = {n: a for n, a in zip(wanted, made, strict=True) if a.dtype.kind == "f" and n not in silent}
    found: list[tuple[str, str]] = []

    def watch(name: str, array: np.ndarray) -> None:
        error = _departure(array, expected[name], model, ranges is not None) if name in expected and not found else ""
        if error:
            found.append((name, error))

    _evaluated(reading, ranges, case.inputs, watch)
    if not found:
        return None
    name, error = found[0]
    return f"{reading.graph.producers().get(name) or name}, the first to depart: {error}"


def _source(model: OnnxModel, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
    """What the source model makes of the inputs."""
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.proto.graph.input}
    dtype = import_onnx("onnx.helper").tensor_dtype_to_np_dtype
    feeds = {name: x.astype(dtype(kinds[name])) for name, x in zip(model.inputs, inputs, strict=True)}
    proto = _with_outputs(model, outputs)
    has_runtime = importlib.util.find_spec("onnxruntime") is not None
    if not has_runtime and any(node.domain for node in model.proto.graph.node):
        raise MissingDependency(
            "operators of onnxruntime's own cannot be checked, because it is not installed",
            hint="pip install onnxruntime",
        )
    try:
        made = _runtime(proto, feeds) if has_runtime else _reference(proto, feeds)
    except Exception as error:
        raise ParityError(
            f"the source model cannot run: {(str(error).splitlines() or [type(error).__name__])[0][:300]}",
            where=f"graph {model.name}",
            hint="it must run by itself, with a batch of one and of three where it leaves the batch open",
        ) from error
    return tuple(np.asarray(array).astype(np.float32) if array.dtype.kind == "f" else array for array in made)


def _with_outputs(model: OnnxModel, outputs: tuple[str, ...]) -> Any:
    if outputs == model.outputs:
        return model.proto
    onnx = import_onnx()
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    return proto


def _runtime(proto: Any, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # fused operators would round elsewhere than the model says
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made: list[np.ndarray] = session.run(None, dict(feeds))
    return made


def _reference(proto: Any, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    made: list[np.ndarray] = import_onnx("onnx.reference").ReferenceEvaluator(proto).run(None, dict(feeds))
    return made
