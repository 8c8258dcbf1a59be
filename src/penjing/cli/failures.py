"""Errors as a person or a program reads them, and streams that may be closed, full or unable to print a character."""

import contextlib
import errno
import os
import sys
from typing import Any, TextIO

from rich.text import Text

from penjing.cli.output import error_console, hanging, print_json
from penjing.core.errors import InvalidInput, PenjingError, WriteFailed

INTERRUPTED = 130
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}


def explain(error: PenjingError | OSError | KeyboardInterrupt, *, as_json: bool) -> int:
    """Tell what went wrong, on standard error or as JSON on standard output; the exit code.

    Raises:
        OSError: an error of the system that says nothing of a file or a disk: a defect, not bad luck.
    """
    if isinstance(error, KeyboardInterrupt):
        _tell("Interrupted", "nothing was left half-written", as_json=as_json)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return 1  # whoever read the output has gone, on purpose: nobody to tell
    known = error if isinstance(error, PenjingError) else _of_the_system(error)
    if as_json:
        print_json(known.as_dict())
    else:
        _tell(type(known).__name__, str(known), as_json=False)
    return 1


def explain_usage(what: str, command: str, *, as_json: bool) -> int:
    """Tell which argument is wrong, and where to read on; the exit code."""
    message = what.strip().rstrip(".").replace("Value error, ", "")
    _tell("UsageError", message, where=command, hint=f"{command} --help", as_json=as_json)
    return 2


def prepare_streams() -> None:
    """Let a terminal that lacks a character show its code instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def finish(code: int, *, as_json: bool) -> int:
    """Write out what is still buffered; the exit code, which changes when that fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _silence(sys.stdout)
        return code or explain(error, as_json=as_json and isinstance(error, BrokenPipeError))
    return code


def _tell(name: str, what: str, *, as_json: bool, where: str | None = None, hint: str | None = None) -> None:
    if as_json:
        document: dict[str, Any] = {"error": name, "what": what, "where": where, "hint": hint, "slug": None}
        print_json(document)
        return
    lines = [*f"{name}: {what}".splitlines(), *([f"  try  {hint}"] if hint else [])]
    wrapped = [hanging(line, 7 if line.startswith("  ") else 2, error_console) for line in lines]
    text = Text("\n".join(wrapped))
    text.stylize("bold red", 0, len(name))
    error_console.print(text, soft_wrap=True)


def _of_the_system(error: OSError) -> PenjingError:
    where = str(error.filename) if error.filename is not None else None
    reason = error.strerror or str(error)
    if error.errno in _DISK:
        return WriteFailed(f"cannot write {where or 'the output'}: {reason}", where=where, hint="free some space")
    if where is None:
        raise error
    return InvalidInput(f"cannot use {where}: {reason}", where=where)


def _silence(stream: TextIO) -> None:
    """Send the rest nowhere, so that Python's own flush at exit does not fail once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
