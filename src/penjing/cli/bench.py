"""`penjing bench`: how long one call takes on this machine."""

import resource
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from penjing.cli.output import console, print_json
from penjing.measure.timing import time_interleaved
from penjing.runtime.load import load


def bench(
    tray: Annotated[Path, typer.Argument(help="The .tray file.")],
    rounds: Annotated[int, typer.Option(help="Rounds; the median over them is reported.", min=1)] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time one sample, batch 1, one thread: codes in and out, and real numbers in and out.

    Rounds are interleaved, so that a busy moment of the machine hits both alike.
    """
    model = load(tray)
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 256, size=spec.shape, dtype=np.uint8) for spec in model.inputs]
    reals = [rng.normal(size=spec.shape).astype(np.float32) for spec in model.inputs]
    timings = time_interleaved(
        {"codes": lambda: model.run_codes(*codes), "float": lambda: model.run(*reals)}, rounds=rounds
    )
    variant = model.tray.variant(model.variant)
    result = {
        "model": model.tray.manifest.name,
        "engine": model.engine.name,
        "macs": variant.macs,
        "peak_rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1),
        "timings": {
            name: {"median_us": t.median_us, "p10_us": t.p10_us, "p90_us": t.p90_us, "rounds": t.n}
            for name, t in timings.items()
        },
    }
    if as_json:
        print_json(result)
        return
    console.print(f"[bold]{result['model']}[/bold] by {model.engine.name}, {variant.macs / 1e6:.2f} M MACs, batch 1")
    for name, t in timings.items():
        kind = "codes in and out" if name == "codes" else "float in and out"
        console.print(f"  {kind}: {t.median_us:9.1f} us median  ({t.p10_us:.1f} .. {t.p90_us:.1f}, {t.n} rounds)")
    console.print(f"  {variant.macs / timings['codes'].median_us / 1000:.2f} GMAC/s, Python's call overhead included")
