"""Time several callables fairly: in turns, round by round, so that a warm or throttled CPU meets them all alike.

Each round gives one number per callable: the mean of a batch long enough for the clock. The report is the median and
the 10 % and 90 % points over rounds. A comparison (`ratio`) is the median of per-round ratios, in which a slow spell
that covers one round cancels.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from penjing.core.errors import InvalidInput

_MAX_REPEATS = 2**30


@dataclass(frozen=True)
class Timing:
    """Time of one call in microseconds over `n` rounds; `rounds_us` keeps the rounds, in order."""

    median_us: float
    p10_us: float
    p90_us: float
    n: int
    rounds_us: tuple[float, ...]


def time_interleaved(
    callables: Mapping[str, Callable[[], object]],
    rounds: int = 20,
    min_time_ms: float = 5.0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, Timing]:
    """Time each callable `rounds` times, taking turns; who goes first rotates.

    Args:
        callables: name -> function without arguments. It is called a few times beforehand, to warm up and to find how
            many calls make one batch.
        rounds: batches per callable.
        min_time_ms: shortest batch; far above the clock's resolution.
        clock: monotonic time in nanoseconds.

    Raises:
        InvalidInput: nothing to time, `rounds` < 1, `min_time_ms` not positive, or a clock that stands still.
    """
    if not callables:
        raise InvalidInput("there is nothing to time")
    if rounds < 1:
        raise InvalidInput(f"timing needs at least one round, not {rounds}")
    if not (math.isfinite(min_time_ms) and min_time_ms > 0):
        raise InvalidInput(f"min_time_ms must be positive, not {min_time_ms}")
    repeats = {name: _repeats(call, min_time_ms * 1e6, clock) for name, call in callables.items()}
    samples: dict[str, list[float]] = {name: [] for name in callables}
    names = list(callables)
    for index in range(rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            elapsed_ns = _batch_ns(callables[name], repeats[name], clock)
            samples[name].append(elapsed_ns / repeats[name] / 1000)
    return {name: _summary(values) for name, values in samples.items()}


def ratio(a: Timing, b: Timing) -> float:
    """How many times longer `a` takes than `b`: the median of per-round ratios of one `time_interleaved` call.

    Raises:
        InvalidInput: different numbers of rounds, or a round of `b` in which the clock saw no time pass.
    """
    if a.n != b.n:
        raise InvalidInput(f"rounds do not pair: {a.n} and {b.n}", hint="time both in one call of time_interleaved")
    if min(b.rounds_us) <= 0:
        raise InvalidInput("a round took no time", hint="raise min_time_ms")
    return float(np.median(np.divide(a.rounds_us, b.rounds_us)))


def _repeats(call: Callable[[], object], min_time_ns: float, clock: Callable[[], int]) -> int:
    """Calls in one batch, so that a batch lasts at least `min_time_ns` at the speed just seen."""
    repeats = 1
    while repeats <= _MAX_REPEATS:
        elapsed_ns = _batch_ns(call, repeats, clock)
        if elapsed_ns >= min_time_ns:
            return repeats
        wanted = repeats * min_time_ns / max(elapsed_ns, 1)
        # At most tenfold, because the first batch is cold; at least double, so that the loop ends.
        repeats = min(max(math.ceil(wanted), 2 * repeats), 10 * repeats)
    raise InvalidInput(f"the clock does not advance: {_MAX_REPEATS} calls took less than {min_time_ns:.0f} ns")


def _batch_ns(call: Callable[[], object], repeats: int, clock: Callable[[], int]) -> int:
    start = clock()
    for _ in range(repeats):
        call()
    return clock() - start


def _summary(values: list[float]) -> Timing:
    p10, median, p90 = np.percentile(values, [10, 50, 90])
    return Timing(float(median), float(p10), float(p90), len(values), tuple(values))
