"""The tables of docs/performance.md and of the README's figures of speed, from what the benchmarks wrote.

Each public function here takes the record of one file of docs/results (see `benchmarks/models.py` and `kernels.py` for
what it holds) and yields lines of Markdown. Times in the records are microseconds.
"""

import re
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

from penjing.measure.sizes import bytes_text

TIE = 1.15  # closer than this is called a tie: what runs of one engine on a shared machine differ by

_PATH = re.compile(r"(?:/[\w.+@-]+)+/(?=[\w.+@-])")
_LONGEST_REASON = 160


def ranking(record: dict[str, Any]) -> Iterator[str]:
    """penjing against the fastest other engine whose outputs pass: one row for each network and kind of ends."""
    allowed = {(b["model"], b["ends"]): b for b in record["results"]["best"] if b["amx"] == "allowed"}
    yield "| Network | In and out | penjing | Fastest other | Its time | penjing is |" + (
        " With AMX allowed |" if allowed else ""
    )
    yield "|---|---|---:|---|---:|---|" + ("---|" if allowed else "")
    for b in without_amx(record):
        other = allowed.get((b["model"], b["ends"]))
        yield (
            f"| {_title(record, b)} | {b['ends']} | {time_text(b['ours_us'])} | {b['engine']}, {b['form']} "
            f"| {time_text(b['best_us'])} | {verdict(b)} |"
            + ((f" {verdict(other)}: {_peer(other)} |" if other else " |") if allowed else "")
        )
    yield ""
    closeness = f"Closer than {100 * (TIE - 1):.0f} % is a tie."
    amx = (
        " All engines without AMX, which devices at the edge do not have; the last column allows it." if allowed else ""
    )
    held = record["results"].get("held", "")
    yield f"{closeness}{amx} Measured on {machine_line(record)}.{f' All engines held: {held}.' if held else ''}"


def raced(record: dict[str, Any]) -> Iterator[str]:
    """Every form that took turns, fastest first."""
    yield "| Engine | Form | In and out | AMX | Time | penjing is faster by | Outputs |"
    yield "|---|---|---|---|---:|---:|---:|"
    rows = [form for form in record["results"]["forms"] if form["stage"] == "final"]
    for form in sorted(rows, key=lambda form: (form["ends"] != "floats", form["median_us"])):
        figures = (time_text(form["median_us"]), f"{form['time_over_ours']:.2f}x", f"{form['snr_db']:.0f} dB")
        cells = (form["engine"], form["form"], form["ends"], form["amx"], *figures)
        yield f"| {' | '.join(cells)} |"


def behind(record: dict[str, Any]) -> Iterator[str]:
    """The comparisons that penjing does not win, all of them."""
    found = in_order(record, record["results"]["best"])
    slower = [b for b in found if not b["ours_passes"] or gain(b) <= 1 / TIE]
    ties = [b for b in found if b["ours_passes"] and 1 / TIE < gain(b) < TIE]
    faster = len(found) - len(slower) - len(ties)
    yield f"penjing is faster in {faster} of {len(found)} comparisons with the fastest other engine."
    for head, rows in (("Slower", slower), (f"Ties (closer than {100 * (TIE - 1):.0f} %)", ties)):
        yield ""
        yield f"{head}:{'' if rows else ' none.'}"
        if rows:
            yield ""
        for b in rows:
            yield f"* {_title(record, b)}, {b['ends']}{_amx_text(b['amx'])}: {verdict(b)}, against {_peer(b)}"


def besides(record: dict[str, Any]) -> Iterator[str]:
    """What a process costs besides the time of a call: until its first output, in memory, on the disk."""
    heads = ("First output", "Quickest other", "Peak memory", "Smallest other", "Tray", "Smallest other int8 file")
    yield f"| Network | {' | '.join(heads)} |"
    yield "|---|---:|---|---:|---|---:|---|"
    for m in record["results"]["models"]:
        forms = [f for f in record["results"]["forms"] if f["model"] == m["model"] and f["passes"]]
        ours = [f for f in forms if f["engine"] == "penjing"]
        peers = [f for f in forms if f["engine"] != "penjing"]
        cells = []
        for key, unit in (("cold_start_ms", "ms"), ("rss_peak_mib", "MiB")):
            mine, other = _least(ours, key), _least(peers, key)
            theirs = f"{_amount(other, key, unit)}, {other['engine']}" if other else ""
            cells += [_amount(mine, key, unit), theirs]
        smallest = _least([f for f in peers if f["precision"] == "int8"], "model_bytes")
        file = f"{bytes_text(smallest['model_bytes'])}, {smallest['engine']}" if smallest else ""
        yield f"| {m['title']} | {' | '.join(cells)} | {bytes_text(m['tray_bytes'])} | {file} |"


