"""Worker of OpenVINO: latency hint, one stream, one thread, input and output tensors bound once."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino

sys.path.append(str(Path(__file__).resolve().parents[1]))
from protocol import Bound, serve, to_codes, to_floats


def load(path: Path, options: dict[str, Any]) -> Bound:
    """One infer request; `facts` names the kernels that OpenVINO chose."""
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": options["precision"],
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    request = compiled.create_infer_request()
    codes = json.loads(path.with_suffix(".codes.json").read_text()) if options.get("codes") else None
    x = np.zeros(tuple(compiled.input(0).shape), codes["input"]["dtype"] if codes else np.float32)
    y = np.zeros(tuple(compiled.output(0).shape), codes["output"]["dtype"] if codes else np.float32)
    request.set_input_tensor(0, openvino.Tensor(x, shared_memory=True))
    request.set_output_tensor(0, openvino.Tensor(y, shared_memory=True))

    def run(values: np.ndarray) -> np.ndarray:
        x[:] = to_codes(values, **codes["input"]) if codes else values
        request.infer()
        return to_floats(y, codes["output"]["scale"], codes["output"]["zero"]) if codes else y

    return Bound(run, request.infer, {"kernels": _kernels(compiled)})


def _kernels(compiled: Any) -> dict[str, int]:
    """How many layers run on which kernel, by OpenVINO's own account."""
    counts: dict[str, int] = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind = info["layerType"].astype(str)
        if kind in ("Convolution", "GroupConvolution", "FullyConnected", "MatMul"):
            name = f"{kind} {info['primitiveType'].astype(str)}"
            counts[name] = counts.get(name, 0) + 1
    return counts


if __name__ == "__main__":
    serve(load)
