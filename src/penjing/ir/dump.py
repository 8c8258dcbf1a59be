"""Stage dumps: one numbered text file per stage or pass in the folder named by PENJING_DUMP."""

import re

from penjing.core import knobs
from penjing.core.errors import WriteFailed
from penjing.core.files import write_atomically
from penjing.ir.graph import Graph
from penjing.ir.text import print_graph


def dump(graph: Graph, label: str) -> None:
    """Write the text form of `graph` to PENJING_DUMP, if set; files are numbered in order of writing.

    Raises:
        WriteFailed: the folder cannot be made or written.
    """
    folder = knobs.DUMP.path()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = f"let {knobs.DUMP.name} name a folder, or unset it"
        raise WriteFailed(f"cannot make {folder}: {error.strerror or error}", where=str(folder), hint=hint) from error
    numbers = [int(found[0]) for path in folder.glob("*.penjing") if (found := re.match(r"\d+", path.name))]
    number = max(numbers, default=-1) + 1
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", graph.name)
    write_atomically(folder / f"{number:02d}-{name}-{label}.penjing", print_graph(graph).encode("utf-8"))
