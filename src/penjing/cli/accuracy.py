"""Accuracy of the model that was given and of the tray that came out, on the same samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penjing import api
from penjing.bundle.pack import TrayParts
from penjing.bundle.schema import Accuracy
from penjing.bundle.tray import read_tray
from penjing.cli.output import Phases
from penjing.cli.samples import Samples
from penjing.ir.graph import Graph
from penjing.measure.correct import correct
from penjing.measure.intervals import Interval, PairedDrop, accuracy_interval, paired_drop
from penjing.runtime.loading import from_tray


@dataclass(frozen=True)
class Measured:
    """Accuracy before (`floats`) and after (`integers`), and the difference, on `n` samples of `dataset`.

    `floats` and `drop` are None where the model that was given holds integers already.
    """

    dataset: str
    n: int
    engine: str
    floats: Interval | None
    integers: Interval
    drop: PairedDrop | None

    @property
    def accuracy(self) -> Accuracy:
        """For the manifest."""
        a = self.integers
        return Accuracy("top-1", a.value, a.low, a.high, self.n, self.dataset)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        d = self.drop
        return {
            "dataset": self.dataset,
            "n": self.n,
            "engine": self.engine,
            "float": interval_dict(self.floats) if self.floats else None,
            "int8": interval_dict(self.integers),
            "drop": {"value": d.drop, "low": d.low, "high": d.high, "p_value": d.p_value} if d else None,
        }


def measure(original: Graph, parts: TrayParts, tested: Samples, shown: Phases) -> Measured:
    """Run the imported graph in floats, and the tray as a device would.

    Raises:
        InvalidInput: the model's outputs are no scores for the labels.
    """
    assert tested.y is not None
    total = len(tested.x)
    before = None if original.stage == "compressed" else _float_right(original, tested, shown)
    model = from_tray(read_tray(api.pack(parts)))
    shown.start("measuring the integer model", total=total)
    after = correct(model.run, tested.x, tested.y, progress=lambda n: shown.reached(n, total))
    return Measured(
        tested.name,
        total,
        model.engine.name,
        None if before is None else accuracy_interval(int(before.sum()), total),
        accuracy_interval(int(after.sum()), total),
        None if before is None else paired_drop(before, after),
    )


def _float_right(original: Graph, tested: Samples, shown: Phases) -> NDArray[np.bool_]:
    from penjing.train.fit import predict

    assert tested.y is not None
    module, total = api.trainable(original), len(tested.x)
    shown.start("measuring the float model", total=total)
    return correct(lambda x: predict(module, x), tested.x, tested.y, progress=lambda n: shown.reached(n, total))


def interval_dict(interval: Interval) -> dict[str, float]:
    """For JSON."""
    return {"accuracy": interval.value, "low": interval.low, "high": interval.high}


def interval_text(interval: Interval) -> str:
    """`97.80 % (95.99 .. 98.80)`."""
    return f"{100 * interval.value:.2f} % ({100 * interval.low:.2f} .. {100 * interval.high:.2f})"
