"""What `models.py` prints and writes: rows as flat records, the best of each, and Markdown tables."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from engines.contest import ratio
from engines.environments import engines_folder
from engines.forms import ENGINES, Ends
from engines.workers import Row

TITLES = {entry.folder: entry.title for entry in ENGINES}
LIMITS: dict[Ends, str] = {"floats": "floats in and out", "codes": "integer codes in and out"}


def record(model: str, row: Row, ours: Row | None) -> dict[str, Any]:
    """One row as one flat record."""
    return {
        "model": model,
        "engine": TITLES[row.form.engine],
        "form": row.form.name,
        "precision": row.form.precision,
        "ends": row.form.ends,
        "amx": row.amx,
        "stage": row.stage,
        "reason": row.reason.replace(f"{engines_folder()}/", ""),  # records name no folders of a machine
        "passes": row.passes,
        "snr_db": rounded(row.snr_db, 1),
        "cosine": rounded(row.cosine, 6),
        "top1": row.top1,
        "screened_us": rounded(row.screened_us),
        "median_us": rounded(middle(row.rounds_us)),
        "p10_us": rounded(middle(row.rounds_us, 10)),
        "p90_us": rounded(middle(row.rounds_us, 90)),
        "wall_median_us": rounded(middle(row.wall_rounds_us)),
        "p99_us": rounded(row.p99_us),
        "time_over_ours": rounded(time_over(row, ours), 3),
        "cold_start_ms": rounded(row.cold_start_ms, 1),
        "rss_peak_mib": rounded(row.rss_peak_mib, 1),
        "model_bytes": row.model_bytes,
        "facts": row.facts,
    }


def middle(values: list[float], percent: float = 50) -> float | None:
    """A percentile of the rounds; None where there was none."""
    return float(np.percentile(values, percent)) if values else None


def rounded(value: float | None, digits: int = 2) -> float | None:
    """For the JSON file."""
    return None if value is None else round(value, digits)


def time_over(row: Row, other: Row | None) -> float | None:
    """How many times as long as `other`; None where both did not run to the end."""
    if other is None or not row.rounds_us or len(row.rounds_us) != len(other.rounds_us):
        return None
    return ratio(row, other)[1]


def our_row(rows: Iterable[Row], ends: Ends, amx: str) -> Row | None:
    """Our row with these ends; it does not depend on AMX where it was only measured one way."""
    found = [r for r in rows if r.form.engine == "ours" and r.form.ends == ends and r.stage == "final"]
    return next((r for r in found if r.amx == amx), found[0] if found else None)


def bests(model: str, rows: list[Row]) -> Iterator[dict[str, Any]]:
    """The fastest peer whose outputs pass, with and without AMX, for each kind of ends.

    "allowed" chooses among all rows, as an engine may be faster when AMX is refused to it; "refused" among those alone.
    """
    settings = sorted({row.amx for row in rows})
    for ends in LIMITS:
        for amx in settings:
            ours = our_row(rows, ends, amx)
            peers = [
                row
                for row in rows
                if row.form.engine != "ours"
                and row.form.ends == ends
                and row.stage == "final"
                and row.passes
                and (amx != "refused" or row.amx == "refused")
            ]
            if not peers or ours is None:
                continue
            best = min(peers, key=lambda row: row.median_us)
            low, middle_ratio, high = ratio(ours, best)
            yield {
                "model": model,
                "ends": ends,
                "amx": amx,
                "engine": TITLES[best.form.engine],
                "form": best.form.name,
                "best_amx": best.amx,
                "best_us": rounded(middle(best.rounds_us)),
                "ours_us": rounded(middle(ours.rounds_us)),
                "ours_over_best": rounded(middle_ratio, 3),
                "ours_over_best_low": rounded(low, 3),
                "ours_over_best_high": rounded(high, 3),
                "ours_passes": ours.passes,
            }


def model_table(rows: list[Row]) -> str:
    """Every row that was timed to the end, the fastest first."""
    lines = [
        "| engine | form | ends | AMX | median us | p99 us | over ours | outputs | cold start ms | peak RSS MiB |",
        "|---|---|---|---|---:|---:|---:|---|---:|---:|",
    ]
    final = [row for row in rows if row.stage == "final"]
    for row in sorted(final, key=lambda r: (r.form.ends == "codes", r.median_us)):
        over = time_over(row, our_row(rows, row.form.ends, row.amx))
        name = TITLES[row.form.engine]
        cells = (
            f"**{name}**" if row.form.engine == "ours" else name,
            row.form.name,
            row.form.ends,
            row.amx,
            _figure(middle(row.rounds_us)),
            _figure(row.p99_us),
            "" if over is None else f"{over:.2f}",
            f"{'' if row.passes else 'WRONG, '}{row.snr_db:.0f} dB, top-1 {row.top1}",
            f"{row.cold_start_ms:.0f}",
            f"{row.rss_peak_mib:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def left_out(rows: list[Row]) -> str:
    """What is not in the table, and why: one line each."""
    lines = []
    for row in rows:
        form = f"* {TITLES[row.form.engine]}, {row.form.name}, {row.form.ends}"
        head = f"{form}, AMX {row.amx}: "
        if row.reason and row.facts:
            lines.append(head + row.reason)
        elif row.reason:
            if f"{form}: {row.reason}" not in lines:  # the same with and without AMX
                lines.append(f"{form}: {row.reason}")
        elif row.stage == "screened" and row.screened_us is not None:
            wrong = "" if row.passes else f", WRONG outputs ({row.snr_db:.0f} dB)"
            lines.append(f"{head}screened out, {row.screened_us:.1f} us{wrong}")
    return "\n".join(lines)


def summary(best: list[dict[str, Any]]) -> str:
    """One line per model, kind of ends, and AMX."""
    lines = [
        "| model | ends | AMX | best peer | its us | ours us | ours over best |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    for b in sorted(best, key=lambda b: (b["ends"] == "codes", b["amx"] == "refused")):
        peer = f"{b['engine']}, {b['form']}" + (" (AMX refused)" if b["amx"] != b["best_amx"] else "")
        ours = _figure(b["ours_us"]) + ("" if b["ours_passes"] else " WRONG")
        lines.append(
            f"| {b['model']} | {b['ends']} | {b['amx']} | {peer} | {_figure(b['best_us'])} | {ours} "
            f"| {b['ours_over_best']:.2f} |"
        )
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"
