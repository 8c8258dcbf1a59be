"""The forms that NNCF, OpenVINO's own tool, makes of `model.onnx`: `python convert.py FOLDER OUTPUT`.

What fails is in failed.json: file -> reason. OpenVINO also runs the forms of ONNX Runtime's tools as they are.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nncf
import numpy as np
import openvino

ATTENTION_RANK = 4


def main() -> None:
    """Post-training quantization with both presets, all calibration inputs; 4-bit weights without any.

    A network with attention is quantized as NNCF recommends it for Transformers, too, whose activations it smooths.
    """
    folder, output = map(Path, sys.argv[1:])
    inputs = np.load(folder / "calibration.npy")
    failed: dict[str, str] = {}

    def attempt(name: str, make: Callable[[openvino.Model], openvino.Model]) -> None:
        try:
            made = make(openvino.Core().read_model(folder / "model.onnx"))
            openvino.save_model(made, output / name, compress_to_fp16=False)
        except Exception as error:  # noqa: BLE001 -- the reason stands in the table
            failed[name] = f"{type(error).__name__}: {error}"

    def static(
        preset: nncf.QuantizationPreset, model: openvino.Model, kind: nncf.ModelType | None = None
    ) -> openvino.Model:
        samples = nncf.Dataset(inputs, lambda x: x[None])
        return nncf.quantize(model, samples, preset=preset, subset_size=len(inputs), model_type=kind)

    def transformer(model: openvino.Model) -> openvino.Model:
        softmax = [op for op in model.get_ops() if op.get_type_name() == "Softmax"]
        if not any(op.get_output_partial_shape(0).rank.get_length() == ATTENTION_RANK for op in softmax):
            raise ValueError("the network has no attention")
        return static(nncf.QuantizationPreset.MIXED, model, nncf.ModelType.TRANSFORMER)

    def four_bits(model: openvino.Model) -> openvino.Model:
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=-1, all_layers=True)

    attempt("nncf-mixed.xml", partial(static, nncf.QuantizationPreset.MIXED))
    attempt("nncf.xml", partial(static, nncf.QuantizationPreset.PERFORMANCE))
    attempt("nncf-transformer.xml", transformer)
    attempt("int4.xml", four_bits)
    (output / "failed.json").write_text(json.dumps(failed))


if __name__ == "__main__":
    main()
