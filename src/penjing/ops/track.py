"""How the values of a network hang on time, and what an operator says of it; see `along_time`.

A value is `Steps`, if it has one slice for each step; `LAST`, if it belongs to the newest step, as what is left at the
end of a sequence; `ALWAYS`, if it is the same at every step. Scores of attention have a row for each step and a column
for each step up to it, wherever that began.

Step t of a value stands at index before + t of its axis. `before` zeros precede the first step of a sequence, as a
padding makes them, and `after` slices follow its last: what depends on the end of the sequence, and is cut off later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Node
from penjing.ir.types import Type
from penjing.ops.operator import Operator


@dataclass(frozen=True)
class Steps:
    """One slice of `axis` for each step, `before` zeros before the first and `after` slices behind the last."""

    axis: int
    before: int = 0
    after: int = 0


@dataclass(frozen=True)
class Scores:
    """A row of `axis` for each step; along the last axis, all steps up to that one."""

    axis: int


class Moment(Enum):
    """How values without an axis of time hang on it."""

    LAST = "the last step"
    ALWAYS = "every step alike"


Track = Steps | Scores | Moment


@dataclass(frozen=True)
class Reading:
    """A node that reads steps: its first input, if nothing else is said.

    Attributes:
        node: as it is in the network.
        inputs, outputs: types there, over the whole sequence; None for an absent input.
        tracks: of the inputs.
        known: which inputs are constants.
        whole: steps of the sequence.
        steps: steps of a piece.
    """

    node: Node
    inputs: tuple[Type | None, ...]
    outputs: tuple[Type, ...]
    tracks: tuple[Track, ...]
    known: tuple[bool, ...]
    whole: int
    steps: int

    @property
    def x(self) -> Type:
        """The first input."""
        x = self.inputs[0]
        assert x is not None
        return x

    @property
    def at(self) -> Steps:
        """Where its steps are."""
        track = self.tracks[0]
        self.expect(not isinstance(track, Scores), "it mixes scores of steps with all those before them")
        self.expect(isinstance(track, Steps), "its first input has no steps, another one has")
        assert isinstance(track, Steps)
        return track

    def expect(self, condition: bool, what: str, hint: str | None = None) -> None:
        """Raise UnsupportedOp that names the node unless `condition` holds."""
        if not condition:
            raise UnsupportedOp(f"this cannot be streamed: {what}", where=str(self.node), hint=hint)

    def expect_apart(self, axes: Sequence[int], what: str) -> None:
        """Raise UnsupportedOp if time is one of `axes`."""
        self.expect(self.at.axis not in axes, f"{what} axis {self.at.axis}, which is time")


@dataclass(frozen=True)
class Streamed:
    """What takes the place of an operator, for `steps` steps.

    Attributes:
        op: the operator.
        tracks: of its outputs.
        reach: so many steps more before them has its first input.
        caches: input -> its axis of time, along which it is given all steps so far.
        tables: constant -> its axis of time, along which it is given the steps that there are.
        counted: whether it is given the position, behind its inputs.
    """

    op: Operator
    tracks: tuple[Track, ...]
    reach: int = 0
    caches: Mapping[int, int] = field(default_factory=dict)
    tables: Mapping[int, int] = field(default_factory=dict)
    counted: bool = False

    @property
    def has_end(self) -> bool:
        """Whether it knows no more steps than the sequence has."""
        return bool(self.caches or self.tables or self.counted)
