"""Is the imported graph the source model? Both run on the same inputs; the outputs must agree to rounding.

The measure is the largest difference of an output, in units of that output's own largest magnitude. Float32 sums in
another order differ by about 1e-7 times the root of the number of terms; through the depth of the reference networks
that grows to 1e-6, at most 1e-5. A wrong import (an axis, a padding, a batch norm) shows as 1e-2 or more. The tolerance
stands between the two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from penjing.core.errors import ParityError
from penjing.ir.graph import Graph
from penjing.ops.evaluate import evaluate

TOLERANCE = 1e-3
# An output that is zero but for rounding has no scale of its own.
_SMALLEST_SCALE = 1e-5

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Case:
    """Inputs, what the source model makes of them, and words for an error: `a batch of 3`, and what to do about it."""

    inputs: Arrays
    expected: Arrays
    title: str
    hint: str | None = None


def departure(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference in units of the expected array's largest magnitude; infinite for other shapes or stray NaN."""
    if actual.shape != expected.shape:
        return float("inf")
    with np.errstate(invalid="ignore", over="ignore"):
        a, e = actual.astype(np.float64), expected.astype(np.float64)
        same = (a == e) | (np.isnan(a) & np.isnan(e))
        if same.all():
            return 0.0
        difference = np.where(same, 0.0, np.abs(a - e))
        scale = max(float(np.abs(e[np.isfinite(e)]).max(initial=0.0)), _SMALLEST_SCALE)
    return float("inf") if np.isnan(difference).any() else float(difference.max()) / scale


def check_parity(
    graph: Graph, cases: Sequence[Case], tolerance: float, locate: Callable[[Case], str | None] = lambda _: None
) -> None:
    """Raise ParityError at the first output of the first case that departs by more than `tolerance`.

    `locate` names the first node whose own value departs, for the error; it runs only then.
    """
    for case in cases:
        actual = evaluate(graph, *case.inputs)
        for name, a, e in zip(graph.outputs, actual, case.expected, strict=True):
            error = departure(a, e)
            if error > tolerance:
                raise ParityError(
                    f"output %{name} {_said(a, e, error)} for {case.title} (tolerance {tolerance:g})",
                    where=locate(case) or f"graph {graph.name}",
                    hint=case.hint or _hint(a, e),
                )


def _said(actual: np.ndarray, expected: np.ndarray, error: float) -> str:
    if actual.shape != expected.shape:
        return f"has shape {expected.shape} in the source model and {actual.shape} here"
    return f"departs from the source model by {error:.2g} of its scale"


def _hint(actual: np.ndarray, expected: np.ndarray) -> str:
    if actual.shape != expected.shape and actual.shape[:1] == (1,):
        return "squeeze() and the like drop a batch of one: name the axes, as in squeeze(-1) or flatten(1)"
    return "the page lists the usual causes; if none fits, it is a defect of penjing: report it with the model"
