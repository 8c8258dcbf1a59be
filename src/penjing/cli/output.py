"""What commands share in talking to a person: consoles, progress bars, JSON."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

console = Console()
error_console = Console(stderr=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output, and nothing else there."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """A progress display on standard error that vanishes when done; silent with `quiet` or without a terminal."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=error_console, transient=True, disable=quiet) as progress:
        yield progress
