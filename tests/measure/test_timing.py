"""Interleaved timing on a clock of our own: no test here depends on how fast this machine is."""

import math
import time

import pytest

from penjing.core.errors import InvalidInput
from penjing.measure.timing import Timing, ratio, time_interleaved


class Simulated:
    """A clock in ns, and callables that take a given time on it; `slow` stretches them."""

    def __init__(self):
        self.now_ns = 0.0
        self.calls = []

    def clock(self):
        return int(self.now_ns)

    def task(self, name, cost_ns, slow=lambda now_ns: 1.0):
        def call():
            self.calls.append(name)
            self.now_ns += cost_ns * slow(self.now_ns)

        return call


def test_the_median_is_the_cost_of_one_call_in_microseconds():
    sim = Simulated()
    times = time_interleaved({"a": sim.task("a", 2500), "b": sim.task("b", 500)}, 5, 0.1, sim.clock)
    assert times["a"].median_us == pytest.approx(2.5)
    assert times["b"].median_us == pytest.approx(0.5)
    assert times["a"].n == len(times["a"].rounds_us) == 5
    assert ratio(times["a"], times["b"]) == pytest.approx(5)


def test_callables_take_turns_and_the_first_turn_rotates():
    sim = Simulated()
    time_interleaved({name: sim.task(name, 1e6) for name in "abc"}, 3, 1.0, sim.clock)
    assert "".join(sim.calls) == "abc" + "abc" + "bca" + "cab"  # one warm-up each, then three rounds


def test_a_batch_lasts_at_least_the_asked_time():
    sim = Simulated()
    time_interleaved({"a": sim.task("a", 7)}, 1, 0.05, sim.clock)
    assert len(sim.calls) * 7 >= 2 * 50_000  # the last warm-up batch and the round


def test_a_clock_that_slows_down_everything_for_a_while_leaves_the_ratio_alone():
    sim = Simulated()

    def throttled(now_ns):
        return 3.0 if now_ns > 2e6 else 1.0

    tasks = {"a": sim.task("a", 2000, throttled), "b": sim.task("b", 1000, throttled)}
    times = time_interleaved(tasks, 21, 0.1, sim.clock)
    assert times["a"].p90_us > 2 * times["a"].p10_us
    assert ratio(times["a"], times["b"]) == pytest.approx(2, rel=0.01)


def test_the_ratio_is_taken_round_by_round():
    a, b = Timing(4, 1, 9, 3, (1.0, 4.0, 9.0)), Timing(1, 1, 9, 3, (1.0, 1.0, 9.0))
    assert ratio(a, b) == 1


def test_percentiles_are_over_rounds():
    sim = Simulated()
    costs = iter([1e6] + [1e6 * k for k in range(1, 12)])

    def call():
        sim.now_ns += next(costs)

    timing = time_interleaved({"a": call}, 11, 1.0, sim.clock)["a"]
    assert (timing.p10_us, timing.median_us, timing.p90_us) == pytest.approx((2000, 6000, 10_000))


def test_the_default_clock_times_a_sleep():
    timing = time_interleaved({"sleep": lambda: time.sleep(0.002)}, 2, 0.1)["sleep"]
    assert timing.median_us >= 2000


def test_a_clock_that_stands_still_is_reported_and_does_not_hang(monkeypatch):
    monkeypatch.setattr("penjing.measure.timing._MAX_REPEATS", 1000)
    with pytest.raises(InvalidInput, match="does not advance"):
        time_interleaved({"a": lambda: None}, clock=lambda: 5)


@pytest.mark.parametrize(
    "options", [{"rounds": 0}, {"min_time_ms": 0.0}, {"min_time_ms": math.nan}, {"min_time_ms": math.inf}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InvalidInput):
        time_interleaved({"a": lambda: None}, **options)


def test_nothing_to_time_is_refused():
    with pytest.raises(InvalidInput, match="nothing"):
        time_interleaved({})


def test_ratios_need_rounds_that_pair_and_take_time():
    a, b = Timing(1, 1, 1, 2, (1.0, 1.0)), Timing(1, 1, 1, 1, (1.0,))
    with pytest.raises(InvalidInput, match="pair"):
        ratio(a, b)
    with pytest.raises(InvalidInput, match="no time"):
        ratio(a, Timing(0, 0, 0, 2, (0.0, 1.0)))
