"""The ExecuTorch forms of `model.pt2` for its XNNPACK backend: `python convert.py FOLDER OUTPUT`.

What fails is in failed.json: file -> reason.
"""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.exir import EdgeCompileConfig, to_edge, to_edge_transform_and_lower
from executorch.exir.passes.quantize_io_pass import QuantizeInputs, QuantizeOutputs
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

SAMPLES = 32  # of the calibration inputs: the quantizer's observers are slow

warnings.simplefilter("ignore")


def main() -> None:
    """Make every form of the model in the folder."""
    folder, output = map(Path, sys.argv[1:])
    inputs = np.load(folder / "calibration.npy")
    example = (torch.from_numpy(inputs[:1]),)
    failed: dict[str, str] = {}

    def attempt(name: str, make: Callable[[], object]) -> None:
        try:
            make()
        except Exception as error:  # noqa: BLE001 -- the reason stands in the table
            failed[name] = f"{type(error).__name__}: {error}"

    def lower(module: torch.nn.Module, name: str) -> None:
        edge = to_edge_transform_and_lower(torch.export.export(module, example), partitioner=[XnnpackPartitioner()])
        (output / name).write_bytes(edge.to_executorch().buffer)

    def quantized(**options: object) -> torch.nn.Module:
        settings = get_symmetric_quantization_config(is_per_channel=True, **options)
        module = torch.export.load(folder / "model.pt2").module()
        prepared = prepare_pt2e(module, XNNPACKQuantizer().set_global(settings))
        with torch.inference_mode():
            for x in inputs[:SAMPLES]:
                prepared(torch.from_numpy(x[None]))
        return convert_pt2e(prepared)

    def codes(name: str) -> None:
        exported = torch.export.export(quantized(), example)
        edge = to_edge(exported, compile_config=EdgeCompileConfig(_check_ir_validity=False))
        edge = edge.transform([QuantizeInputs(edge, [0]), QuantizeOutputs(edge, [0])])
        ends = {}
        for end in ("input", "output"):
            scale, zero = edge._config_methods[f"{end}0_scale"], edge._config_methods[f"{end}0_zp"]
            ends[end] = {"scale": float(scale), "zero": int(zero), "dtype": "int8"}
        (output / name).write_bytes(edge.to_backend(XnnpackPartitioner()).to_executorch().buffer)
        (output / name).with_suffix(".codes.json").write_text(json.dumps(ends))

    attempt("float.pte", lambda: lower(torch.export.load(folder / "model.pt2").module(), "float.pte"))
    attempt("static.pte", lambda: lower(quantized(), "static.pte"))
    attempt("dynamic.pte", lambda: lower(quantized(is_dynamic=True), "dynamic.pte"))
    int4 = {"is_dynamic": True, "weight_qmin": -8, "weight_qmax": 7}
    attempt("int4.pte", lambda: lower(quantized(**int4), "int4.pte"))
    attempt("static-codes.pte", lambda: codes("static-codes.pte"))
    (output / "failed.json").write_text(json.dumps(failed))


if __name__ == "__main__":
    main()
