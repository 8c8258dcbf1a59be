"""`penjing bench`: how long one call takes on this machine."""

import resource
import sys
from typing import Annotated, Any

import numpy as np
import typer

from penjing.cli.arguments import AsJson, Engine, EngineName, Examples, TrayPath
from penjing.cli.output import macs_text, phases, print_json, say, show_facts
from penjing.cli.verify import random_codes
from penjing.measure.timing import Timing, time_interleaved
from penjing.runtime.loading import load

EXAMPLES: Examples = (
    ("the library in the tray", "penjing bench edgecnn.tray"),
    ("steadier figures on a busy machine", "penjing bench edgecnn.tray --rounds 200"),
    ("what the interpreter takes", "penjing bench edgecnn.tray --engine interpreter --rounds 3"),
)


def bench(
    tray: TrayPath,
    rounds: Annotated[int, typer.Option(metavar="N", help="Rounds; the median over them is reported.", min=1)] = 30,
    engine: Engine = EngineName.AUTO,
    threads: Annotated[
        int, typer.Option(metavar="N", help="Threads that work on each call; the tray must be built for them.", min=1)
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Time one call on this machine: batch 1, one thread unless `--threads` says more.

    Codes in and out, and floats in and out, are timed in turns, so that a busy moment of the machine hits both alike.
    The call from Python is included.
    """
    model = load(tray, engine=engine.value, threads=threads)
    rng = np.random.default_rng(0)
    codes = random_codes(model, 1, rng)
    reals = [
        ids if spec.dtype == "s32" else rng.normal(size=spec.shape).astype(np.float32)
        for spec, ids in zip(model.inputs, codes, strict=True)
    ]
    calls = {"codes": lambda: model.run_codes(*codes), "float": lambda: model.run(*reals)}
    with phases(quiet=as_json) as shown:
        shown.start(f"timing {rounds} rounds")
        timings = time_interleaved(calls, rounds=rounds)
    variant = model.tray.variant(model.variant)
    rate = variant.macs / timings["codes"].median_us / 1000
    if as_json:
        print_json(
            {
                "model": model.tray.manifest.name,
                "engine": model.engine.name,
                "macs": variant.macs,
                "gmacs_per_s": rate,
                "peak_rss_kib": _peak_rss_kib(),
                "timings": {name: _as_dict(timing) for name, timing in timings.items()},
            }
        )
        return
    say(f"{model.tray.manifest.name} by {model.engine.name}, batch 1, {rounds} rounds", style="bold")
    show_facts(
        [
            ("codes in and out", _text(timings["codes"])),
            ("floats in and out", _text(timings["float"])),
            ("work", f"{macs_text(variant.macs)}, {rate:.2f} GMAC/s"),
            ("memory of this process", f"{_peak_rss_kib() / 1024:.0f} MiB at most, Python and numpy included"),
        ]
    )


def _text(timing: Timing) -> str:
    return f"{timing.median_us:.1f} us  (80 % of rounds: {timing.p10_us:.1f} .. {timing.p90_us:.1f})"


def _as_dict(timing: Timing) -> dict[str, Any]:
    return {"median_us": timing.median_us, "p10_us": timing.p10_us, "p90_us": timing.p90_us, "rounds": timing.n}


def _peak_rss_kib() -> int:
    """macOS counts bytes, others KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak
