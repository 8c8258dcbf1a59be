"""What the scripts of peers are given and leave behind; they run in the peer's own environment.

`quantize.py FOLDER OUTPUT`: FOLDER holds `model.onnx` and `model.pt2` (the float network, batch 1, input `x`),
`calibration.npy` (normalised inputs) and `test.npy` (normalised inputs to classify). OUTPUT gets `forms.json`:
form -> {"classes": FILE} with the class of each test input as .npy, or {"failed": REASON}.

`prune.py FOLDER OUTPUT SHARE IMPORTANCES`: FOLDER holds `weights.npz` (the state of the zoo's ResNet-20),
`calibration.npy` and `labels.npy` of the same inputs; SHARE of the multiply-accumulates may be left; IMPORTANCES are
names of the tool's, joined by commas. `forms.json` has {"model": FILE}, an exported program (.pt2) with batch norms.
"""

import itertools
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def attempt(output: Path, name: str, make: Callable[[], np.ndarray]) -> None:
    """Make one form and note its classes, or why it could not be made. Forms that are there already are kept."""
    attempt_file(output, name, "classes", ".npy", lambda path: np.save(path, make()))


def attempt_file(output: Path, name: str, key: str, suffix: str, write: Callable[[Path], None]) -> None:
    """Likewise for a form that `write` leaves in a file, noted under `key`."""
    path = output / "forms.json"
    forms: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if key in forms.get(name, {}):
        return
    file = next(f"{i}{suffix}" for i in itertools.count() if not (output / f"{i}{suffix}").exists())
    try:
        write(output / file)
    except Exception as error:  # noqa: BLE001 -- the reason stands in the table
        traceback.print_exc()
        forms[name] = {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[-1:]}"}
    else:
        forms[name] = {key: file}
    path.write_text(json.dumps(forms, indent=2))


def run_onnx(path: Path, folder: Path) -> np.ndarray:
    """(n,) class of each test input by ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.array(
        [session.run(None, {name: x[None]})[0].argmax() for x in np.load(folder / "test.npy", mmap_mode="r")]
    )
