"""One input at a time, one thread, one core: penjing against the engines of `engines/`, each at its best.

Every engine runs in an environment of its own, made on the first run (some GB, some minutes), and every form of a
network in a process of its own: float32, reduced floats, dynamic and static int8, 4-bit weights, in the forms that its
own tools make. Outputs are checked before anything counts. All forms are screened alone; of each engine, the two
fastest race, where rounds of at least 10 ms are taken in turns on one core until the ratio to the best is known to
1.5 % or all rounds are done. Needs PENJING_DATA.

A call goes from an array of the caller to an array that the caller can read, by the quickest way that the engine offers
to Python, with buffers bound beforehand where it lets one. "codes": 8-bit codes in and out.

AMX, where the processor has it, is measured both allowed and refused (see `engines/protocol.py`), as devices at the
edge have none. An engine can be faster without it, so "allowed" takes the better of the two. What never asks for AMX
is measured once.

With `--isa avx2` all engines, penjing included, see a processor without anything above AVX2 (`engines/cpu_mask.c`).
Where the system cannot do that, only engines with a setting of their own take part, held by it.

A run that is cut short goes on where it was when it is started again at the same revision; `--fresh` begins anew.

The JSON file, all lists of flat records:

    results.held      "", or how engines were held to an instruction set
    results.models    model, title, weights, macs, tray_bytes, library_bytes, calibration, checked, int8_limit_db,
                      rounds (of the race), revision
    results.engines   engine, version, installed_bytes, reason (where it could not take part), not_offered
    results.forms     model, engine, form, precision, ends ("floats"/"codes"), amx ("allowed"/"refused"/"none"),
                      stage ("final": raced, "screened": slower than its engine's best, "failed"), reason,
                      passes, snr_db, cosine, top1 (of `checked`), screened_us, median_us, p10_us, p90_us (processor
                      time), wall_median_us, p99_us (wall clock, single calls), time_over_ours, cold_start_ms (process
                      start to first output), rss_peak_mib, model_bytes, facts (such as kernels chosen)
    results.best      model, ends, amx, engine, form, best_amx, best_us, ours_us, ours_over_best and its 95 % interval
                      (ours_over_best_low, ours_over_best_high), ours_passes
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _record import RESULTS, load_average, machine, revision, write_record
from engines import report
from engines.contest import FLOAT_LIMIT_DB, INT8_LIMIT_DB, INT8_MARGIN_DB, Rules, finalists, judge, race, screened
from engines.cpu_mask import avx2_mask
from engines.environments import SetupFailed, installed_bytes, installed_version, run_python
from engines.forms import ENGINES, EngineEntry
from engines.runs import Results, Unfinished, mergeable, merged
from engines.subjects import CHECKED, MODELS, NOT_OF_THE_ZOO, Prepared, prepare

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
KNOWN = (*MODELS, *NOT_OF_THE_ZOO)
FOLDERS = [entry.folder for entry in ENGINES if entry.folder != "ours"]
MASKED = "CPUID, the instruction by which every engine asks, answers as on a processor without anything above AVX2"


def main() -> None:
    """Measure, print, write."""
    options = _options()
    load = load_average()
    torch.set_num_threads(1)
    entries, engines, rules, held = set_up(options)
    older = mergeable(options.output, held) if options.merge else {}
    settings = {"isa": options.isa, "amx": rules.amx, "rounds": options.rounds, "held": held, "revision": revision()}
    unfinished = Unfinished({**settings, "engines": [entry.folder for entry in entries]})
    if options.fresh:
        unfinished.forget()
    results: Results = unfinished.read()
    there = [model["model"] for model in results["models"]]
    if done := [name for name in options.models if name in there]:
        print(f"going on with a run that was cut short, which has {', '.join(done)} (--fresh: begin anew)", flush=True)
    left = [name for name in options.models if name not in done]
    start = time.monotonic()
    for number, name in enumerate(left):
        spent = (time.monotonic() - start) / 60
        more = f", about {spent / number * (len(left) - number):.0f} left" if number else ""
        print(f"\n## {name}: {number + 1} of {len(left)}, {spent:.1f} minutes so far{more}\n", flush=True)
        measure(name, entries, rules, results)
        unfinished.write(results)
    chosen = {key: [item for item in results[key] if item["model"] in options.models] for key in results}
    print(f"\n{report.summary(chosen['best'])}")
    final = merged(older, {"held": held, "engines": engines, **chosen}, KNOWN)
    write_record(options.output, "models", final, NOTES, load, said(options, rules))
    unfinished.forget()


def measure(name: str, entries: list[EngineEntry], rules: Rules, results: Results) -> None:
    """One network, screened, judged and raced, added to the results."""
    folders = [entry.folder for entry in entries if entry.folder != "ours"]
    makers = {*folders, *(["onnxruntime"] if "openvino" in folders else [])}
    prepared = prepare(name, sorted(makers))
    rows = screened(prepared, entries, rules)
    chosen = finalists(rows)
    print(f"  racing {len(chosen)} of {len(rows)}", flush=True)
    rounds = race(chosen, rules)
    print(f"  {rounds} rounds", flush=True)
    results["models"].append(_model_record(prepared, judge(rows), rounds))
    results["forms"] += [report.record(name, row, report.our_row(rows, row.form.ends, row.amx)) for row in rows]
    results["best"] += report.bests(name, rows)
    print(f"\n{report.model_table(rows)}\n\n{report.left_out(rows)}", flush=True)


def set_up(options: Any) -> tuple[list[EngineEntry], list[dict[str, Any]], Rules, str]:
    """The engines that can take part, a record of each that was asked for, how to measure them, how they are held."""
    mask = avx2_mask() if options.isa else None
    if mask and mask.reason:
        print(f"engines without a setting of their own are left out: {mask.reason}", flush=True)
    usable, records = [], []
    for entry in ENGINES:
        if entry.folder not in options.engines and entry.folder != "ours":
            continue
        fact: dict[str, Any] = {"engine": entry.title, "version": None, "installed_bytes": None, "reason": ""}
        fact["not_offered"] = entry.not_offered
        try:
            run_python(entry.folder)
            fact["version"] = installed_version(entry.folder, entry.package)
            fact["installed_bytes"] = installed_bytes(entry.folder)
            if mask and mask.reason and entry.avx2 is None:
                fact["reason"] = f"cannot be held to {options.isa}: {entry.avx2_note}"
            else:
                usable.append(entry)
        except SetupFailed as error:
            fact["reason"] = f"could not be set up: {error}"
        size = "" if fact["installed_bytes"] is None else f", {fact['installed_bytes'] / 2**20:.0f} MiB installed"
        print(f"{entry.title} {fact['version'] or ''}{size}  {fact['reason']}", flush=True)
        records.append(fact)
    amx = _amx_settings(options)
    if mask is None:
        return usable, records, Rules(amx, options.core, options.rounds), ""
    if mask.reason:
        environments = {entry.folder: dict(entry.avx2 or {}) for entry in usable}
        held = "; ".join(f"{entry.title} by {entry.avx2_note}" for entry in usable if entry.avx2_note)
        return usable, records, Rules(amx, options.core, options.rounds, False, environments), held
    environments = {entry.folder: mask.environment for entry in usable}
    return usable, records, Rules(amx, options.core, options.rounds, True, environments), MASKED


def _amx_settings(options: Any) -> tuple[str, ...]:
    if options.isa or "amx_tile" not in Path("/proc/cpuinfo").read_text(encoding="utf-8").split():
        return ("none",)
    return ("refused", "allowed") if options.amx == "both" else (options.amx,)


def _model_record(prepared: Prepared, limit: float, rounds: int) -> dict[str, Any]:
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
        "rounds": rounds,
        "revision": revision(),
    }


def said(options: Any, rules: Rules) -> str:
    """The options that decided what was measured, as one would type them."""
    words = [f"--isa {options.isa}"] if options.isa else []
    if options.models != list(MODELS):
        words.append(f"--models {','.join(options.models)}")
    if options.engines != FOLDERS:
        words.append(f"--engines {','.join(options.engines)}")
    if len(rules.amx) == 1 and rules.amx != ("none",):
        words.append(f"--amx {options.amx}")
    return " ".join(words)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=names(KNOWN), default=list(MODELS), help=f"some of {','.join(KNOWN)}")
    parser.add_argument("--engines", type=names(FOLDERS), default=FOLDERS, help=f"some of {','.join(FOLDERS)}")
    parser.add_argument("--rounds", type=int, default=60, help="of the race, at most")
    parser.add_argument("--isa", choices=["avx2"], help="hold all engines to this instruction set")
    parser.add_argument(
        "--amx", choices=["refused", "allowed", "both"], default="both", help="where the processor has it"
    )
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="that all workers share")
    parser.add_argument("--fresh", action="store_true", help="measure all, whatever an earlier run left")
    parser.add_argument("--merge", action="store_true", help="keep what the output has of other networks")
    parser.add_argument("--output", type=Path, default=RESULTS / "models.json", help="the JSON file to write")
    return parser.parse_args()


def names(known: Any) -> Any:
    """What reads a list of some of these names from the command line."""

    def parsed(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return names

    return parsed


if __name__ == "__main__":
    machine()  # fails early where there is no compiler
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ncut short; the same command goes on after the last network that was done") from None
