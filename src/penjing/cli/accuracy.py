"""Accuracy of the model that was given and of the tray that came out, on the same samples."""

from dataclasses import dataclass
from typing import Any

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
    """Accuracy before (`floats`) and after (`integers`), and the difference, on `n` samples of `dataset`."""

    dataset: str
    n: int
    engine: str
    floats: Interval
    integers: Interval
    drop: PairedDrop

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
            "float": interval_dict(self.floats),
            "int8": interval_dict(self.integers),
            "drop": {"value": d.drop, "low": d.low, "high": d.high, "p_value": d.p_value},
        }


def measure(original: Graph, parts: TrayParts, tested: Samples, shown: Phases) -> Measured:
    """Run the imported graph in floats, and the tray as a device would.

    Raises:
        InvalidInput: the model's outputs are no scores for the labels.
    """
    from penjing.train.fit import predict

    assert tested.y is not None
    module = api.trainable(original)
    total = len(tested.x)
    shown.start("measuring the float model", total=total)
    before = correct(lambda x: predict(module, x), tested.x, tested.y, progress=lambda n: shown.reached(n, total))
    model = from_tray(read_tray(api.pack(parts)))
    shown.start("measuring the integer model", total=total)
    after = correct(model.run, tested.x, tested.y, progress=lambda n: shown.reached(n, total))
    return Measured(
        tested.name,
        total,
        model.engine.name,
        accuracy_interval(int(before.sum()), total),
        accuracy_interval(int(after.sum()), total),
        paired_drop(before, after),
    )


def interval_dict(interval: Interval) -> dict[str, float]:
    """For JSON."""
    return {"accuracy": interval.value, "low": interval.low, "high": interval.high}


def interval_text(interval: Interval) -> str:
    """`97.80 % (95.99 .. 98.80)`."""
    return f"{100 * interval.value:.2f} % ({100 * interval.low:.2f} .. {100 * interval.high:.2f})"
