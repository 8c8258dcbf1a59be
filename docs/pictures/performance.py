"""Make docs/pictures/performance.svg from docs/results/models.json: penjing and the fastest other engine.

    python docs/pictures/performance.py            write
    python docs/pictures/performance.py --check    exit 1 when the picture shows other figures than the file holds

AMX is refused to all engines where the file has such figures. The two bars of a network share a scale.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from penjing.core.files import write_atomically

PICTURE = Path(__file__).with_suffix(".svg")
RESULTS = Path(__file__).resolve().parents[1] / "results" / "models.json"

WIDTH, NAMES, PANEL, BAR = 1000, 212, 392, 210
TOP, ROW, THICK = 78, 44, 13
PANELS = (("floats", "floats in and out"), ("codes", "8-bit codes in and out"))
OURS, PEER = "#4d8a4d", "#b0b8c1"


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description="Make docs/pictures/performance.svg.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when it is not up to date")
    made = picture(json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else None)
    if not parser.parse_args().check:
        write_atomically(PICTURE, made.encode(), force=True)
        return 0
    if PICTURE.is_file() and PICTURE.read_text(encoding="utf-8") == made:
        return 0
    sys.stderr.write(f"{PICTURE.name} is not up to date: run python docs/pictures/{Path(__file__).name}\n")
    return 1


def picture(record: dict[str, Any] | None) -> str:
    """The SVG; without a record, a note that there are no figures."""
    if record is None:
        return _page(90, [_text(WIDTH / 2, 50, "Not measured in this checkout yet", 'text-anchor="middle"')])
    best = {(b["model"], b["ends"]): b for b in record["results"]["best"] if b["amx"] != "allowed"}
    models = [m for m in record["results"]["models"] if any(m["model"] == model for model, _ in best)]
    lines = [_text(20, 28, "Time of one call, one thread: penjing and the fastest other engine", 'font-weight="bold"')]
    lines += [_box(WIDTH - 250, 18, 12, OURS), _text(WIDTH - 232, 28, "penjing")]
    lines += [_box(WIDTH - 160, 18, 12, PEER), _text(WIDTH - 142, 28, "fastest other")]
    for i, (_, title) in enumerate(PANELS):
        lines.append(_text(NAMES + i * PANEL, 58, title, 'fill="#57606a"'))
    for row, model in enumerate(models):
        y = TOP + row * ROW
        lines.append(_text(NAMES - 14, y + 19, model["title"].removesuffix(" (MLPerf Tiny)"), 'text-anchor="end"'))
        for i, (ends, _) in enumerate(PANELS):
            if found := best.get((model["model"], ends)):
                lines += _pair(NAMES + i * PANEL, y, found)
    return _page(TOP + len(models) * ROW + 8, lines)


def _pair(x: float, y: float, b: dict[str, Any]) -> Iterator[str]:
    longest = max(b["ours_us"], b["best_us"])
    ours, peer = BAR * b["ours_us"] / longest, BAR * b["best_us"] / longest
    times = 1 / b["ours_over_best"]
    wrong = "" if b["ours_passes"] else ", WRONG outputs"
    yield _box(x, y, ours, OURS)
    yield _text(x + ours + 7, y + 11, f"{_us(b['ours_us'])}, {times:.2f}x as fast{wrong}", 'font-weight="bold"')
    yield _box(x, y + THICK + 2, peer, PEER)
    yield _text(x + peer + 7, y + THICK + 13, f"{_us(b['best_us'])}, {b['engine']}", 'fill="#57606a"')


def _us(value: float) -> str:
    return f"{value:.1f} us" if value < 100 else f"{value:,.0f} us"


def _box(x: float, y: float, width: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{THICK}" rx="1.5" fill="{fill}"/>'


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{" " if more else ""}{more}>{escape(text)}</text>'


def _page(height: int, lines: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="Helvetica, Arial, sans-serif" font-size="12.5" fill="#24292f" role="img"'
        ' aria-label="Time of one call of each network: penjing and the fastest other engine.">'
    )
    card = f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="#ffffff" stroke="#d0d7de"/>'
    return "\n".join([head, *(f"  {line}" for line in (card, *lines)), "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())
