"""Static quantization by ONNX Runtime's own tool: `python quantize.py FOLDER OUTPUT`. See ../contract.py."""

import sys
from pathlib import Path

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from contract import attempt, run_onnx

METHODS = {
    "min-max": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class Samples(CalibrationDataReader):
    """The calibration inputs, one by one."""

    def __init__(self, inputs: np.ndarray) -> None:
        self._left = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next one as an input of the model; None after the last."""
        sample = next(self._left, None)
        return None if sample is None else {"x": sample[None]}


def main() -> None:
    """w8a8, weights per channel, by each of the tool's ways to find ranges."""
    folder, output = map(Path, sys.argv[1:])
    inputs = np.load(folder / "calibration.npy")
    prepared = output / "prepared.onnx"
    quant_pre_process(str(folder / "model.onnx"), str(prepared), skip_symbolic_shape=True)

    def make(name: str) -> np.ndarray:
        path = output / f"{name}.onnx"
        quantize_static(
            str(prepared),
            str(path),
            Samples(inputs),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[name],
        )
        return run_onnx(path, folder)

    for name in METHODS:
        attempt(output, f"w8a8, {name}", lambda name=name: make(name))


if __name__ == "__main__":
    main()
