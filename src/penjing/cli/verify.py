"""Whether a tray computes here, byte for byte, what its program defines."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from penjing.bundle.tray import Tray
from penjing.ir.lengths import length_bound
from penjing.runtime.loading import from_tray
from penjing.runtime.model import Model

_CHUNK = 64
_CODE_DTYPES: dict[str, type[np.uint8 | np.int8 | np.int16]] = {"u8": np.uint8, "s8": np.int8, "s16": np.int16}


@dataclass(frozen=True)
class SelfTest:
    """How many golden and random inputs were run by `engine`, and how many bytes of their outputs are wrong."""

    engine: str
    golden: int
    random: int
    differing_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def self_test(
    tray: Tray, samples: int, *, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> SelfTest:
    """Run the golden vectors, and compare the engine with the interpreter on random codes."""
    model, oracle = from_tray(tray), from_tray(tray, engine="interpreter")
    rng = np.random.default_rng(seed)
    differing = model.self_test()
    longest = length_bound(model.engine.program)
    chunk = _CHUNK if longest is None else 1
    for start in range(0, samples, chunk):
        length = None if longest is None else int(rng.integers(1, longest + 1))
        codes = random_codes(model, min(chunk, samples - start), rng, length)
        pairs = zip(model.run_codes(*codes), oracle.run_codes(*codes), strict=True)
        differing += sum(int((got.view(np.uint8) != want.view(np.uint8)).sum()) for got, want in pairs)
        if progress is not None:
            progress(min(start + chunk, samples), samples)
    return SelfTest(model.engine.name, tray.golden(model.variant).n_samples, samples, differing)


def random_codes(model: Model, n: int, rng: np.random.Generator, length: int | None = None) -> list[np.ndarray]:
    """For each input, codes (n, ...) over their whole range, or ids over all rows; of sequences of `length` steps, or
    the longest.
    """
    codes = []
    for spec in model.inputs:
        steps = {} if length is None else dict.fromkeys(spec.length_axes, length)
        shape = (n, *[steps.get(axis, extent) for axis, extent in enumerate(spec.shape)][1:])
        if spec.dtype == "s32":
            codes.append(rng.integers(0, int(spec.value_range[1]) + 1, shape, np.int32))
            continue
        dtype = _CODE_DTYPES[spec.code_dtype]
        limits = np.iinfo(dtype)
        codes.append(rng.integers(limits.min, limits.max + 1, shape, dtype))
    return codes
