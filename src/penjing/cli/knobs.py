"""`penjing knobs`: the environment variables that penjing reads."""

from typing import Any

from rich.table import Table
from rich.text import Text

from penjing.cli.arguments import AsJson, Examples
from penjing.cli.output import console, print_json
from penjing.core.knobs import ALL

EXAMPLES: Examples = (
    ("see the generated C and the compiler's log of a build", "PENJING_KEEP=kept penjing build zoo:edgecnn ..."),
    ("see every stage of the graph as text", "PENJING_DUMP=stages penjing build zoo:edgecnn ..."),
)


def knobs(as_json: AsJson = False) -> None:
    """List the environment variables that penjing reads."""
    if as_json:
        entries: list[dict[str, Any]] = [vars(knob) | {"value": knob.text()} for knob in ALL]
        print_json(entries)
        return
    table = Table("variable", "now", "what it does", box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True
    for knob in ALL:
        table.add_row(knob.name, Text(knob.text() or "not set", style="" if knob.text() else "dim"), Text(knob.meaning))
    console.print(table)
