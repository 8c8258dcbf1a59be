"""Typical inputs run through a graph, for whoever wants to look at what passes."""

from collections.abc import Callable, Iterable

import numpy as np

from penjing.core.errors import CalibrationError
from penjing.ir.graph import Graph
from penjing.ops.evaluate import Watch, evaluate

Batch = np.ndarray | tuple[np.ndarray, ...]


def observe(
    graph: Graph, batches: Iterable[Batch], watch: Watch | None, progress: Callable[[int], None] | None = None
) -> int:
    """Evaluate every batch; the number of samples.

    Args:
        graph: any float stage.
        batches: float32 inputs (N, ...), normalised as in training; a tuple per batch for several inputs.
        watch: as in `evaluate`.
        progress: called with the number of samples seen so far.

    Raises:
        CalibrationError: no batches.
        InvalidInput: a batch does not fit the graph's inputs.
    """
    samples = 0
    for batch in batches:
        inputs = batch if isinstance(batch, tuple) else (batch,)
        evaluate(graph, *inputs, watch=watch)
        samples += len(inputs[0])
        if progress is not None:
            progress(samples)
    if not samples:
        raise CalibrationError("the calibration set is empty", hint="give at least one batch; 100 to 500 samples do")
    return samples
