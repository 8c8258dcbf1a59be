"""Outside programs: each in its own process group, which never outlives the work it was started for."""

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_REAP_S = 2.0  # how long killed grandchildren may take to let go of their files


@dataclass(frozen=True)
class Outcome:
    """What one finished command said.

    Attributes:
        command: the words of the command.
        code: exit status; negative: the signal that ended it.
        log: standard output and error, in the order they came.
    """

    command: tuple[str, ...]
    code: int
    log: str


@contextlib.contextmanager
def process_group(
    command: Sequence[str],
    *,
    folder: Path,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | int = subprocess.DEVNULL,
    stderr: IO[bytes] | int = subprocess.STDOUT,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start `command` in `folder`; leaving the block, for whatever reason, ends it and everything that it started."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe, _held_interrupts() as let_interrupts_through:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                pass_fds=(writer,),
            )
        finally:
            os.close(writer)
        try:
            let_interrupts_through()
            yield process
        finally:
            _end(process, pipe)


def run_all(commands: Sequence[Sequence[str]], *, folder: Path, log_folder: Path, jobs: int = 1) -> list[Outcome]:
    """Run `commands` in `folder`, at most `jobs` at a time; stop at the first that fails.

    Returns:
        One outcome for each finished command, in order; only the last can be a failure.
    """
    outcomes: list[Outcome] = []
    running: deque[tuple[tuple[str, ...], subprocess.Popen[bytes], Path]] = deque()

    def finish_oldest() -> bool:
        command, process, log = running.popleft()
        code = process.wait()
        outcomes.append(Outcome(command, code, log.read_bytes().decode("utf-8", errors="replace")))
        return code == 0

    with contextlib.ExitStack() as stack:
        for number, command in enumerate(commands):
            if len(running) >= jobs and not finish_oldest():
                return outcomes
            log = log_folder / f"{number:04}.log"
            stream = stack.enter_context(log.open("wb"))  # a file, because a full pipe would stop the compiler
            process = stack.enter_context(process_group(command, folder=folder, stdout=stream))
            running.append((tuple(command), process, log))
        while running and finish_oldest():
            pass
    return outcomes


@contextlib.contextmanager
def _held_interrupts() -> Iterator[Callable[[], None]]:
    """Ctrl-C waits until the function that this gives is called, at the latest for the end of the block.

    Between the start of a process and the moment when somebody knows of it, an exception would leave it running.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield lambda: None
        return
    held: list[int] = []
    holding = True
    signal.signal(signal.SIGINT, lambda number, _: held.append(number))

    def let_through() -> None:
        nonlocal holding
        if not holding:
            return
        holding = False
        signal.signal(signal.SIGINT, handler)
        if held:
            handler(held[0], None)

    try:
        yield let_through
    finally:
        let_through()


def _end(process: subprocess.Popen[bytes], pipe: IO[bytes]) -> None:
    """Kill the group of `process` unless it has ended by itself, and wait until its files are no longer in use.

    Every descendant has inherited the other end of `pipe`, which therefore ends when the last of them is gone, also one
    that nobody waits for.
    """
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    select.select([pipe], [], [], _REAP_S)
