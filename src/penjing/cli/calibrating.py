"""Quantization as commands do it: by samples, by the ranges of a model that is quantized already, or by both."""

from collections.abc import Sequence

from penjing import api
from penjing.cli.output import Phases
from penjing.cli.samples import Samples, calibration_samples
from penjing.cli.sources import ModelSource
from penjing.compress.quantize.observers import ObserverKind
from penjing.core import knobs
from penjing.ir.graph import Graph


def drawn_samples(source: str, model: ModelSource, port: api.Port, count: int, *, raw: bool) -> Samples:
    """At most `count` samples of a model's input. Arguments and errors as of `calibration_samples`."""
    return calibration_samples(
        source,
        model.shape,
        port,
        count,
        raw=raw,
        seed=knobs.SEED.integer(),
        lengths=model.length_axes,
        ids=model.takes_ids,
    )


def quantized(
    graph: Graph,
    model: ModelSource,
    drawn: Samples | None,
    observer: ObserverKind,
    shown: Phases,
    *,
    symmetric: bool = False,
    keep_float: Sequence[str] = (),
) -> Graph:
    """A float graph in 8 bits; `drawn` is there unless the model brings all its ranges."""
    if drawn is None or not model.needs_calibration:
        shown.start("quantizing")
        return api.quantize(graph, (), symmetric=symmetric, known=model.ranges, keep_float=keep_float)
    total = len(drawn.x)
    shown.start(f"calibrating on {drawn.name}", total=total)
    return api.quantize(
        graph,
        drawn.batches(),
        observer=observer,
        symmetric=symmetric,
        progress=lambda done: shown.reached(done, total),
        known=model.ranges,
        keep_float=keep_float,
    )
