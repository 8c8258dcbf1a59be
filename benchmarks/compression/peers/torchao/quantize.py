"""Static quantization by torchao's PT2E: `python quantize.py FOLDER OUTPUT`. See ../contract.py."""

import sys
from pathlib import Path

import numpy as np
import torch
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from contract import attempt


def main() -> None:
    """w8a8, weights per channel."""
    folder, output = map(Path, sys.argv[1:])
    inputs, test = np.load(folder / "calibration.npy"), np.load(folder / "test.npy", mmap_mode="r")
    torch.set_num_threads(1)

    def make() -> np.ndarray:
        quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
        prepared = prepare_pt2e(torch.export.load(folder / "model.pt2").module(), quantizer)
        for sample in inputs:
            prepared(torch.from_numpy(sample[None]))
        model = convert_pt2e(prepared)
        with torch.inference_mode():
            return np.array([int(model(torch.from_numpy(x[None])).argmax()) for x in test])

    attempt(output, "w8a8, PT2E", make)


if __name__ == "__main__":
    main()
