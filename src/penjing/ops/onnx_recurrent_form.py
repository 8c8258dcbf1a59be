"""Single recurrent layers in ONNX, one direction each (see onnx_recurrent):

    x (N, T, I) -> Transpose -> LSTM, GRU or RNN: Y (T, 1, N, H) -> Squeeze -> Transpose -> y (N, T, H)

A quantized layer keeps the codes of its weights. What it computes inside of a step has no form in codes and is written
in floats, biases included; the roundings of x, y and states stand around it, as they do for every operator.
"""

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.ir.types import Quant
from penjing.ops.onnx_nodes import Attribute, OnnxForm, OnnxNode
from penjing.ops.onnx_recurrent import GRU, LSTM, OnnxLayer

_BATCH_SECOND = (1, 0, 2)


def write_layer(
    form: OnnxForm, layer: OnnxLayer, *, reverse: bool, rectified: bool = False, projected: bool = False
) -> None:
    """Write one layer; the state after it only if something reads it.

    Raises:
        UnsupportedOp: a layer with a projection, which no operator of ONNX has.
    """
    if projected:
        raise UnsupportedOp("ONNX has no recurrent layer with a projection", where=str(form.source))
    x = form.input(0, _BATCH_SECOND)
    inputs = [x, _weight(form, layer, 1), _weight(form, layer, 2), _biases(form, layer), ""]
    first = 5 + (layer is LSTM)
    inputs += [_state(form, first + i) for i in range(layer.states) if form.has(first + i)]
    while not inputs[-1]:
        inputs.pop()
    attributes: dict[str, Attribute] = {"hidden_size": form.type(2).bounds[1]}
    if reverse:
        attributes["direction"] = "reverse"
    if rectified:
        attributes["activations"] = ("Relu",)
    if layer is GRU:
        attributes["linear_before_reset"] = 1
    has_last = len(form.outputs) > 1 and _is_read(form, form.source.outputs[1])
    steps, last = (form.body.names.fresh(f"{form.source.outputs[0]}.{what}") for what in ("all", "last"))
    outputs = (steps, *[""] * (layer.states - 1), last)[: 1 + layer.states * has_last]
    form.body.nodes.append(OnnxNode(layer.target, tuple(inputs), outputs, attributes))
    only = form.node("Squeeze", steps, form.integers("direction", [1]))
    form.body.node("Transpose", (only,), form.outputs[0], perm=_BATCH_SECOND)
    if has_last:
        form.body.node("Squeeze", (last, form.integers("direction", [0])), form.outputs[1])


def _is_read(form: OnnxForm, name: str) -> bool:
    return name in form.graph.sinks() or bool(form.graph.users()[name])


def _weight(form: OnnxForm, layer: OnnxLayer, place: int) -> str:
    """(1, G * H, ...) in ONNX's order of gates, as floats."""
    name = form.source.inputs[place]
    constant = form.graph.constants[name]
    array = layer.rows_of_onnx(constant.array)[None]
    if constant.array.dtype != np.int8:
        return _under_own_name(form, name, array)
    assert constant.quant is not None
    steps = layer.rows_of_onnx(np.resize(constant.quant.scale_array(), array.shape[1]))
    stored = ((f"{name}.codes", array), (f"{name}.scale", steps), (f"{name}.zero_point", np.zeros_like(steps, np.int8)))
    names = tuple(form.body.constant(stem, values) for stem, values in stored)
    return form.body.node("DequantizeLinear", names, form.body.names.fresh(f"{name}.real"), axis=1)


def _biases(form: OnnxForm, layer: OnnxLayer) -> str:
    """(1, 2 * G * H); '' where there are none."""
    if not (form.has(3) or form.has(4)):
        return ""
    rows = form.type(1).bounds[0]
    halves = [_bias(form, place) if form.has(place) else np.zeros(rows, np.float32) for place in (3, 4)]
    return form.floats("biases", np.concatenate([layer.rows_of_onnx(half) for half in halves])[None])


def _bias(form: OnnxForm, place: int) -> np.ndarray:
    """The floats of a bias; its codes count in steps of what its weight is multiplied by, times the weight's own."""
    array = form.graph.constants[form.source.inputs[place]].array
    if array.dtype == np.float32:
        return array
    source = form.source.inputs[0] if place == 3 else form.source.outputs[0]
    quants = (form.graph.types[source].quant, form.graph.types[form.source.inputs[place - 2]].quant)
    assert all(isinstance(quant, Quant) for quant in quants)
    steps = [quant.scale_array().astype(np.float64) for quant in quants if quant is not None]
    real: np.ndarray = (array * steps[0] * steps[1]).astype(np.float32)
    return real


def _state(form: OnnxForm, place: int) -> str:
    """(1, N, H); one row of it is repeated for every sample."""
    known = form.parameter(place)
    if known is not None:
        state = _under_own_name(form, form.source.inputs[place], known[None])
    else:
        state = form.node("Unsqueeze", form.input(place), form.integers("lead", [0]))
    if form.type(place).shape[0] == form.type(0).shape[0]:
        return state
    batch = form.node("Shape", form.input(0), start=0, end=1)
    ends = (form.integers("directions", [1]), batch, form.integers("units", [form.type(place).bounds[1]]))
    return form.node("Expand", state, form.node("Concat", *ends, axis=0))


def _under_own_name(form: OnnxForm, name: str, array: np.ndarray) -> str:
    """A constant called as in the network, unless another form of it has that name."""
    if name not in form.body.initializers:
        form.body.names.taken.discard(name)
    return form.body.constant(name, array)
