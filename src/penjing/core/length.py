"""Which axis of a network's inputs is the length of a sequence, and how long sequences may get."""

from collections.abc import Sequence
from dataclasses import dataclass

from penjing.core.errors import InvalidInput

MOST = 2**16 - 1  # scores of one step to all others are summed in 32 bits


@dataclass(frozen=True)
class Length:
    """Sequences of 1 to `max` steps along an axis of the inputs, all of the same length in one call.

    Attributes:
        max: the longest sequence; memory is planned for it.
        axis: of steps, 1 or more, in every input that has so many axes; or of each input, None for one without steps.
    """

    max: int
    axis: int | Sequence[int | None] = 1

    def axes(self, ranks: Sequence[int]) -> list[int | None]:
        """The axis of each input, by their ranks.

        Raises:
            InvalidInput: a bound that is no integer of 2 to 65535; an axis that an input lacks or that is its batch; no
                input with steps.
        """
        whole = isinstance(self.max, int) and not isinstance(self.max, bool)
        if not whole or not 2 <= self.max <= MOST:
            raise InvalidInput(f"a length of at most {self.max!r}", hint=f"give the bound, an integer of 2 to {MOST}")
        if isinstance(self.axis, int):
            found: list[int | None] = [self.axis if rank > self.axis else None for rank in ranks]
        else:
            found = list(self.axis)
        if len(found) != len(ranks):
            raise InvalidInput(f"axes of {len(found)} inputs were given, there are {len(ranks)}")
        for i, (axis, rank) in enumerate(zip(found, ranks, strict=True)):
            if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int) or not 1 <= axis < rank):
                raise InvalidInput(f"axis {axis!r} of input {i} of rank {rank} cannot be its length", hint="1 or more")
        if all(axis is None for axis in found):
            raise InvalidInput(f"no input has an axis {self.axis} for its length", hint="axis 0 is the batch")
        return found
