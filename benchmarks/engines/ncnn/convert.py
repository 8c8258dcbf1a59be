"""The ncnn form of `model.onnx`, by pnnx: `python convert.py FOLDER`. What fails is in ncnn.failed.json.

One file with 32-bit weights serves all precisions. The tools that make int8 models are in no package for Python.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    """Make the model in a folder of its own, as pnnx leaves many files behind."""
    folder = Path(sys.argv[1])
    shape = ",".join(map(str, np.load(folder / "checked.npy")[:1].shape))
    place = folder / "ncnn"
    place.mkdir(exist_ok=True)
    (place / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
    command = [str(Path(sys.executable).parent / "pnnx"), "model.onnx", f"inputshape=[{shape}]", "fp16=0"]
    done = subprocess.run(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False
    )
    failed = {"int8.ncnn": "ncnn2table and ncnn2int8, which make int8 models, are in neither package (ncnn, pnnx)"}
    if not (place / "model.ncnn.param").is_file():
        failed["ncnn/model.ncnn.param"] = f"pnnx ended with status {done.returncode}: {done.stdout.strip()[-200:]}"
    (folder / "ncnn.failed.json").write_text(json.dumps(failed))


if __name__ == "__main__":
    main()
