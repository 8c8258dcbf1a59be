"""Golden vectors: codes in and codes out of a variant, for the self-test on the device.

They are one member `golden/<digest>`, a pack with a tensor for each input and output, the samples along its first
dimension. Inputs that are `generated` cost nothing there. A model for sequences of any length has more of them, for
shorter ones than the longest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penjing.bundle.coding.dtypes import DTYPE_NAMES
from penjing.bundle.schema import InputSpec, OutputSpec


@dataclass(frozen=True)
class Golden:
    """Codes of n samples: one array (n, *shape[1:]) of `code_dtype` for each input and output, in manifest order.

    `shorter`: the same for sequences of other lengths than the longest, by their lengths.
    """

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    shorter: "Mapping[int, Golden] | None" = None

    @property
    def n_samples(self) -> int:
        """The number of samples, 1 or more."""
        return sum(len(golden.inputs[0]) for _, golden in self.groups())

    def groups(self) -> "Iterator[tuple[int | None, Golden]]":
        """Samples of one shape, with their length; None for the shapes that the manifest states."""
        yield None, self
        yield from sorted((self.shorter or {}).items())


def golden_tensors(golden: Golden) -> dict[str, np.ndarray]:
    """The tensors of the pack: inputs i0, i1, ..., then outputs o0, o1, ...; of length n, i0.n, i1.n, ..."""
    tensors: dict[str, np.ndarray] = {}
    for length, group in golden.groups():
        ending = "" if length is None else f".{length}"
        tensors |= {f"i{i}{ending}": array for i, array in enumerate(group.inputs)}
        tensors |= {f"o{i}{ending}": array for i, array in enumerate(group.outputs)}
    return tensors


def golden_of(tensors: Mapping[str, np.ndarray], n_inputs: int, n_outputs: int) -> Golden | None:
    """The inverse; None where they are others than those of so many inputs and outputs."""
    arrays, each = list(tensors.items()), n_inputs + n_outputs
    groups: list[Golden] = []
    lengths: list[int] = []
    for start in range(0, len(arrays), each):
        part = tuple(array for _, array in arrays[start : start + each])
        groups.append(Golden(part[:n_inputs], part[n_inputs:]))
        _, _, ending = arrays[start][0].partition(".")
        lengths.append(int(ending) if ending.isascii() and ending.isdecimal() and len(ending) < 10 else 0)
    if not groups:
        return None
    golden = Golden(groups[0].inputs, groups[0].outputs, dict(zip(lengths[1:], groups[1:], strict=True)) or None)
    return golden if list(golden_tensors(golden)) == list(tensors) else None


def golden_fault(golden: Golden, inputs: Sequence[InputSpec], outputs: Sequence[OutputSpec]) -> str | None:
    """Why `golden` does not fit the inputs and outputs of a model; None when it does."""
    for length, group in golden.groups():
        bounds = {spec.shape[axis] for spec in inputs for axis in spec.length_axes}
        if length is not None and not 1 <= length < max(bounds, default=0):
            return f"golden vectors of length {length}, which the model does not take"
        ports = [*(_at_length(spec, length) for spec in inputs), *(_at_length(spec, length) for spec in outputs)]
        fault = _group_fault(group, ports, len(inputs))
        if fault is not None:
            return fault
    return None


_Port = tuple[str, tuple[int, ...], str]
"""Name, shape and type of the codes of an input or output."""


def _at_length(spec: InputSpec | OutputSpec, length: int | None) -> _Port:
    steps = {} if length is None else dict.fromkeys(spec.length_axes, length)
    return spec.name, tuple(steps.get(axis, n) for axis, n in enumerate(spec.shape)), spec.code_dtype


def _group_fault(golden: Golden, ports: Sequence[_Port], n_inputs: int) -> str | None:
    arrays = (*golden.inputs, *golden.outputs)
    if (len(golden.inputs), len(arrays)) != (n_inputs, len(ports)):
        return f"golden vectors have {len(golden.inputs)} inputs and {len(golden.outputs)} outputs"
    for (name, shape, code_dtype), array in zip(ports, arrays, strict=True):
        if array.ndim != len(shape) or array.shape[1:] != shape[1:]:
            return f"golden vectors of {name!a} have shape {array.shape}, not (n, {str(shape[1:])[1:]}"
        if array.dtype.newbyteorder("<") != DTYPE_NAMES[code_dtype]:
            return f"golden vectors of {name!a} have dtype {array.dtype}, not {code_dtype}"
    counts = {len(array) for array in arrays}
    if len(counts) != 1 or 0 in counts:
        return f"golden vectors have different numbers of samples: {sorted(counts)}"
    return None
