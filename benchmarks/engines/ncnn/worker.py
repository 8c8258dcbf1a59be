"""Worker of ncnn: one thread; the input is wrapped, not copied; ncnn wants a new extractor for each call."""

import sys
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))
from protocol import Bound, serve


def load(path: Path, options: dict[str, Any]) -> Bound:
    """`options["precision"]`: "f32", "bf16" or "f16" storage."""
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_bf16_storage = options["precision"] == "bf16"
    half = options["precision"] == "f16"
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise ValueError(f"ncnn refuses {path.name}")
    (source,), (sink,) = net.input_names(), net.output_names()
    x = np.zeros(np.load(path.parents[1] / "checked.npy")[0].shape, np.float32)
    given = ncnn.Mat(x)

    def call() -> Any:
        extractor = net.create_extractor()
        extractor.input(source, given)
        return extractor.extract(sink)[1]

    def run(values: np.ndarray) -> np.ndarray:
        x[:] = values[0]
        return np.array(call())

    return Bound(run, call, {"version": ncnn.__version__})


if __name__ == "__main__":
    serve(load)
