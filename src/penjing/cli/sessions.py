"""Sessions as `penjing run --stream` opens them, steps through them and keeps them in files."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from penjing.cli.writing import claim
from penjing.core.errors import InvalidInput
from penjing.runtime.model import Model
from penjing.runtime.session import Session

_SHOWN = 64  # calls between two looks at the progress


def opened_session(model: Model, state: Path | None) -> Session:
    """A session that goes on from the one in the file `state`, or begins where there is none.

    Raises:
        InvalidInput: the model has no states, or the file holds no session of it.
        WriteFailed: the session could not be written there at the end.
    """
    session = model.session()
    if state is None:
        return session
    claim(state, force=True)
    if not state.exists():
        return session
    try:
        session.restore(state.read_bytes())
    except InvalidInput as error:
        hint = "give the tray that it was saved with, or another file"
        raise InvalidInput(f"{state}: {error.what}", where="--state", hint=hint) from error
    return session


def check_calls(session: Session, calls: int) -> None:
    """Refuse, before the first, more calls than the session has room for.

    Raises:
        InvalidInput: that.
    """
    left = session.calls_left
    if left is not None and calls > left:
        raise InvalidInput(
            f"there is room for {left} calls, and the files hold {calls}",
            where=session.model.tray.where,
            hint="give shorter sequences, a new --state, or build it from a network for longer ones",
        )


def stepped(
    session: Session, calls: np.ndarray, progress: Callable[[int, int], None]
) -> tuple[tuple[np.ndarray, ...], float]:
    """Per output, what every call (n, ...) gave (n, ...); and the seconds that the calls took together."""
    parts, seconds = [], 0.0
    for first in range(0, len(calls), _SHOWN):
        some = calls[first : first + _SHOWN]
        start = time.perf_counter()
        found = [session.step(call[None]) for call in some]
        seconds += time.perf_counter() - start
        parts += [one if isinstance(one, tuple) else (one,) for one in found]
        progress(min(first + _SHOWN, len(calls)), len(calls))
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True)), seconds
