"""Nodes whose inputs are all known are evaluated at once, by the reference of the onnx package.

Only operators whose cost is bounded by what they read and make are evaluated, and what they will make is worked out
before. Values that follow the batch, or the length of sequences, are kept for both probes of `ops/onnx_call.py`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.core.onnx_package import import_onnx
from penjing.frontends.onnx.model import OnnxNode
from penjing.frontends.onnx.tensors import MAX_ELEMENTS
from penjing.ops.onnx_call import PROBES, Known

_BROADCAST = frozenset(
    {
        "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Equal", "Greater", "GreaterOrEqual", "Less",
        "LessOrEqual", "And", "Or", "Xor", "Where", "PRelu", "Sum",
    }
)  # fmt: skip
_NO_LARGER = frozenset(
    {
        "Abs", "Neg", "Floor", "Ceil", "Round", "Sqrt", "Reciprocal", "Exp", "Log", "Erf", "Sign", "Sin", "Cos", "Tanh",
        "Sigmoid", "Relu", "Clip", "Not", "Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose",
        "Slice", "Split", "Shape", "Size", "ReduceSum", "ReduceMean", "ReduceProd", "ReduceMin", "ReduceMax", "Trilu",
        "QuantizeLinear", "DequantizeLinear", "NonZero", "CumSum", "ScatterND", "IsNaN", "IsInf",
    }
)  # fmt: skip
_SIZED = frozenset(
    {
        "Concat", "Gather", "GatherElements", "GatherND", "Expand", "ConstantOfShape", "Range", "Tile", "Constant",
    }
)  # fmt: skip
FOLDED = _BROADCAST | _NO_LARGER | _SIZED
# What numpy and the reference raise on inputs that do not fit.
_FAULTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, NotImplementedError)


def shape_of(node: OnnxNode, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> Known:
    """What `Shape` gives for an activation that has these shapes at the probes."""
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    assert isinstance(start, int) and (end is None or isinstance(end, int))
    extents = slice(start, end)
    arrays = [np.asarray(shape[extents], np.int64) for shape in shapes]
    return Known(node.outputs[0], arrays[0], arrays[1])


def fold(node: OnnxNode, operands: Sequence[Known | None], opset: int, batch: int | None = None) -> list[Known]:
    """The values that a node makes of known ones; one entry per output.

    Args:
        node: whose inputs they are.
        operands: None for an absent one.
        opset: version of the operator.
        batch: the one that the model is written for; None when it takes any.

    Raises:
        UnsupportedOp: an operator that is not evaluated, too large a result, or one that has no meaning.
    """
    if node.op not in FOLDED or node.domain or node.graphs:
        raise UnsupportedOp("its inputs are constants, but it is not evaluated before the model runs")
    if node.op == "Expand" and batch is not None:
        operands = _for_any_batch(operands, batch)
    both = [o for o in operands if o is not None and not o.is_constant]
    first = _run(node, [None if o is None else o.array for o in operands], opset)
    second = _run(node, [None if o is None else o.other for o in operands], opset) if both else first
    return [Known(name, a, b) for name, a, b in zip(node.outputs, first, second, strict=True)]


def _for_any_batch(operands: Sequence[Known | None], batch: int) -> Sequence[Known | None]:
    """Operands of `Expand`: what a model of a fixed batch holds for each sample alike, once where that is the batch."""
    source, shape = operands
    if source is None or shape is None or not source.is_constant or shape.array.ndim != 1:
        return operands
    array, lead = source.array, shape.array.size - source.array.ndim
    for axis in range(array.ndim if lead >= 0 else 0):
        is_batch = (shape.array[lead + axis], shape.other[lead + axis]) == PROBES
        if is_batch and array.shape[axis] == batch and (array == array.take([0], axis)).all():
            array = array.take([0], axis)
    return Known(source.name, array, array), shape


def _run(node: OnnxNode, arrays: list[np.ndarray | None], opset: int) -> list[np.ndarray]:
    present = [a for a in arrays if a is not None]
    try:
        size = _result_size(node, present)
        if size > MAX_ELEMENTS:
            raise UnsupportedOp(f"it would make a constant of {size} elements")
        results = _reference(node, arrays, opset)
    except _FAULTS as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise UnsupportedOp(f"it cannot be evaluated: {said[0][:200]}") from error
    return [np.asarray(result) for result in results]


def _result_size(node: OnnxNode, arrays: list[np.ndarray]) -> int:
    """An upper bound of the elements of the result."""
    if node.op in _BROADCAST:
        return math.prod(np.broadcast_shapes(*(a.shape for a in arrays)))
    if node.op == "Gather":
        axis = node.attributes.get("axis", 0)
        if not isinstance(axis, int):
            raise TypeError(f"axis = {axis!r}")
        return int(arrays[1].size * (arrays[0].size // max(arrays[0].shape[axis], 1)))
    if node.op == "GatherND":
        depth = int(arrays[1].shape[-1])
        return arrays[1].size // max(depth, 1) * math.prod(arrays[0].shape[depth:])
    if node.op == "Expand":
        return math.prod(np.broadcast_shapes(arrays[0].shape, _extents(arrays[1])))
    if node.op == "ConstantOfShape":
        return math.prod(_extents(arrays[0]))
    if node.op == "Tile":
        return arrays[0].size * math.prod(_extents(arrays[1]))
    if node.op == "Range":
        start, limit, step = (float(a.reshape(())) for a in arrays)
        return max(0, math.ceil((limit - start) / step))
    if node.op == "NonZero":
        return arrays[0].size * max(arrays[0].ndim, 1)
    return sum(a.size for a in arrays)


def _extents(array: np.ndarray) -> tuple[int, ...]:
    return tuple(int(n) for n in array.reshape(-1))


def _reference(node: OnnxNode, arrays: list[np.ndarray | None], opset: int) -> list[Any]:
    onnx, reference = import_onnx(), import_onnx("onnx.reference")
    feeds: Mapping[str, np.ndarray] = {
        name: array for name, array in zip(node.inputs, arrays, strict=True) if name and array is not None
    }
    helper = onnx.helper
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.outputs if name]
    graph = helper.make_graph([node.proto], "constant", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        made = iter(reference.ReferenceEvaluator(model).run(None, dict(feeds)))
    return [next(made) if name else np.zeros(0, np.float32) for name in node.outputs]
