"""Worker of penjing: a tray and its compiled library."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))
from protocol import Bound, serve, to_codes, to_floats

from penjing.runtime.loading import load as load_tray


def load(path: Path, options: dict[str, Any]) -> Bound:
    """Floats in and out, or codes in and out, in the memory that `Model.bind` gives."""
    model = load_tray(path, engine="library")
    (source,), (sink,) = model.inputs, model.outputs
    as_codes = options.get("codes", False)
    bound = model.bind(reals=not as_codes)
    (x,), (y,) = bound.inputs, bound.outputs

    def run(values: np.ndarray) -> np.ndarray:
        x[:] = to_codes(values, source.scale, source.zero_point, np.uint8) if as_codes else values
        bound.run()
        return to_floats(y, sink.scale, sink.zero_point) if as_codes else y.copy()

    return Bound(run, bound.run, {"engine": model.engine.name})


if __name__ == "__main__":
    serve(load)
