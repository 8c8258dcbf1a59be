"""Static quantization by NNCF on the ONNX model: `python quantize.py FOLDER OUTPUT`. See ../contract.py."""

import sys
from pathlib import Path

import nncf
import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from contract import attempt, run_onnx


def main() -> None:
    """w8a8 by both presets, each with the quick bias correction and with the thorough one."""
    folder, output = map(Path, sys.argv[1:])
    inputs = np.load(folder / "calibration.npy")

    def make(preset: nncf.QuantizationPreset, quick: bool) -> np.ndarray:
        model = onnx.load(folder / "model.onnx")
        dataset = nncf.Dataset([{"x": sample[None]} for sample in inputs])
        made = nncf.quantize(model, dataset, preset=preset, fast_bias_correction=quick, subset_size=len(inputs))
        path = output / "model.onnx"
        onnx.save(made, path)
        return run_onnx(path, folder)

    for preset in (nncf.QuantizationPreset.MIXED, nncf.QuantizationPreset.PERFORMANCE):
        for quick in (True, False):
            correction = "quick" if quick else "thorough"
            name = f"w8a8, {preset.value} preset, {correction} bias correction"
            attempt(output, name, lambda preset=preset, quick=quick: make(preset, quick))


if __name__ == "__main__":
    main()
