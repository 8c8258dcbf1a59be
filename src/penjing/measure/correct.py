"""Which samples a classifier gets right: the raw material of intervals and paired tests."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from penjing.core.errors import InvalidInput


def correct(
    run: Callable[[np.ndarray], np.ndarray | tuple[np.ndarray, ...]],
    x: np.ndarray,
    y: np.ndarray,
    *,
    chunk: int = 500,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.bool_]:
    """(n,) whether the first output is largest at the label.

    Args:
        run: (n, ...) inputs -> (n, classes) scores, or a tuple that begins with them.
        x: (n, ...) inputs.
        y: (n,) class indices.
        chunk: samples at a time, which bounds memory.
        progress: called with the number of samples done so far.

    Raises:
        InvalidInput: no samples, another number of labels, or scores that have no entry for a label.
    """
    if not len(x) or len(x) != len(y):
        raise InvalidInput(f"there are {len(x)} samples and {len(y)} labels", where="x, y")
    parts = []
    for start in range(0, len(x), chunk):
        wanted = y[start : start + chunk]
        scores = run(x[start : start + chunk])
        first = scores if isinstance(scores, np.ndarray) else scores[0]
        if first.ndim != 2 or wanted.min() < 0 or wanted.max() >= first.shape[1]:
            raise InvalidInput(
                f"scores of shape (n, {str(first.shape[1:])[1:]} do not fit labels {wanted.min()}..{wanted.max()}",
                hint="accuracy needs one score per class, and labels counted from 0",
            )
        parts.append(first.argmax(axis=1) == wanted)
        if progress is not None:
            progress(start + len(wanted))
    return np.concatenate(parts)
