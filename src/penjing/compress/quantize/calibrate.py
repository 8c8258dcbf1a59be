"""Calibration: run real inputs through the graph and keep, for each activation, the range that its codes should cover.

Memory does not grow with the number of batches: every observer keeps a fixed-size summary.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from penjing.compress.observe import Batch, observe
from penjing.compress.quantize.observers import Observer, ObserverKind, make_observer
from penjing.ir.graph import Graph
from penjing.ir.grid import TOP_CODE
from penjing.ops.operator import Operator, QuantRule


@dataclass(frozen=True)
class Ranges:
    """Activation name -> (low, high), and how many samples they were seen on."""

    ranges: dict[str, tuple[float, float]]
    samples: int


def calibrate(
    graph: Graph,
    batches: Iterable[Batch],
    observer: ObserverKind = "mse",
    progress: Callable[[int], None] | None = None,
) -> Ranges:
    """Observe every activation whose range is not known from its operator.

    Args:
        graph: any float stage.
        batches: float32 inputs (N, ...), normalised as in training; a tuple per batch for several inputs.
        observer: 'min-max', 'mse', 'percentile' (99.99 %) or 'entropy'.
        progress: called with the number of samples seen so far.

    Raises:
        CalibrationError: no batches, or NaN or infinity in an activation.
        InvalidInput: a batch does not fit the graph's inputs.
    """
    observers: dict[str, Observer] = {name: make_observer(observer, name) for name in observed_values(graph)}

    def watch(name: str, array: np.ndarray) -> None:
        if name in observers:
            observers[name].update(array)

    samples = observe(graph, batches, watch, progress)
    return Ranges({name: seen.range() for name, seen in observers.items()}, samples)


def symmetric(ranges: Ranges) -> Ranges:
    """Ranges around zero that hold the given ones: their codes have zero point 128, and the step max |x| / 127."""
    around: dict[str, tuple[float, float]] = {}
    for name, (low, high) in ranges.ranges.items():
        step = max(-low, high) / TOP_CODE or 1.0
        around[name] = (-(TOP_CODE + 1) * step, TOP_CODE * step)
    return Ranges(around, ranges.samples)


def observed_values(graph: Graph) -> list[str]:
    """Names of the activations whose range does not follow from their operator."""
    names = list(graph.real_inputs)
    for node in graph.nodes:
        if isinstance(node.op, Operator):
            names += [name for i, name in enumerate(node.outputs) if node.op.quant_rule_of(i) is QuantRule.OWN]
    return names
