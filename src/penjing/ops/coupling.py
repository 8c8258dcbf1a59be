"""How the axes of an operator's inputs and outputs hang together, for whoever removes channels.

A slice is what stands at one index of one axis. An operator writes a label on every slice: along the axes of one `Tie`,
slices with the same label go together or stay together. So for y = relu(x), slice i of an axis of x and slice i of the
same axis of y have the label i; of a flattened image, H * W features have the label of their channel; of a convolution,
slice c of the input channels and of the weight's axis 1 have the label c, and no slice of y has: its part in the sums
is gone.

    removing from the inputs all slices of one label  =  removing from the outputs all slices of that label

once the slices of a tie without outputs are zero in the constants, and as long as no axis is left empty. Of a recurrent
layer, whose units read one another at the next step, all slices in constants are to be zero. The label FREE
is on slices that nothing else of this operator goes with. An axis in no tie stays whole, and so does axis 0 of every
activation, the batch.

The idea is that of Fang et al., "DepGraph: Towards Any Structural Pruning" (2023), section 3; there couplings are
between layers, here between single slices, which makes offsets, blocks and groups one case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penjing.ir.types import Type

FREE = -1

Port = tuple[Literal["input", "output"], int]
Labels = NDArray[np.int64]
# Of every axis of a value: the indices that stay, ascending.
Kept = tuple[Labels, ...]


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of an input or output, and the label of each of its slices."""

    port: Port
    axis: int
    labels: Labels


Tie = tuple[Axis, ...]


@dataclass(frozen=True)
class Coupling:
    """What an operator says of its axes; each axis is in at most one tie.

    Attributes:
        ties: slices that go together.
        choices: of each entry one tie holds, whichever; the axes of its other ties stay whole. Of a flattened image,
            either channels can go or rows or columns, but not some of each.
    """

    ties: tuple[Tie, ...] = ()
    choices: tuple[tuple[Tie, ...], ...] = ()


def on_input(place: int, axis: int, labels: Labels) -> Axis:
    """Labels along an axis of input `place`, counted as in `Node.inputs`."""
    return Axis(("input", place), axis, labels)


def on_output(axis: int, labels: Labels, place: int = 0) -> Axis:
    """Labels along an axis of output `place`."""
    return Axis(("output", place), axis, labels)


def alone(extent: int) -> Labels:
    """Every slice with a label of its own: 0, 1, 2, ..."""
    return np.arange(extent)


def kept_axes(x: Type, y: Type, axes: Sequence[int]) -> tuple[Tie, ...]:
    """Ties of an operator that maps the slices of `axes` of input 0 to those of output 0."""
    return tuple((on_input(0, a, alone(x.bounds[a])), on_output(a, alone(y.bounds[a]))) for a in axes)


def broadcast_axes(inputs: Sequence[Type | None], y: Type, axes: Sequence[int] | None = None) -> tuple[Tie, ...]:
    """Ties of an operator whose inputs broadcast to `y`, along `axes` or all; those that repeat stay whole."""
    ties = []
    for axis in range(1, y.rank) if axes is None else axes:
        labels = alone(y.bounds[axis])
        ends = [on_output(axis, labels)]
        for place, x in enumerate(inputs):
            at = axis - (y.rank - x.rank) if x is not None else -1
            if x is not None and at >= 0 and x.bounds[at] == len(labels):
                ends.append(on_input(place, at, labels))
        ties.append(tuple(ends))
    return tuple(ties)


def count_below(kept: Labels, index: int) -> int:
    """How many of the indices that stay lie below `index`: where it lies afterwards."""
    return int(np.searchsorted(kept, index))
