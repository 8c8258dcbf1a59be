"""Which operators of a source model penjing carries, and the one error that lists all it does not."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from penjing.core.errors import UnsupportedOp
from penjing.ir.types import Source


@dataclass(frozen=True)
class Supported:
    """An operator that penjing carries, and how often the model uses it."""

    target: str
    count: int


@dataclass(frozen=True)
class Unsupported:
    """An operator that penjing does not carry: how often, where (`model.py:12, block.cumsum`), and why not."""

    target: str
    count: int
    places: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Coverage:
    """All operators of one model: those carried and those not, in order of first use."""

    supported: tuple[Supported, ...]
    unsupported: tuple[Unsupported, ...]

    @property
    def complete(self) -> bool:
        """Whether the model can be imported."""
        return not self.unsupported


@dataclass(frozen=True)
class Problem:
    """One place of the source model that cannot be imported, and what to change where that is known."""

    target: str
    name: str
    source: Source
    reason: str
    hint: str | None = None

    @property
    def place(self) -> str:
        """`model.py:12, block.cumsum`."""
        file = f"{self.source.file}:{self.source.line}" if self.source.file else ""
        return ", ".join(part for part in (file, self.name) if part)


def coverage_of(carried: Iterable[str], problems: Iterable[Problem]) -> Coverage:
    """The table, from the targets of all calls that were carried and all problems."""
    places: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        places.setdefault((problem.target, problem.reason), []).append(problem.place)
    return Coverage(
        tuple(Supported(target, count) for target, count in Counter(carried).items()),
        tuple(Unsupported(target, len(found), tuple(found), reason) for (target, reason), found in places.items()),
    )


_GENERAL_HINT = "leave the part out of the export, or write it with supported operators: `penjing ops` lists them"


def refuse(model: str, problems: list[Problem]) -> None:
    """Raise UnsupportedOp with every place, unless there are none."""
    if not problems:
        return
    rows = coverage_of((), problems).unsupported
    lines = [f"{row.target}{f' ({place})' if place else ''}: {row.reason}" for row in rows for place in row.places]
    hints = list(dict.fromkeys(problem.hint for problem in problems if problem.hint))
    places = f"{len(lines)} {'place' if len(lines) == 1 else 'places'}"
    raise UnsupportedOp(
        f"{model} cannot be carried in {places}: {_counted(row.target for row in rows for _ in row.places)}",
        where="\n       ".join(lines),
        hint="\n       ".join(hints or [_GENERAL_HINT]),
    )


def _counted(targets: Iterable[str]) -> str:
    return ", ".join(target if count == 1 else f"{count} x {target}" for target, count in Counter(targets).items())