def engines(record: dict[str, Any]) -> Iterator[str]:
    """Versions and installed sizes; engines that could not take part, or lack a kind of form, say why."""
    yield "| Engine | Version | Installed | Took part |"
    yield "|---|---|---:|---|"
    for e in record["results"]["engines"]:
        size = "" if e["installed_bytes"] is None else bytes_text(e["installed_bytes"])
        part = f"no: {_reason(e['reason'])}" if e["reason"] else "yes"
        yield f"| {e['engine']} | {e['version'] or ''} | {size} | {part} |"
    missing = [(e["engine"], *item) for e in record["results"]["engines"] for item in e.get("not_offered", {}).items()]
    if missing:
        yield from ("", "Not offered:", "", *(f"* {engine}, {form}: {_reason(why)}" for engine, form, why in missing))


def by_engine(record: dict[str, Any]) -> Iterator[str]:
    """Each network: the fastest form of every engine whose outputs pass, or why there is none."""
    yield "| Network | Engine | Fastest form | Median | Time over penjing's | Outputs |"
    yield "|---|---|---|---:|---:|---:|"
    for m in record["results"]["models"]:
        forms = [f for f in record["results"]["forms"] if (f["model"], f["ends"]) == (m["model"], "floats")]
        for engine in dict.fromkeys(f["engine"] for f in forms):
            mine = [f for f in forms if f["engine"] == engine]
            timed = [f for f in mine if f["stage"] == "final" and f["passes"]]
            if timed:
                f = min(timed, key=lambda f: f["time_over_ours"] or 0)
                over = "" if f["time_over_ours"] is None else f"{f['time_over_ours']:.2f}"
                amx = ", AMX" if f["amx"] == "allowed" else ""
                cells = f"{f['form']}{amx} | {time_text(f['median_us'])} | {over} | {f['snr_db']:.0f} dB"
            else:
                cells = f"none: {_reason(mine[0]['reason'])} | | | "
            yield f"| {m['title']} | {_ours_bold(engine)} | {cells} |"


def every_form(record: dict[str, Any]) -> Iterator[str]:
    """Each network: what was raced, what was screened out, what failed."""
    for m in record["results"]["models"]:
        forms = [f for f in record["results"]["forms"] if f["model"] == m["model"]]
        yield f"### {m['title']}"
        yield ""
        yield (
            f"{m['macs'] / 1e6:.1f} million MACs; weights: {m['weights']}; outputs other than float32's had to reach"
            f" {m['int8_limit_db']:.1f} dB; tray {bytes_text(m['tray_bytes'])}, library"
            f" {bytes_text(m['library_bytes'])}."
        )
        yield ""
        yield from _raced([f for f in forms if f["stage"] == "final"], m["checked"])
        yield from _folded("Slower in the screening", _screened([f for f in forms if f["stage"] == "screened"]))
        yield from _folded("Failed", _failed([f for f in forms if f["stage"] == "failed"]))


def _raced(forms: list[dict[str, Any]], checked: int) -> Iterator[str]:
    yield (
        "| Engine | Form | In and out | AMX | Median | 10 .. 90 % | Single calls, 99 % | Time over penjing's "
        f"| Outputs, top-1 of {checked} | First output | Peak memory | Model file |"
    )
    yield "|---|---|---|---|---:|---:|---:|---:|---|---:|---:|---:|"
    for f in sorted(forms, key=lambda f: (f["ends"] == "codes", f["amx"] == "allowed", f["median_us"])):
        spread = f"{time_text(f['p10_us'], '')} .. {time_text(f['p90_us'])}"
        over = "" if f["time_over_ours"] is None else f"{f['time_over_ours']:.2f}"
        yield (
            f"| {_ours_bold(f['engine'])} | {f['form']} | {f['ends']} | {f['amx']} | {time_text(f['median_us'])} "
            f"| {spread} | {time_text(f['p99_us'])} | {over} | {_outputs(f)} | {_amount(f, 'cold_start_ms', 'ms')} "
            f"| {_amount(f, 'rss_peak_mib', 'MiB')} | {_bytes(f['model_bytes'])} |"
        )
    yield ""


def _screened(forms: list[dict[str, Any]]) -> list[str]:
    rows = [
        f"| {f['engine']} | {f['form']} | {f['ends']} | {f['amx']} | {time_text(f['screened_us'])} | {_outputs(f)} |"
        for f in sorted(forms, key=lambda f: (f["engine"], f["screened_us"] or 0))
    ]
    head = ["| Engine | Form | In and out | AMX | Screening, once, alone | Outputs |", "|---|---|---|---|---:|---|"]
    return [*head, *rows] if rows else []


def _failed(forms: list[dict[str, Any]]) -> list[str]:
    settings: dict[tuple[str, ...], list[str]] = {}
    for f in forms:
        key = (f["engine"], f["form"], f["ends"], _reason(f["reason"]))
        settings.setdefault(key, []).append(f["amx"])
    return [f"* {e}, {form}, {ends}, AMX {' and '.join(amx)}: {why}" for (e, form, ends, why), amx in settings.items()]


