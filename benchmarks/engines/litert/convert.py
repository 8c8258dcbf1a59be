"""The LiteRT forms of `model.pt2`, by LiteRT's own converter and quantizers: `python convert.py FOLDER OUTPUT`.

Images go in as (n, h, w, c), as LiteRT likes them. Static int8 comes in two makes: ai-edge-quantizer's on the float
file, and torch's PT2E with LiteRT's quantizer. What fails is in failed.json: file -> reason.
"""

import json
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flatbuffers
import litert_torch
import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe

sys.path.append(str(Path(__file__).resolve().parents[1]))
from protocol import channels_last

SAMPLES = 32  # of the calibration inputs: both quantizers are slow

warnings.simplefilter("ignore")


def main() -> None:
    """Make every form of the model in the folder."""
    folder, output = map(Path, sys.argv[1:])
    inputs = np.load(folder / "calibration.npy")
    module = torch.export.load(folder / "model.pt2").module()
    failed: dict[str, str] = {}

    def attempt(name: str, make: Callable[[Path], object]) -> None:
        try:
            make(output / name)
        except Exception as error:  # noqa: BLE001 -- the reason stands in the table
            failed.setdefault(name, f"{type(error).__name__}: {error}")

    attempt("float.tflite", lambda path: converted(module, inputs).export(str(path)))
    attempt("static-codes.tflite", lambda path: quantized(output / "float.tflite", path, inputs))
    attempt("dynamic.tflite", lambda path: dynamic(output / "float.tflite", path, recipe.dynamic_wi8_afp32()))
    attempt("int4.tflite", lambda path: dynamic(output / "float.tflite", path, recipe.dynamic_wi4_afp32()))
    attempt("pt2e-codes.tflite", lambda path: pt2e(module, inputs).export(str(path)))
    for name in ("static", "pt2e"):
        codes = output / f"{name}-codes.tflite"
        attempt(codes.name, describe_codes)
        attempt(f"{name}.tflite", partial(with_float_ends, codes))
    (output / "failed.json").write_text(json.dumps(failed))


def converted(module: torch.nn.Module, inputs: np.ndarray, **options: object) -> litert_torch.model.LiteRTModel:
    """The module as a LiteRT model with channels last."""
    module.train = lambda mode=True: module  # an exported module has no modes, and refuses to be asked
    module.eval = lambda: module
    last = litert_torch.to_channel_last_io(module, args=[0]) if inputs.ndim == 4 else module
    return litert_torch.convert(last.eval(), (torch.from_numpy(channels_last(inputs[:1])),), **options)


def quantized(source: Path, output: Path, inputs: np.ndarray) -> None:
    """Static int8: per-channel weights, activations between the lowest and highest value that was seen.

    The quantizer's own calibration keeps a moving average of the two instead, which clips: on the autoencoder the
    outputs are then useless (4 dB). So it is asked for one input at a time, and the results are joined here.
    """
    make = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
    (name,) = Interpreter(str(source)).get_signature_list()["serving_default"]["inputs"]
    ranges: dict[str, dict[str, np.ndarray]] = {}
    for x in inputs[:SAMPLES]:
        found = make.calibrate({"serving_default": [{name: channels_last(x[None])}]}, num_threads=1)
        for tensor, seen in found.items():
            known = ranges.setdefault(tensor, seen)
            known["min"], known["max"] = np.minimum(known["min"], seen["min"]), np.maximum(known["max"], seen["max"])
    make.quantize(ranges).export_model(str(output), overwrite=True)


def dynamic(source: Path, output: Path, how: list[dict[str, Any]]) -> None:
    """Weights of 8 or 4 bits, activations quantized at each call."""
    make = quantizer.Quantizer(str(source), how)
    make.quantize().export_model(str(output), overwrite=True)


def pt2e(module: torch.nn.Module, inputs: np.ndarray) -> litert_torch.model.LiteRTModel:
    """Static int8 by torch's PT2E with LiteRT's quantizer."""
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
    from litert_torch.quantize.quant_config import QuantConfig
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    settings = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    chooser = PT2EQuantizer().set_global(settings)
    prepared = prepare_pt2e(module, chooser)
    with torch.inference_mode():
        for x in inputs[:SAMPLES]:
            prepared(torch.from_numpy(x[None]))
    return converted(convert_pt2e(prepared, fold_quantize=False), inputs, quant_config=QuantConfig(chooser))


def with_float_ends(source: Path, output: Path) -> None:
    """The same model with a QUANTIZE before its int8 input and a DEQUANTIZE after its int8 output."""
    data = source.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    for part in model.buffers:
        if part.offset:  # the data lies behind the tables
            part.data, part.offset, part.size = np.frombuffer(data, np.uint8, part.size, part.offset), 0, 0
    for kind, before in (("QUANTIZE", True), ("DEQUANTIZE", False)):
        (inner,) = map(int, graph.inputs if before else graph.outputs)
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = f"float_{kind.lower()}".encode(), schema.TensorType.FLOAT32, 0
        tensor.shape, tensor.shapeSignature = graph.tensors[inner].shape, graph.tensors[inner].shapeSignature
        graph.tensors.append(tensor)
        outer = len(graph.tensors) - 1
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        code.version = 1
        model.operatorCodes.append(code)
        step = schema.OperatorT()
        step.opcodeIndex = len(model.operatorCodes) - 1
        step.inputs, step.outputs = ([outer], [inner]) if before else ([inner], [outer])
        graph.operators.insert(0 if before else len(graph.operators), step)
        if before:
            graph.inputs = [outer]
        else:
            graph.outputs = [outer]
        for signature in model.signatureDefs or ():
            (signature.inputs if before else signature.outputs)[0].tensorIndex = outer
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    output.write_bytes(builder.Output())


def describe_codes(path: Path) -> None:
    """Write scale, zero point and type of the int8 input and output beside the model."""
    model = Interpreter(str(path))
    ends = {}
    for end, (port,) in (("input", model.get_input_details()), ("output", model.get_output_details())):
        scale, zero = port["quantization"]
        if not scale:
            raise ValueError(f"the {end} is {np.dtype(port['dtype'])}, not int8")
        ends[end] = {"scale": float(scale), "zero": int(zero), "dtype": str(np.dtype(port["dtype"]))}
    path.with_suffix(".codes.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    main()
