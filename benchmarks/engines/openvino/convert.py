"""The int8 form that NNCF, OpenVINO's own tool, makes of `model.onnx`: `python convert.py FOLDER`.

What fails is in openvino.failed.json: file -> reason. OpenVINO also runs the forms of ONNX Runtime's tools as they are.
"""

import json
import sys
from pathlib import Path

import nncf
import numpy as np
import openvino


def main() -> None:
    """Post-training quantization with both presets, all calibration inputs."""
    folder = Path(sys.argv[1])
    inputs = np.load(folder / "calibration.npy")
    failed: dict[str, str] = {}
    for name, preset in (("nncf-mixed", nncf.QuantizationPreset.MIXED), ("nncf", nncf.QuantizationPreset.PERFORMANCE)):
        try:
            model = openvino.Core().read_model(folder / "model.onnx")
            samples = nncf.Dataset(inputs, lambda x: x[None])
            quantized = nncf.quantize(model, samples, preset=preset, subset_size=len(inputs))
            openvino.save_model(quantized, folder / f"{name}.xml", compress_to_fp16=False)
        except Exception as error:  # noqa: BLE001 -- the reason stands in the table
            failed[f"{name}.xml"] = f"{type(error).__name__}: {error}"
    (folder / "openvino.failed.json").write_text(json.dumps(failed))


if __name__ == "__main__":
    main()
