"""The forms with integers that ONNX Runtime's own tools make of `model.onnx`: `python convert.py FOLDER OUTPUT`.

Writes FORM.onnx for every form and, without the conversions at its ends, FORM-codes.onnx with FORM-codes.codes.json:
scale, zero point and type of input and output. What fails is in failed.json: file -> reason.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

STATIC: dict[str, dict[str, Any]] = {
    "u8s8": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8},
    "u8s8-7bit": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "reduce_range": True},
    "u8u8": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
    "s8s8": {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8},
}


class Samples(CalibrationDataReader):
    """The calibration inputs, one by one."""

    def __init__(self, inputs: np.ndarray) -> None:
        self._left = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next one as an input of the model; None after the last."""
        sample = next(self._left, None)
        return None if sample is None else {"x": sample[None]}


def main() -> None:
    """Make every form of the model in the folder."""
    folder, place = map(Path, sys.argv[1:])
    inputs = np.load(folder / "calibration.npy")
    prepared = place / "prepared.onnx"
    quant_pre_process(str(folder / "model.onnx"), str(prepared), skip_symbolic_shape=True)
    failed: dict[str, str] = {}

    def attempt(name: str, make: Callable[[], object]) -> None:
        try:
            make()
        except Exception as error:  # noqa: BLE001 -- the reason stands in the table
            failed[name] = f"{type(error).__name__}: {error}"

    def static(output: Path, form: QuantFormat, options: dict[str, Any]) -> None:
        quantize_static(str(prepared), str(output), Samples(inputs), quant_format=form, per_channel=True, **options)

    for name, options in STATIC.items():
        qdq, ends_off = place / f"{name}.onnx", place / f"{name}-codes.onnx"
        attempt(qdq.name, partial(static, qdq, QuantFormat.QDQ, options))
        attempt(ends_off.name, partial(without_ends, qdq, ends_off))
    for name in ("u8s8", "u8u8"):
        output = place / f"{name}-qoperator.onnx"
        attempt(output.name, partial(static, output, QuantFormat.QOperator, STATIC[name]))
    for name, kind in (("s8", QuantType.QInt8), ("u8", QuantType.QUInt8)):
        output = place / f"dynamic-{name}.onnx"
        make = partial(quantize_dynamic, str(prepared), str(output), per_channel=True, weight_type=kind)
        attempt(output.name, make)
    for name, accuracy in (("int4", 0), ("int4-int8", 4)):
        output = place / f"{name}.onnx"
        attempt(output.name, partial(four_bits, prepared, output, accuracy))
    (place / "failed.json").write_text(json.dumps(failed))


def four_bits(source: Path, output: Path, accuracy: int) -> None:
    """4-bit weights in blocks of 32 for matrix products, the only layers that ONNX Runtime has them for.

    Args:
        source: the model in float32.
        output: what to write.
        accuracy: of the sums: 0 leaves it to ONNX Runtime, 4 asks for int8.
    """
    model = with_matmuls(onnx.load(source))
    quantizer = MatMulNBitsQuantizer(model, bits=4, block_size=32, is_symmetric=True, accuracy_level=accuracy)
    quantizer.process()
    made = quantizer.model.model
    if not any(node.op_type == "MatMulNBits" for node in made.graph.node):
        raise ValueError("no layer became MatMulNBits")
    onnx.save(made, output)


def with_matmuls(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each Gemm(x, w, b) with constant weights as MatMul and Add, as the quantizer knows no Gemm."""
    graph = model.graph
    constants = {item.name: item for item in graph.initializer}
    for at, node in reversed(list(enumerate(graph.node))):
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        plain = settings.get("alpha", 1.0) == settings.get("beta", 1.0) == 1.0 and not settings.get("transA")
        if node.op_type != "Gemm" or not plain or node.input[1] not in constants:
            continue
        x, w, b = node.input
        weights = numpy_helper.to_array(constants[w])
        turned = np.ascontiguousarray(weights.T) if settings.get("transB") else weights
        graph.initializer.append(numpy_helper.from_array(turned, f"{w}_turned"))
        product = onnx.helper.make_node("MatMul", [x, f"{w}_turned"], [f"{node.output[0]}_product"])
        added = onnx.helper.make_node("Add", [product.output[0], b], [node.output[0]])
        del graph.node[at]
        graph.node.insert(at, added)
        graph.node.insert(at, product)
    return model


def without_ends(quantized: Path, output: Path) -> None:
    """The same model without the first QuantizeLinear and the last DequantizeLinear: codes in, codes out."""
    model = onnx.load(quantized)
    graph = model.graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    (first,) = (n for n in graph.node if graph.input[0].name in n.input)
    (last,) = (n for n in graph.node if graph.output[0].name in n.output)
    if (first.op_type, last.op_type) != ("QuantizeLinear", "DequantizeLinear"):
        raise ValueError(f"the model begins with {first.op_type} and ends with {last.op_type}")
    ends = {}
    for end, node, inner, port in (
        ("input", first, first.output[0], graph.input[0]),
        ("output", last, last.input[0], graph.output[0]),
    ):
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        ends[end] = {"scale": float(scale), "zero": int(zero), "dtype": str(zero.dtype)}
        port.name = inner
        port.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(zero.dtype)
        graph.node.remove(node)
    for info in [item for item in graph.value_info if item.name in (graph.input[0].name, graph.output[0].name)]:
        graph.value_info.remove(info)
    onnx.checker.check_model(model)
    onnx.save(model, output)
    output.with_suffix(".codes.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    main()
