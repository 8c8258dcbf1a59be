"""Golden vectors: codes in and codes out of a variant, for the self-test on the device.

They are one member `golden/<digest>`, a pack with a tensor for each input and output, the samples along its first
dimension. Inputs that are `generated` cost nothing there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penjing.bundle.coding.dtypes import DTYPE_NAMES
from penjing.bundle.schema import InputSpec, OutputSpec


@dataclass(frozen=True)
class Golden:
    """Codes of n samples: one array (n, *shape[1:]) of `code_dtype` for each input and output, in manifest order."""

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]

    @property
    def n_samples(self) -> int:
        """The number of samples, 1 or more."""
        return len(self.inputs[0])


def golden_tensors(golden: Golden) -> dict[str, np.ndarray]:
    """The tensors of the pack: inputs i0, i1, ..., then outputs o0, o1, ..."""
    inputs = {f"i{i}": array for i, array in enumerate(golden.inputs)}
    return inputs | {f"o{i}": array for i, array in enumerate(golden.outputs)}


def golden_of(tensors: Mapping[str, np.ndarray], n_inputs: int, n_outputs: int) -> Golden | None:
    """The inverse; None where they are others than those of so many inputs and outputs."""
    arrays = tuple(tensors.values())
    golden = Golden(arrays[:n_inputs], arrays[n_inputs:])
    fits = len(arrays) == n_inputs + n_outputs and list(golden_tensors(golden)) == list(tensors)
    return golden if fits else None


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
