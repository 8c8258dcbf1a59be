"""Quantization as AIMET simulates it, on the ONNX model: `python quantize.py FOLDER OUTPUT`. See ../contract.py."""

import sys
from collections.abc import Callable
from pathlib import Path

import aimet_onnx
import numpy as np
import onnx
from aimet_onnx import QuantizationSimModel
from aimet_onnx.common.defs import QuantScheme
from aimet_onnx.cross_layer_equalization import equalize_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from contract import attempt

PER_CHANNEL = Path(aimet_onnx.__file__).parent / "common" / "quantsim_config" / "default_config_per_channel.json"
ITERATIONS = 15_000  # what AIMET recommends below 8 bits


def main() -> None:
    """w8a8 and w4a8, weights per channel; for 4 bits with each of AIMET's remedies, alone and together."""
    folder, output = map(Path, sys.argv[1:])
    inputs = [{"x": sample[None]} for sample in np.load(folder / "calibration.npy")]
    test = np.load(folder / "test.npy", mmap_mode="r")

    def make(
        weights: aimet_onnx.qtype,
        *,
        equalize: bool = False,
        scheme: QuantScheme = QuantScheme.post_training_tf_enhanced,
        remedy: Callable[[QuantizationSimModel], object] = lambda sim: None,
    ) -> np.ndarray:
        model = onnx.load(folder / "model.onnx")
        if equalize:
            equalize_model(model)
        sim = QuantizationSimModel(
            model,
            param_type=weights,
            activation_type=aimet_onnx.int8,
            quant_scheme=scheme,
            config_file=str(PER_CHANNEL),
            providers=["CPUExecutionProvider"],
        )
        remedy(sim)
        sim.compute_encodings(inputs)
        return np.array([sim.session.run(None, {"x": x[None]})[0].argmax() for x in test])

    attempt(output, "w8a8", lambda: make(aimet_onnx.int8))
    attempt(output, "w4a8", lambda: make(aimet_onnx.int4))
    attempt(output, "w4a8, equalized", lambda: make(aimet_onnx.int4, equalize=True))
    attempt(
        output,
        "w4a8, ranges by sequential MSE",
        lambda: make(
            aimet_onnx.int4,
            scheme=QuantScheme.post_training_tf,  # sequential MSE takes no other
            remedy=lambda sim: aimet_onnx.apply_seq_mse(sim, inputs),
        ),
    )
    attempt(
        output,
        f"w4a8, AdaRound of {ITERATIONS} iterations",
        lambda: make(
            aimet_onnx.int4, remedy=lambda sim: aimet_onnx.apply_adaround(sim, inputs, num_iterations=ITERATIONS)
        ),
    )


if __name__ == "__main__":
    main()
