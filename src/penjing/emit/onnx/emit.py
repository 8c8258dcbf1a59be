"""Graph -> the bytes of an ONNX file; the same graph gives the same bytes."""

from typing import Any

import numpy as np

from penjing.core.errors import InvalidInput
from penjing.core.onnx_package import import_onnx
from penjing.core.version import VERSION
from penjing.emit.onnx.body import Written, write_body
from penjing.emit.onnx.options import IR_VERSIONS, OnnxOptions, onnx_options
from penjing.ir.graph import Graph
from penjing.ir.types import Dim, DType, Type
from penjing.ops.onnx_nodes import Initializer

MOST_BYTES = 2**31 - 2**20  # protobuf ends at 2 GiB; the nodes need a little of it


def emit_onnx(graph: Graph, *, opset: int | None = None, int4: bool = False, tensorrt: bool = False) -> bytes:
    """The bytes of an ONNX model: floats for a float graph, QDQ for a quantized one that is not lowered yet.

    Args:
        graph: stage imported, cleaned or compressed.
        opset: 17 to 21; 17 where nothing asks for more.
        int4: store weights whose codes are -7..7 in four bits, which needs opset 21.
        tensorrt: int8 codes around zero and float biases, as TensorRT wants them.

    Raises:
        InvalidInput: options that do not fit, a name that is no text, or more than 2 GB of constants.
        MissingDependency: onnx is not installed.
        and as `write_body`.
    """
    options = onnx_options(opset, int4=int4, tensorrt=tensorrt)
    if (int4 or tensorrt) and graph.stage != "compressed":
        raise InvalidInput("integers were asked for, and the graph holds floats", hint="quantize it first")
    written = write_body(graph, options)
    if int4 and not any(made.in_four_bits for made in written.body.initializers.values()):
        raise InvalidInput("no weight has codes of four bits, -7..7", hint="round weights to 4 bits before quantizing")
    return _model_bytes(graph, written, options)


def _model_bytes(graph: Graph, written: Written, options: OnnxOptions) -> bytes:
    size = sum(made.array.nbytes for made in written.body.initializers.values())
    if size > MOST_BYTES:
        raise InvalidInput(
            f"the constants take {size / 2**30:.1f} GB, and an ONNX file holds less than 2 GB",
            where=f"graph {graph.name}",
        )
    helper = import_onnx().helper
    body = written.body
    try:
        made = helper.make_graph(
            [helper.make_node(n.op_type, n.inputs, n.outputs, n.outputs[0], **n.attributes) for n in body.nodes],
            graph.name or "network",
            [_value(name, graph.types[name]) for name in written.inputs],
            [_value(name, graph.types[was]) for name, was in zip(written.outputs, graph.outputs, strict=True)],
            [_tensor(name, one) for name, one in body.initializers.items()],
        )
        model = helper.make_model(
            made,
            opset_imports=[helper.make_opsetid("", options.opset)],
            ir_version=IR_VERSIONS[options.opset],
            producer_name="penjing",
            producer_version=VERSION,
        )
    except UnicodeEncodeError as error:
        raise InvalidInput(f"the name {error.object!r} is no text that UTF-8 can hold") from error
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _value(name: str, type_: Type) -> Any:
    onnx = import_onnx()
    shape = [extent.name if isinstance(extent, Dim) else extent for extent in type_.shape]
    kind = onnx.TensorProto.INT32 if type_.dtype is DType.S32 else onnx.TensorProto.FLOAT
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def _tensor(name: str, made: Initializer) -> Any:
    onnx = import_onnx()
    if made.in_four_bits:
        packed = _packed(made.array)
        return onnx.helper.make_tensor(name, onnx.TensorProto.INT4, made.array.shape, packed, raw=True)
    return onnx.numpy_helper.from_array(np.asarray(made.array, order="C"), name)


def _packed(codes: np.ndarray) -> bytes:
    """Two codes of -8..7 a byte, the first in the low half."""
    flat = codes.reshape(-1).astype(np.uint8) & 15
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    return bytes((flat[0::2] | flat[1::2] << 4).tobytes())
