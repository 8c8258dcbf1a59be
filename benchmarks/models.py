"""One input at a time, one thread, one core: penjing against the engines of `engines/`, each at its best.

Every engine runs in an environment of its own, made on the first run (some GB, some minutes), and every form of a
network in a process of its own: float32, reduced floats, dynamic and static int8 in the forms that its own tools make.
Outputs are checked before anything counts. All forms are screened alone; of each engine, the fastest forms and its
float32 form go into the race, where rounds of at least 10 ms are taken in turns on one core. Needs PENJING_DATA.

A call goes from an array of the caller to an array that the caller can read, by the quickest way that the engine offers
to Python, with buffers bound beforehand where it lets one. "codes": 8-bit codes in and out.

AMX, where the processor has it, is measured both allowed and refused (see `engines/protocol.py`), as devices at the
edge have none. An engine can be faster without it, so "allowed" takes the better of the two.

The JSON file, all lists of flat records:

    results.models    model, title, weights, macs, tray_bytes, library_bytes, calibration, checked, int8_limit_db
    results.engines   engine, version, installed_bytes, reason (where it could not be set up), avx2
    results.forms     model, engine, form, precision, ends ("floats"/"codes"), amx ("allowed"/"refused"/"none"),
                      stage ("final": raced, "screened": slower than its engine's best, "failed"), reason,
                      passes, snr_db, cosine, top1 (of `checked`), screened_us, median_us, p10_us, p90_us (processor
                      time), wall_median_us, p99_us (wall clock, single calls), time_over_ours, cold_start_ms (process
                      start to first output), rss_peak_mib, model_bytes, facts (such as kernels chosen)
    results.best      model, ends, amx, engine, form, best_amx, best_us, ours_us, ours_over_best, ours_passes
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _record import RESULTS, load_average, machine, write_record
from engines import report
from engines.environments import SetupFailed, installed_bytes, installed_version, run_python
from engines.forms import ENGINES, EngineEntry, forms
from engines.subjects import CHECKED, MODELS, Prepared, prepare, why_missing
from engines.workers import Row, race, screen

FLOAT_LIMIT_DB = 40.0
INT8_LIMIT_DB = 10.0
INT8_MARGIN_DB = 3.0  # twice the error energy
CLOSE = 1.25
MOST_FINALISTS = 4
COLD_STARTS = 2  # beside the one of the screening

NOTES = (
    "batch 1, one thread, all workers pinned to one core, taking turns; medians over rounds of at least 10 ms",
    "median_us is processor time, which on an idle machine equals the wall clock (wall_median_us) and on a busy one"
    " leaves out the waiting; p99_us is wall clock of single calls",
    f"outputs: signal over error against torch's float outputs on {CHECKED} inputs; float32 must reach"
    f" {FLOAT_LIMIT_DB:.0f} dB, everything else {INT8_LIMIT_DB:.0f} dB, or, where quantization does not get that far on"
    f" the untrained network, {INT8_MARGIN_DB:.0f} dB less than the median of all int8 forms; the rest never counts",
    "cold_start_ms includes starting Python and importing numpy, which rss_peak_mib includes as well",
    "installed_bytes leaves out Python and numpy, and counts what running needs, not what converting needs; penjing's"
    " includes the packages of its command line, which running a tray does not need",
)


def main() -> None:
    """Measure, print, write."""
    options = _options()
    load = load_average()
    torch.set_num_threads(1)
    entries, engines = _set_up(options.engines, options.isa)
    amx = ("none",) if options.isa or not _has_amx() else ("allowed", "refused")
    models: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    best: list[dict[str, Any]] = []
    for name in options.models:
        print(f"\n## {name}\n", flush=True)
        folders = [entry.folder for entry in entries]
        makers = {*folders, *(["onnxruntime"] if "openvino" in folders else [])}
        prepared = prepare(name, sorted(makers))
        rows = measured(prepared, entries, amx, options)
        limit = _judge(rows)
        models.append(_model_record(prepared, limit))
        records += [report.record(name, row, report.our_row(rows, row.form.ends, row.amx)) for row in rows]
        best += report.bests(name, rows)
        print(f"\n{report.model_table(rows)}\n\n{report.left_out(rows)}", flush=True)
        # after each network, so that a run that is cut short leaves what it has
        results = {"models": models, "engines": engines, "forms": records, "best": best}
        write_record(options.output, "models", results, NOTES, load)
    print(f"\n{report.summary(best)}")


def measured(prepared: Prepared, entries: list[EngineEntry], amx: tuple[str, ...], options: Any) -> list[Row]:
    """All rows of one network: screened, judged, and the finalists raced."""
    core, env = options.core, {entry.folder: _held(entry, options.isa) for entry in entries}
    rows = [Row(form, setting) for entry in entries for form in forms(entry.folder) for setting in amx]
    for row in rows:
        if not (prepared.folder / row.form.file).is_file():
            row.reason = why_missing(prepared.failed, row.form.engine, row.form.file)
            continue
        print(f"  screening {row.form.key}, AMX {row.amx}", flush=True)
        screen(row, prepared.folder, core, env[row.form.engine])
    _judge(rows)
    chosen = finalists(rows)
    print(f"  racing {len(chosen)} of {len(rows)}", flush=True)
    race(chosen, prepared.folder, core, env, options.rounds, COLD_STARTS)
    return rows


def finalists(rows: list[Row]) -> list[Row]:
    """Ours, and of each engine, kind of ends and AMX setting: the fastest form that passes, the next or all that come
    close in the screening, which is rough (four at most), and the fastest float32.
    """
    chosen: list[Row] = []
    groups = {(row.form.engine, row.form.ends, row.amx) for row in rows}
    for group in sorted(groups):
        passing = [r for r in rows if (r.form.engine, r.form.ends, r.amx) == group and r.passes]
        ordered = sorted(passing, key=lambda r: r.screened_us or np.inf)
        floats = [r for r in ordered if r.form.precision == "float32"]
        close = [r for r in ordered if (r.screened_us or 0) <= CLOSE * (ordered[0].screened_us or 0)]
        best = ordered[: min(max(2, len(close)), MOST_FINALISTS)]
        chosen += best + [r for r in floats[:1] if r not in best]
    ours_wrong = [r for r in rows if r.form.engine == "ours" and r.stage == "screened" and not r.passes]
    return ours_wrong + chosen


def _judge(rows: list[Row]) -> float:
    """Set `passes` of every row with outputs; the limit for int8 in dB."""
    int8 = [r.snr_db for r in rows if r.form.precision == "int8" and r.snr_db is not None]
    limit = min(INT8_LIMIT_DB, float(np.median(int8)) - INT8_MARGIN_DB) if int8 else INT8_LIMIT_DB
    for row in rows:
        if row.snr_db is not None:
            row.passes = row.snr_db >= (FLOAT_LIMIT_DB if row.form.precision == "float32" else limit)
    return limit


def _set_up(names: list[str], isa: str | None) -> tuple[list[EngineEntry], list[dict[str, Any]]]:
    """The engines that can take part, and a record of each that was asked for."""
    usable, records = [], []
    for entry in ENGINES:
        if entry.folder not in names and entry.folder != "ours":
            continue
        fact: dict[str, Any] = {"engine": entry.title, "version": None, "installed_bytes": None, "reason": ""}
        fact["avx2"] = entry.avx2_note
        try:
            run_python(entry.folder)
            fact["version"] = installed_version(entry.folder, entry.package)
            fact["installed_bytes"] = installed_bytes(entry.folder)
            if isa and entry.avx2 is None:
                fact["reason"] = f"cannot be held to {isa}: {entry.avx2_note}"
            else:
                usable.append(entry)
        except SetupFailed as error:
            fact["reason"] = f"could not be set up: {error}"
        size = "" if fact["installed_bytes"] is None else f", {fact['installed_bytes'] / 2**20:.0f} MiB installed"
        print(f"{entry.title} {fact['version'] or ''}{size}  {fact['reason']}", flush=True)
        records.append(fact)
    return usable, records


def _held(entry: EngineEntry, isa: str | None) -> dict[str, str]:
    return dict(entry.avx2 or {}) if isa else {}


def _has_amx() -> bool:
    return "amx_tile" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()


def _model_record(prepared: Prepared, limit: float) -> dict[str, Any]:
    return {
        "model": prepared.name,
        "title": prepared.title,
        "weights": prepared.weights,
        "macs": prepared.macs,
        "tray_bytes": prepared.tray_bytes,
        "library_bytes": prepared.library_bytes,
        "calibration": len(np.load(prepared.folder / "calibration.npy")),
        "checked": CHECKED,
        "int8_limit_db": round(limit, 1),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folders = [entry.folder for entry in ENGINES if entry.folder != "ours"]
    parser.add_argument("--models", type=_names(MODELS), default=list(MODELS), help=f"some of {','.join(MODELS)}")
    parser.add_argument("--engines", type=_names(folders), default=folders, help=f"some of {','.join(folders)}")
    parser.add_argument("--rounds", type=int, default=40, help="of the race")
    parser.add_argument(
        "--isa", choices=["avx2"], help="hold the engines that can be held to this; leave out the others"
    )
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="that all workers share")
    parser.add_argument("--output", type=Path, default=RESULTS / "models.json", help="the JSON file to write")
    return parser.parse_args()


def _names(known: Any) -> Any:
    def parsed(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return names

    return parsed


if __name__ == "__main__":
    machine()  # fails early where there is no compiler
    main()
