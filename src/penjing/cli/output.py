"""What commands share in talking to a person: consoles, notes, phases with bars; and to a program: JSON.

Results go to standard output. Everything else goes to standard error.
"""

import json
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

console = Console(highlight=False)
error_console = Console(stderr=True, highlight=False)


def write_text(text: str) -> None:
    """Data for standard output, as it is: no wrapping, no colour."""
    sys.stdout.write(text)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def say(text: str, *, style: str | None = None) -> None:
    """A line of a result; a terminal wraps it, a pipe gets it whole."""
    console.print(text, markup=False, soft_wrap=True, style=style)


def show(renderable: RenderableType) -> None:
    """A table of a result."""
    console.print(renderable)


def macs_text(macs: int) -> str:
    """`2,496 MACs`, `1.59 million MACs`."""
    return f"{macs / 1e6:.2f} million MACs" if macs >= 1e6 else f"{macs:,} MACs"


def note(text: str) -> None:
    """A plain sentence beside the result."""
    error_console.print(f"note: {text}", markup=False, soft_wrap=True, style="yellow")


def hanging(text: str, indent: int, at: Console) -> str:
    """A line wrapped for a terminal, its further lines indented; for a pipe as it is."""
    if not at.is_terminal:
        return text
    lines = textwrap.wrap(text, max(at.width, 40), subsequent_indent=" " * indent, break_on_hyphens=False)
    return "\n".join(lines)


def show_facts(rows: list[tuple[str, str]]) -> None:
    """Names and values in two columns. On a terminal long values wrap beside their name, a pipe gets them whole."""
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        line = Text(hanging(f"  {name:{width}}  {text}", width + 4, console))
        line.stylize("dim", 0, width + 4)
        console.print(line, soft_wrap=True)


_noted: set[str] = set()


def as_note(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Stands in for `warnings.showwarning`: each warning once, without file and line."""
    text = str(message) if issubclass(category, RuntimeWarning) else f"{category.__name__}: {message}"
    if text not in _noted:
        _noted.add(text)
        note(text)


class Phases:
    """What a long command is at, on standard error: a line for each phase, with a bar and its time."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def start(self, text: str, total: int | None = None) -> None:
        """The phase before is done, this one begins; without `total` its end is not known."""
        self.end()
        self._task = self._progress.add_task(text, total=total)

    def reached(self, done: int, total: int | None = None) -> None:
        """How far the phase is."""
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total)

    def end(self) -> None:
        """The last phase is done."""
        if self._task is not None:
            self._progress.update(self._task, total=1, completed=1)
        self._task = None

    def drop(self) -> None:
        """The last phase has failed: what is told next is not about how far it was."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = None


@contextmanager
def phases(*, quiet: bool) -> Iterator[Phases]:
    """Show phases; nothing with `quiet` or where standard error is no terminal."""
    columns = (
        SpinnerColumn("line", finished_text="[green]+[/green]"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    silent = quiet or not error_console.is_terminal
    with Progress(*columns, console=error_console, disable=silent) as progress:
        shown = Phases(progress)
        try:
            yield shown
        except BaseException:
            shown.drop()
            raise
        shown.end()


def suggest(*commands: str) -> None:
    """Commands to try next, on standard error, in a form that can be pasted."""
    error_console.print("Next:")
    for command in commands:
        error_console.print(f"  {invocation()} {command}", markup=False, soft_wrap=True, style="bold")


def quoted(path: Path) -> str:
    """A path as a word of a shell command."""
    return shlex.quote(str(path))


def invocation(which: Callable[[str], str | None] = shutil.which) -> str:
    """How this process was started: `penjing` where that works, else the words that do."""
    script = Path(sys.argv[0])
    if script.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m penjing.cli"
    found = which("penjing")
    on_path = found is not None and script.exists() and Path(found).samefile(script)
    return "penjing" if on_path else shlex.quote(str(script))
