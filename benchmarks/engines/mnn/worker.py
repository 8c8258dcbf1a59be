"""Worker of MNN: one session of one thread; a call copies in and out, as MNN has its own layout."""

import sys
from pathlib import Path
from typing import Any

import MNN
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))
from protocol import Bound, serve


def load(path: Path, options: dict[str, Any]) -> Bound:
    """`options`: MNN's "precision" and "memory" settings."""
    model = MNN.Interpreter(str(path))
    session = model.createSession({"backend": "CPU", "numThread": 1, **options})
    source, sink = model.getSessionInput(session), model.getSessionOutput(session)
    x, y = np.zeros(source.getShape(), np.float32), np.zeros(sink.getShape(), np.float32)
    layout = MNN.Tensor_DimensionType_Caffe
    given = MNN.Tensor(x.shape, MNN.Halide_Type_Float, x, layout)
    taken = MNN.Tensor(y.shape, MNN.Halide_Type_Float, y, layout)

    def call() -> None:
        source.copyFrom(given)
        model.runSession(session)
        sink.copyToHostTensor(taken)

    def run(values: np.ndarray) -> np.ndarray:
        nonlocal given
        x[:] = values
        given = MNN.Tensor(x.shape, MNN.Halide_Type_Float, x, layout)
        call()
        return np.array(taken.getData(), np.float32).reshape(y.shape)

    return Bound(run, call, {"version": MNN.version()})


if __name__ == "__main__":
    serve(load)
