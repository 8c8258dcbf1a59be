"""Golden vectors: codes in and codes out of a variant, for the self-test on the device.

Each input and output is one tensor member `golden/<digest>` with the samples along its first dimension. Variants
with the same input quantization share the members of their inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penjing.bundle.schema import InputSpec, OutputSpec
from penjing.bundle.tensors import DTYPE_NAMES


@dataclass(frozen=True)
class Golden:
    """Codes of n samples: one array (n, *shape[1:]) of `code_dtype` for each input and output, in manifest order."""

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]

    @property
    def n_samples(self) -> int:
        """The number of samples, 1 or more."""
        return len(self.inputs[0])


def golden_fault(golden: Golden, inputs: Sequence[InputSpec], outputs: Sequence[OutputSpec]) -> str | None:
    """Why `golden` does not fit the inputs and outputs of a model; None when it does."""
    specs: list[InputSpec | OutputSpec] = [*inputs, *outputs]
    arrays = (*golden.inputs, *golden.outputs)
    if (len(golden.inputs), len(golden.outputs)) != (len(inputs), len(outputs)):
        return f"golden vectors have {len(golden.inputs)} inputs and {len(golden.outputs)} outputs"
    for spec, array in zip(specs, arrays, strict=True):
        if array.ndim != len(spec.shape) or array.shape[1:] != spec.shape[1:]:
            return f"golden vectors of {spec.name!a} have shape {array.shape}, not (n, {str(spec.shape[1:])[1:]}"
        if array.dtype.newbyteorder("<") != DTYPE_NAMES[spec.code_dtype]:
            return f"golden vectors of {spec.name!a} have dtype {array.dtype}, not {spec.code_dtype}"
    counts = {len(array) for array in arrays}
    if len(counts) != 1 or 0 in counts:
        return f"golden vectors have different numbers of samples: {sorted(counts)}"
    return None
