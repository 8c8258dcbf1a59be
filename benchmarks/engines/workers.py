"""One process for each form: start it, ask it, and measure it alone."""

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engines.environments import HERE, run_python, worker_environment
from engines.forms import Form
from engines.subjects import Prepared

MIN_MS = 10.0
SCREENING_ROUNDS = 3


class WorkerFailed(Exception):
    """A worker died, or said that it cannot go on; the text is why."""


class Worker:
    """One process with one engine and one form, pinned to `core`."""

    def __init__(self, row: "Row", core: int, env: dict[str, str]) -> None:
        """Start it and wait for its first output; `cold_ms` is how long that took.

        Raises:
            WorkerFailed: no output came.
        """
        form, read, write = row.form, *os.pipe()
        python = run_python(form.engine)
        given = {"folder": str(row.prepared.folder), "file": str(row.prepared.path(form.file))}
        given |= {"options": form.options, "without_amx": row.amx == "refused", "answers": write}
        command = [str(python), str(HERE / form.engine / "worker.py"), json.dumps(given)]
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 -- closed by `close`
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})  # inherited
        start = time.perf_counter_ns()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._said,
            stderr=self._said,
            text=True,
            pass_fds=[write],
            env={**worker_environment(python), **env},
        )
        os.sched_setaffinity(0, before)
        os.close(write)
        self._answers = os.fdopen(read)
        try:
            self.facts = self._answer().get("facts", {})
        except WorkerFailed:
            self.close()
            raise
        self.cold_ms = (time.perf_counter_ns() - start) / 1e6

    def ask(self, **request: Any) -> dict[str, Any]:
        """One answer to one request."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(self._last_words()) from None
        return self._answer()

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._said.close()

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise WorkerFailed(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise WorkerFailed(" ".join(answer["failed"].split())[:400])
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        self._said.seek(0)
        last = self._said.read().strip().splitlines()[-1:] or ["silently"]
        return f"the process ended with status {status}: {last[0][:300]}"


@dataclass
class Row:
    """What is known of one form of one network under one setting; the fields of the JSON file (see `models.py`)."""

    prepared: Prepared
    form: Form
    amx: str
    stage: str = "failed"
    reason: str = ""
    snr_db: float | None = None
    cosine: float | None = None
    top1: int | None = None
    passes: bool = False
    screened_us: float | None = None
    cold_start_ms: float | None = None
    rss_peak_mib: float | None = None
    model_bytes: int | None = None
    rounds_us: list[float] = field(default_factory=list)
    wall_rounds_us: list[float] = field(default_factory=list)
    p99_us: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    asked_for_amx: bool = False

    @property
    def median_us(self) -> float:
        """Of the rounds of the race."""
        return float(np.median(self.rounds_us))


def screen(row: Row, core: int, env: dict[str, str], *, masked: bool) -> None:
    """Start one worker alone: check its outputs, note its memory, and time it roughly."""
    if not row.prepared.path(row.form.file).is_file():
        row.reason = row.prepared.why_missing(row.form.file)
        return
    try:
        worker = Worker(row, core, env)
    except WorkerFailed as error:
        row.reason = str(error)
        return
    try:
        row.facts, row.cold_start_ms = worker.facts, worker.cold_ms
        _measure_alone(row, worker)
        if masked:
            _check_mask(worker)
        row.stage = "screened"
    except WorkerFailed as error:
        row.reason = str(error)
    finally:
        worker.close()


def _measure_alone(row: Row, worker: Worker) -> None:
    repeats = worker.ask(do="repeats", min_ms=MIN_MS)["repeats"]
    times = [worker.ask(do="round", repeats=repeats)["cpu_ns"] for _ in range(SCREENING_ROUNDS)]
    row.screened_us = min(times) / repeats / 1000
    row.rss_peak_mib = worker.ask(do="memory")["peak_kib"] / 1024
    row.model_bytes = sum(f.stat().st_size for f in _model_files(row.prepared.path(row.form.file)))
    row.asked_for_amx = worker.ask(do="asked")["amx"]
    with tempfile.TemporaryDirectory() as place:
        to = Path(place) / "outputs.npy"
        worker.ask(do="outputs", to=str(to))
        _compare(row, np.load(to), np.load(row.prepared.folder / "reference.npy"))


def _check_mask(worker: Worker) -> None:
    before = worker.ask(do="held")
    worker.ask(do="round", repeats=1)
    after = worker.ask(do="held")
    if after["above"] or after["wide"]:
        registers = "its AVX-512 registers are in use" if after["wide"] else ""
        raise WorkerFailed(f"the mask did not hold it: {', '.join([*after['above'], registers])}")
    if after["answered"] != before["answered"]:
        raise WorkerFailed("it asks the processor in every call, which takes long under the mask")


def _model_files(file: Path) -> list[Path]:
    return [file, *(f for f in [file.with_suffix(".bin")] if f.is_file())]


def _compare(row: Row, outputs: np.ndarray, reference: np.ndarray) -> None:
    y, r = outputs.astype(np.float64), reference.reshape(len(reference), -1).astype(np.float64)
    if y.shape != r.shape or not np.isfinite(y).all():
        raise WorkerFailed(f"outputs of shape {y.shape}, not {r.shape}, or not finite")
    error = float(np.square(y - r).sum())
    row.snr_db = 200.0 if error == 0 else min(200.0, 10 * float(np.log10(np.square(r).sum() / error)))
    row.cosine = float((y * r).sum() / max(np.linalg.norm(y) * np.linalg.norm(r), 1e-30))
    row.top1 = int((y.argmax(axis=1) == r.argmax(axis=1)).sum())
