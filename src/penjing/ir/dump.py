"""Stage dumps: one numbered text file per stage or pass in the folder named by PENJING_DUMP."""

from penjing.core import knobs
from penjing.ir.graph import Graph
from penjing.ir.text import print_graph


def dump(graph: Graph, label: str) -> None:
    """Write the text form of `graph` to PENJING_DUMP, if set; files are numbered in order of writing."""
    folder = knobs.DUMP.path()
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("*.penjing")))
    (folder / f"{number:02d}-{graph.name}-{label}.penjing").write_text(print_graph(graph), encoding="utf-8")
