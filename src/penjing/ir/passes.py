"""Passes: frozen dataclasses whose fields are their options; they say what they changed and why they declined."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from penjing.core import knobs
from penjing.ir.dump import dump
from penjing.ir.graph import Graph
from penjing.ir.verify import verify


@dataclass(frozen=True)
class Remark:
    """One place that a pass looked at: what it did there, or why it left it alone."""

    where: str
    text: str


@dataclass(frozen=True)
class PassResult:
    """The new graph, what changed, and why the pass declined elsewhere."""

    graph: Graph
    changed: tuple[Remark, ...] = ()
    declined: tuple[Remark, ...] = ()


class Pass:
    """Base of every Graph -> Graph pass. `name` is the kebab-case of the class, of the file and of the CLI verb."""

    name: ClassVar[str]

    def run(self, graph: Graph) -> PassResult:
        """Return a new graph; the one passed in is not changed."""
        raise NotImplementedError


@dataclass(frozen=True)
class PassLog:
    """What one pass of a pipeline did."""

    name: str
    changed: tuple[Remark, ...]
    declined: tuple[Remark, ...]


def run_passes(graph: Graph, passes: Sequence[Pass]) -> tuple[Graph, tuple[PassLog, ...]]:
    """Run passes in order, verify after each (PENJING_VERIFY), dump each stage (PENJING_DUMP)."""
    logs = []
    for pass_ in passes:
        result = pass_.run(graph)
        graph = result.graph
        if knobs.VERIFY.integer() > 0:
            verify(graph)
        dump(graph, pass_.name)
        logs.append(PassLog(pass_.name, result.changed, result.declined))
    return graph, tuple(logs)
