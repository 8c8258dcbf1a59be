"""The ncnn form of `model.onnx`, by pnnx: `python convert.py FOLDER OUTPUT`. What fails is in failed.json.

One file with 32-bit weights serves all precisions. The tools that make int8 models are in no package for Python.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    """Make the model."""
    folder, output = map(Path, sys.argv[1:])
    shape = ",".join(map(str, np.load(folder / "checked.npy")[:1].shape))
    (output / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())  # pnnx writes beside what it reads
    command = [str(Path(sys.executable).parent / "pnnx"), "model.onnx", f"inputshape=[{shape}]", "fp16=0"]
    done = subprocess.run(
        command, cwd=output, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False
    )
    failed = {}
    if not (output / "model.ncnn.param").is_file():
        failed["model.ncnn.param"] = f"pnnx ended with status {done.returncode}: {done.stdout.strip()[-200:]}"
    (output / "failed.json").write_text(json.dumps(failed))


if __name__ == "__main__":
    main()
