"""Worker of ExecuTorch: its native bindings, one thread; tensors in and out are torch's.

`executorch.runtime`, the layer above them, imports the whole converter: 7 seconds instead of 2.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.extension.pybindings import _C

sys.path.append(str(Path(__file__).resolve().parents[1]))
from protocol import Bound, serve, to_codes, to_floats


def load(path: Path, options: dict[str, Any]) -> Bound:
    """The method `forward` of a program."""
    torch.set_num_threads(1)
    codes = json.loads(path.with_suffix(".codes.json").read_text()) if options.get("codes") else None
    program = _C._load_program(str(path))
    method = program.load_method("forward")
    shape = np.load(path.parents[1] / "checked.npy")[:1].shape
    x = torch.zeros(shape, dtype=getattr(torch, codes["input"]["dtype"]) if codes else torch.float32)
    view, given = x.numpy(), (x,)

    def call() -> list[torch.Tensor]:
        return method.call(given, clone_outputs=False)

    def run(values: np.ndarray) -> np.ndarray:
        view[:] = to_codes(values, **codes["input"]) if codes else values
        y = call()[0].numpy()
        return to_floats(y, codes["output"]["scale"], codes["output"]["zero"]) if codes else y

    return Bound(run, call, {})


if __name__ == "__main__":
    serve(load)