def _folded(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield from (f"<details><summary>{title}</summary>", "", *lines, "", "</details>", "")


def kernels(record: dict[str, Any]) -> Iterator[str]:
    """Layers of each instruction set and network, against the rate of the dot instruction."""
    for isa, files in record["results"].items():
        dense = [row for name, rows in files.items() if name != "sparse" for row in rows]
        yield f"### {isa}"
        yield ""
        if dense:
            least = min(dense, key=lambda row: row["of_ceiling"])
            yield (
                f"{len(dense)} dense layers: {100 * median(r['of_ceiling'] for r in dense):.0f} % of the ceiling in the"
                f" middle, at least {100 * least['of_ceiling']:.0f} % (`{least['layer']}`)."
            )
            yield ""
        for name, rows in files.items():
            head = ["| Layer | Kernel | Time | GMAC/s | Of the ceiling |", "|---|---|---:|---:|---:|"]
            cells = [
                f"| `{r['layer']}` | `{r['kernel']}` | {r['us']:.2f} us | {r['gmacs_per_s']:.0f} "
                f"| {100 * r['of_ceiling']:.0f} % |"
                for r in rows
            ]
            yield from _folded("layers with zeros" if name == "sparse" else name, [*head, *cells])
    yield f"Measured on {machine_line(record)}."


def speed(record: dict[str, Any]) -> Iterator[str]:
    """One sentence: each network against the fastest other engine."""
    parts = [f"{_title(record, b)} {verdict(b)}" for b in without_amx(record) if b["ends"] == "floats"]
    yield f"Against the fastest of the other engines, without AMX, floats in and out: {'; '.join(parts)}."


def setting(record: dict[str, Any]) -> Iterator[str]:
    """The machine of a record, and its notes."""
    m = record["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in m["packages"].items() if number)
    yield f"* {m['cpu']}, {', '.join(m['isa'])}; {m['cores']} cores, {m['memory_gib']} GiB; {m['system']}"
    yield f"* Python {m['python']}; {m['compiler']}; {packages}"
    load = m["load_average"]
    yield f"* load average {load['before']} before, {load['after']} after; revision {record['revision']}"
    for note in record["notes"]:
        yield f"* {note}"


def without_amx(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The best of the others where AMX was refused or there is none, floats first, networks in the record's order."""
    return in_order(record, [b for b in record["results"]["best"] if b["amx"] != "allowed"])


def in_order(record: dict[str, Any], best: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Floats first, then without AMX first, then networks in the record's order."""
    order = [m["model"] for m in record["results"]["models"]]
    return sorted(best, key=lambda b: (b["ends"] == "codes", b["amx"] == "allowed", order.index(b["model"])))


def gain(b: dict[str, Any]) -> float:
    """How many times as fast as the best of the others."""
    return 1 / float(b["ours_over_best"])


def verdict(b: dict[str, Any]) -> str:
    """Who is faster, by how much; closer than `TIE` is neither."""
    if not b["ours_passes"]:
        return "WRONG in its outputs"
    times = gain(b)
    if 1 / TIE < times < TIE:
        return f"tie ({times:.2f}x)"
    return f"**{times:.2f}x faster**" if times > 1 else f"{1 / times:.2f}x slower"


def time_text(us: float | None, unit: str = " us") -> str:
    """Three digits or so."""
    return "" if us is None else f"{us:.1f}{unit}" if us < 100 else f"{us:,.0f}{unit}"


def machine_line(record: dict[str, Any]) -> str:
    """Processor, instruction sets, and the revision; several where a record was made piece by piece."""
    isa = ", ".join(record["machine"]["isa"])
    results = record["results"]
    models = results.get("models", ()) if isinstance(results, dict) else ()
    revisions = list(dict.fromkeys(m.get("revision", record["revision"]) for m in models)) or [record["revision"]]
    at = f"revision{'s' if len(revisions) > 1 else ''} {', '.join(revisions)}"
    return f"{record['machine']['cpu']}{f' with {isa}' if isa else ''}, at {at}"


def _title(record: dict[str, Any], b: dict[str, Any]) -> str:
    return next(str(m["title"]) for m in record["results"]["models"] if m["model"] == b["model"])


def _peer(b: dict[str, Any]) -> str:
    refused = " (AMX refused)" if b["amx"] == "allowed" and b["best_amx"] == "refused" else ""
    return f"{b['engine']}, {b['form']}{refused}"


def _amx_text(amx: str) -> str:
    return "" if amx == "none" else f", AMX {amx}"


def _ours_bold(engine: str) -> str:
    return f"**{engine}**" if engine == "penjing" else engine


def _outputs(f: dict[str, Any]) -> str:
    if f["snr_db"] is None:
        return ""
    return f"{'' if f['passes'] else 'WRONG, '}{f['snr_db']:.0f} dB, {f['top1']}"


def _least(forms: list[dict[str, Any]], key: str) -> dict[str, Any] | None:
    return min((f for f in forms if f[key] is not None), key=lambda f: f[key], default=None)


def _amount(f: dict[str, Any] | None, key: str, unit: str) -> str:
    return "" if f is None or f[key] is None else f"{f[key]:.0f} {unit}"


def _bytes(size: int | None) -> str:
    return "" if size is None else bytes_text(size)


def _reason(text: str) -> str:
    """One short line that is plain text in Markdown, without the folders of the machine."""
    line = _PATH.sub("", " ".join(text.split()))
    line = line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON].rstrip()}..."
    return re.sub(r"([|<>*_`\[\]])", r"\\\1", line)
