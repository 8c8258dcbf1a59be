"""Make docs/pictures/demo.svg: what `penjing demo`, and the command it suggests first, print in a terminal.

    python docs/pictures/demo.py

Takes as long as the demo, a minute or two. The figures are those of the machine that runs it.
"""

import io
import os
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from penjing.cli import app, output
from penjing.core import knobs
from penjing.core.files import write_atomically

PICTURE = Path(__file__).with_suffix(".svg")
COLUMNS = 84
COMMANDS = (("penjing", "demo"), ("penjing", "run", "edgecnn.tray", "digit.png"))

_FONT_FACE = re.compile(r"\s*@font-face \{.*?\n    \}", re.DOTALL)
_TEXT = re.compile(r'x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)"([^>]*)>((?:&#160;)*)([^<]*?)((?:&#160;)*)</text>')
_SPACE = "&#160;"


def main() -> int:
    """Run the commands, record their consoles as one, write the picture; the first status that is not 0."""
    recorder = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False)
    output.console = output.error_console = recorder
    os.environ.pop(knobs.DATA.name, None)  # on the digits that everybody has
    with tempfile.TemporaryDirectory(prefix="penjing-") as folder:
        os.chdir(folder)
        for command in COMMANDS:
            recorder.print(f"[bold]$ {' '.join(command)}[/bold]")
            status = _run(command)
            if status:
                sys.stderr.write(recorder.export_text())
                return status
        os.chdir(PICTURE.parent)
    write_atomically(PICTURE, portable(recorder.export_svg(title="penjing demo")).encode(), force=True)
    return 0


def portable(svg: str) -> str:
    """The picture without fonts from the network, and with positions in place of spaces, which some viewers drop."""
    svg = _FONT_FACE.sub("", svg)
    svg = svg.replace("Fira Code, monospace", "Menlo, Consolas, 'DejaVu Sans Mono', monospace")
    return _TEXT.sub(_without_outer_spaces, svg)


def _without_outer_spaces(found: re.Match[str]) -> str:
    x, y, length, rest, before, text, after = found.groups()
    if not text:
        return found[0]
    shown = len(re.sub(r"&#?\w+;", "-", text))
    lead, trail = before.count(_SPACE), after.count(_SPACE)
    step = float(length) / (shown + lead + trail)
    return f'x="{float(x) + lead * step:.1f}" y="{y}" textLength="{shown * step:.1f}"{rest}>{text}</text>'


def _run(command: tuple[str, ...]) -> int:
    sys.argv = list(command)
    try:
        app.main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    raise AssertionError("the command line always exits")


if __name__ == "__main__":
    sys.exit(main())
