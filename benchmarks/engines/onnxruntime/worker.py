"""Worker of ONNX Runtime: input and output are bound once, so that a call copies nothing."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

sys.path.append(str(Path(__file__).resolve().parents[1]))
from protocol import Bound, serve, to_codes, to_floats


def load(path: Path, options: dict[str, Any]) -> Bound:
    """A session of one thread with all of ONNX Runtime's optimisations."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    for key, value in options.get("config", {}).items():
        settings.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    (source,), (sink,) = session.get_inputs(), session.get_outputs()
    codes = json.loads(path.with_suffix(".codes.json").read_text()) if options.get("codes") else None
    x = np.zeros(source.shape, codes["input"]["dtype"] if codes else np.float32)
    y = np.zeros(sink.shape, codes["output"]["dtype"] if codes else np.float32)
    given, taken = onnxruntime.OrtValue.ortvalue_from_numpy(x), onnxruntime.OrtValue.ortvalue_from_numpy(y)
    binding = session.io_binding()
    binding.bind_ortvalue_input(source.name, given)
    binding.bind_ortvalue_output(sink.name, taken)

    def run(values: np.ndarray) -> np.ndarray:
        part = to_codes(values, **codes["input"]) if codes else values
        given.update_inplace(np.ascontiguousarray(part))
        session.run_with_iobinding(binding)
        if codes is None:
            return taken.numpy()
        return to_floats(taken.numpy(), codes["output"]["scale"], codes["output"]["zero"])

    bare, bound = session._sess, binding._iobinding
    return Bound(run, lambda: bare.run_with_iobinding(bound, None), {})


if __name__ == "__main__":
    serve(load)
