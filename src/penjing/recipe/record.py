"""What was done to a network, step by step, and what each step was worth: plain data that files carry as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from penjing.bundle import strict_json
from penjing.core.errors import CorruptBundle

FORMAT = 1
MAX_REMARKS = 200  # of one step; a network of a thousand layers need not tell the same a thousand times


@dataclass(frozen=True)
class Predicted:
    """What the weights alone promise.

    Attributes:
        parameters: elements of all constants.
        zeros: weights of layers that are zero.
        weights: weights of layers, zero or not.
        stored_bytes: all constants as they are now.
        weights_bytes: all constants as integers: one byte a weight, four a bias.
        coded_bytes: the same where the codes of each layer's weights are stored in as many bits as their entropy.
        macs: multiply-accumulates of one sample.
        effective_macs: those whose weight is not zero.
    """

    parameters: int
    zeros: int
    weights: int
    stored_bytes: int
    weights_bytes: int
    coded_bytes: int
    macs: int
    effective_macs: int


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy with its 95 % interval [low, high] over `n` samples."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Drop:
    """Accuracy lost, absolute (0.01 is one point), with its 95 % interval: the same samples before and after."""

    value: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Realised:
    """What the target makes of it, and what was measured.

    Attributes:
        target: for which kernels were chosen.
        packed_bytes: the weights as the target's kernels read them.
        sparse_layers: layers whose kernel leaves out zeros.
        dense_layers: layers whose kernel does not, though some of their weights are zero: name -> why.
        accuracy: of this form of the network; None where no labelled samples were given.
        latency_us: of one sample on one thread of this machine, quantized and compiled; None where not measured.
    """

    target: str
    packed_bytes: int
    sparse_layers: tuple[str, ...]
    dense_layers: Mapping[str, str]
    accuracy: Accuracy | None
    latency_us: float | None


@dataclass(frozen=True)
class Effect:
    """Of one form of the network; `realised` is None where it cannot be built as it is, and `why_not` says why."""

    predicted: Predicted
    realised: Realised | None
    why_not: str | None


@dataclass(frozen=True)
class StepRecord:
    """One step.

    Attributes:
        step: its name.
        options: as text.
        changed: what it did, place by place.
        declined: where it did nothing, and why.
        effect: of the network after it.
        drop: of accuracy, by this step; None where it was not measured.
        gains: what became better.
        losses: what became worse, or why nothing was gained.
    """

    step: str
    options: Mapping[str, str]
    changed: tuple[str, ...]
    declined: tuple[str, ...]
    effect: Effect
    drop: Drop | None
    gains: tuple[str, ...]
    losses: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """All that was done so far: the network as it was at first, then each step."""

    format: int
    first: Effect
    steps: tuple[StepRecord, ...]

    @property
    def last(self) -> Effect:
        """Of the network as it is now."""
        return self.steps[-1].effect if self.steps else self.first

    def then(self, steps: tuple[StepRecord, ...]) -> "Record":
        """The record with further steps."""
        return replace(self, steps=(*self.steps, *steps))


def dump_record(record: Record) -> bytes:
    """Canonical JSON."""
    return strict_json.dump(strict_json.encode(record))


def parse_record(data: bytes | memoryview, where: str) -> Record:
    """The inverse.

    Raises:
        CorruptBundle: not exactly what `dump_record` writes.
    """
    try:
        document = strict_json.parse(data)
        record = strict_json.decode(Record, document)
        if record.format != FORMAT or strict_json.dump(document) != bytes(data):
            raise strict_json.JsonError("it is not in the form that this release writes")
    except strict_json.JsonError as fault:
        place = f"{where}, record.json" + (f", {fault.path}" if fault.path else "")
        raise CorruptBundle(
            f"the record is refused: {fault.what}", where=place, hint="records are not edited by hand"
        ) from fault
    return record
