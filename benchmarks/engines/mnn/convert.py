"""The MNN forms of `model.onnx`: `python convert.py FOLDER OUTPUT`. What fails is in failed.json: file -> reason.

The native module is called, not the `mnnconvert` and `mnnquant` scripts: those install packages into whatever Python
`pip` belongs to, and send usage records.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

SAMPLES = 32  # of the calibration inputs, written as text


def main() -> None:
    """Make every form of the model in the folder; each in a process of its own, as the tool may abort."""
    folder, output = map(Path, sys.argv[1:])
    os.chdir(output)
    failed: dict[str, str] = {}
    source = str(folder / "model.onnx")
    convert = ["mnnconvert", "-f", "ONNX", "--bizCode", "benchmark", "--modelFile", source, "--MNNModel"]
    attempt("float.mnn", f"_tools.mnnconvert({[*convert, 'float.mnn']})", failed)
    for name, bits in (("dynamic.mnn", "8"), ("int4.mnn", "4")):
        attempt(name, f"_tools.mnnconvert({[*convert, name, '--weightQuantBits', bits]})", failed)
    write_samples(np.load(folder / "calibration.npy")[:SAMPLES])
    for method in ("KL", "EMA"):
        name, settings = f"static-{method.lower()}.mnn", write_settings(method)
        # its first argument is the name of the program, which the `mnnquant` script forgets
        attempt(name, f"_tools.mnnquant({['mnnquant', 'float.mnn', name, settings]})", failed)
    shutil.rmtree("mnn-samples")
    Path("failed.json").write_text(json.dumps(failed))


def attempt(output: str, command: str, failed: dict[str, str]) -> None:
    """Run one call of MNN's native tools; it worked if the file is there."""
    run = [sys.executable, "-c", f"import _tools; {command}"]
    done = subprocess.run(run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
    if not Path(output).is_file():
        last = done.stdout.strip().splitlines()[-1:] or [""]
        failed[output] = f"MNN's tool ended with status {done.returncode}: {last[0].strip()}"


def write_samples(inputs: np.ndarray) -> None:
    """Calibration inputs as `mnnquant` wants them."""
    for i, sample in enumerate(inputs):
        place = Path("mnn-samples", f"{i:03d}")
        place.mkdir(parents=True, exist_ok=True)
        ports = {"inputs": [{"name": "x", "shape": [1, *sample.shape]}], "outputs": ["y"]}
        (place / "input.json").write_text(json.dumps(ports))
        np.savetxt(place / "x.txt", sample.reshape(-1), fmt="%.7g")


def write_settings(method: str) -> str:
    """What `mnnquant` is told; the name of the file."""
    settings = {
        "path": "mnn-samples",
        "input_type": "sequence",
        "used_sample_num": SAMPLES,
        "feature_quantize_method": method,
        "weight_quantize_method": "MAX_ABS",
    }
    Path("mnn-quant.json").write_text(json.dumps(settings))
    return "mnn-quant.json"


if __name__ == "__main__":
    main()
