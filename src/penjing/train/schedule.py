"""Learning rates over a training, as shares of the highest one."""

import math
from typing import Literal

from penjing.core.errors import InvalidInput

Schedule = Literal["constant", "cosine", "one-cycle"]

# One cycle: the share at the start, and the share of steps that rise. Smith (2018) and common practice.
START = 1 / 25
RISING = 0.3


def schedule_factor(schedule: Schedule, step: int, steps: int) -> float:
    """The share that step 0 <= `step` < `steps` gets, taken at the step's middle.

    one-cycle: Smith, A disciplined approach to neural network hyper-parameters (2018), with cosine ramps.

    Raises:
        InvalidInput: an unknown schedule.
    """
    done = (step + 0.5) / steps
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return _falling(done)
    if schedule == "one-cycle":
        if done < RISING:
            return START + (1 - START) * (1 - _falling(done / RISING))
        return _falling((done - RISING) / (1 - RISING))
    raise InvalidInput(f"there is no schedule {schedule!r}", hint="choose constant, cosine or one-cycle")


def _falling(done: float) -> float:
    """From 1 to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * done))
