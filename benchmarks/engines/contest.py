"""Who races whom: every form is screened alone, the best of each engine take turns until it is clear who is ahead."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from engines.forms import EngineEntry, forms
from engines.subjects import Prepared
from engines.workers import MIN_MS, Row, Worker, WorkerFailed, screen

FLOAT_LIMIT_DB = 40.0
INT8_LIMIT_DB = 10.0
INT8_MARGIN_DB = 3.0  # twice the error energy
FINALISTS = 2
FAR_BEHIND = 3.0
FEWEST_ROUNDS = 12
NARROW = 0.015  # half the width of the ratio's interval
SINGLES_S = 0.2


@dataclass(frozen=True)
class Rules:
    """How a contest is held.

    Attributes:
        amx: the settings to measure: some of "refused" and "allowed", or "none" where there is no AMX.
        core: that all workers share.
        rounds: of the race, at most.
        masked: whether `cpu_mask.py` is in the environments.
        environments: engine -> variables for its workers.
    """

    amx: tuple[str, ...]
    core: int
    rounds: int
    masked: bool = False
    environments: dict[str, dict[str, str]] = field(default_factory=dict)

    def environment(self, row: Row) -> dict[str, str]:
        """The variables for a row's worker."""
        return self.environments.get(row.form.engine, {})


def screened(prepared: Prepared, entries: Iterable[EngineEntry], rules: Rules) -> list[Row]:
    """All rows of one network, each measured alone and judged.

    A form that is far behind its engine's best, or never asks for AMX, is measured in one setting only.
    """
    entries = list(entries)
    first, *others = rules.amx
    rows = _screened_all([Row(prepared, form, first) for entry in entries for form in forms(entry.folder)], rules)
    judge(rows)
    for setting in others:
        for entry in entries:
            rows += _screened_with(setting, [row for row in rows if row.form.engine == entry.folder], rules)
    judge(rows)
    return rows


def _screened_all(rows: list[Row], rules: Rules) -> list[Row]:
    start = time.monotonic()
    for row in rows:
        screen(row, rules.core, rules.environment(row), masked=rules.masked)
    if rows:
        print(f"  screened {len(rows)} forms, AMX {rows[0].amx}: {time.monotonic() - start:.0f} s", flush=True)
    return rows


def _screened_with(setting: str, rows: list[Row], rules: Rules) -> list[Row]:
    """An engine's forms once more under another setting, where that can make a difference."""
    passing = in_order(row for row in rows if row.passes)
    found = []
    for row in passing:
        if _alone_us(row) > FAR_BEHIND * _alone_us(passing[0]):
            continue
        other = Row(row.prepared, row.form, setting)
        screen(other, rules.core, rules.environment(other), masked=rules.masked)
        if not other.asked_for_amx and not other.reason:
            if row is passing[0]:
                break  # the engine knows no AMX
            continue
        found.append(other)
    return found


def judge(rows: list[Row]) -> float:
    """Set `passes` of every row with outputs; the limit for what is not float32, in dB."""
    int8 = [r.snr_db for r in rows if r.form.precision == "int8" and r.snr_db is not None]
    limit = min(INT8_LIMIT_DB, float(np.median(int8)) - INT8_MARGIN_DB) if int8 else INT8_LIMIT_DB
    for row in rows:
        if row.snr_db is not None:
            row.passes = row.snr_db >= (FLOAT_LIMIT_DB if row.form.precision == "float32" else limit)
    return limit


def finalists(rows: list[Row]) -> list[Row]:
    """Ours, and of each engine, kind of ends and AMX setting the two fastest in the screening of those that pass."""
    chosen = [r for r in rows if r.form.engine == "ours" and r.stage == "screened" and not r.passes]
    for group in sorted({_group(row) for row in rows}):
        chosen += in_order(r for r in rows if _group(r) == group and r.passes)[:FINALISTS]
    return chosen


def in_order(rows: Iterable[Row]) -> list[Row]:
    """The fastest in the screening first."""
    return sorted(rows, key=_alone_us)


def race(rows: list[Row], rules: Rules) -> int:
    """Time the given rows in turns, each in a fresh worker; who goes first rotates. A row that fails drops out.

    Returns:
        How many rounds it took until every ratio of ours to the best peer was known well enough, or all of them.
    """
    running: list[tuple[Row, Worker, int]] = []
    try:
        for row in rows:
            with _excluded(row):
                worker = Worker(row, rules.core, rules.environment(row))
                running.append((row, worker, 0))
                running[-1] = (row, worker, worker.ask(do="repeats", min_ms=MIN_MS)["repeats"])
                row.cold_start_ms = float(np.mean([row.cold_start_ms or worker.cold_ms, worker.cold_ms]))
        done = _rounds(running, rules.rounds)
        for row, worker, _ in running:
            if not row.reason:
                with _excluded(row):
                    count = int(np.clip(SINGLES_S * 1e6 / row.median_us, 100, 5000))
                    row.p99_us = float(np.percentile(worker.ask(do="singles", count=count)["wall_ns"], 99)) / 1000
                    row.stage = "final"
    finally:
        for _, worker, _ in running:
            worker.close()
    return done


def _rounds(running: list[tuple[Row, Worker, int]], most: int) -> int:
    for index in range(most):
        first = index % max(len(running), 1)
        for row, worker, repeats in [*running[first:], *running[:first]]:
            if row.reason:
                continue
            with _excluded(row):
                taken = worker.ask(do="round", repeats=repeats)
                row.rounds_us.append(taken["cpu_ns"] / repeats / 1000)
                row.wall_rounds_us.append(taken["wall_ns"] / repeats / 1000)
        if index + 1 >= FEWEST_ROUNDS and _settled([row for row, _, _ in running if not row.reason]):
            return index + 1
    return most


def _settled(rows: list[Row]) -> bool:
    """Whether ours over the best peer is known well enough for each kind of ends and AMX setting."""
    for ends in {row.form.ends for row in rows}:
        ours = [r for r in rows if r.form.engine == "ours" and r.form.ends == ends]
        for amx in {row.amx for row in rows}:
            peers = [r for r in rows if r.form.engine != "ours" and (r.form.ends, r.amx) == (ends, amx)]
            if not ours or not peers:
                continue
            low, middle, high = ratio(ours[0], min(peers, key=lambda r: r.median_us))
            if (high - low) / 2 > NARROW * middle:
                return False
    return True


def ratio(row: Row, other: Row) -> tuple[float, float, float]:
    """Time of one over the other's: the median of the ratios within rounds, and its 95 % interval (low, middle, high).

    Slow spells of the machine cancel within a round. The interval is between two of the sorted ratios (binomial).
    """
    values = np.sort(np.divide(row.rounds_us, other.rounds_us))
    reach = 0.98 * np.sqrt(len(values))
    low, high = int(max(np.floor(len(values) / 2 - reach), 0)), int(np.ceil(len(values) / 2 + reach))
    return float(values[low]), float(np.median(values)), float(values[min(high, len(values) - 1)])


def _alone_us(row: Row) -> float:
    return np.inf if row.screened_us is None else row.screened_us


def _group(row: Row) -> tuple[str, str, str]:
    return row.form.engine, row.form.ends, row.amx


@contextmanager
def _excluded(row: Row) -> Iterator[None]:
    """What fails in here is the row's reason, not the end of the benchmark."""
    try:
        yield
    except WorkerFailed as error:
        row.stage, row.reason = "failed", str(error)
