"""Steps that choose codes by training: what needs torch and leaves weights on grids."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from penjing.compress.quantize.calibrate import Ranges, calibrate
from penjing.core.digests import digest_array, digest_bytes
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.passes import PassLog, Remark
from penjing.ir.text import print_graph
from penjing.recipe.options import fields_of
from penjing.recipe.step import Phase, PlainStep, Ran, Work
from penjing.recipe.trainings import Training, training_log

if TYPE_CHECKING:
    from penjing.train.reconstruct import BlockProgress


@dataclass(frozen=True)
class Reconstruct(PlainStep):
    """Learn how weights of few bits are rounded, block by block, so that blocks give what they gave in floats.

    Attributes:
        bits: 2 to 8.
        granularity: what is trained at a time.
        steps: of the optimizer, for each block.
        batch_size: samples in one of them.
        seed: of the order of samples.
    """

    name = "reconstruct"
    phase = Phase.CODES
    bits: int = 4
    granularity: Literal["block", "layer"] = "block"
    steps: int = 600
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise InvalidInput(f"reconstruct: bits must be 2 to 8, not {self.bits}")
        if min(self.steps, self.batch_size) < 1 or self.seed < 0:
            raise InvalidInput("reconstruct: steps and batch_size must be at least 1, seed at least 0")

    @property
    def needs_torch(self) -> bool:
        """It trains, though without labels."""
        return True

    @property
    def needs_calibration(self) -> bool:
        """What blocks read comes from data."""
        return True

    def run(self, graph: Graph, work: Work) -> Ran:
        """Calibrate activations, then train on the calibration data; labels are not needed."""
        from penjing.train.block_checkpoint import BlockCheckpoint
        from penjing.train.block_training import Tuning
        from penjing.train.reconstruct import reconstruct

        def tell(p: "BlockProgress") -> None:
            work.progress(self.name, (p.block - 1) * p.steps + p.step, p.blocks * p.steps)

        ranges = calibrate(graph, work.data.calibration)
        work.progress(self.name, 0, None)
        file = BlockCheckpoint(work.checkpoint, self._identity(graph, work)) if work.checkpoint else None
        made = reconstruct(
            graph,
            list(work.data.calibration),  # a tuple would be one batch for several inputs
            bits=self.bits,
            granularity=self.granularity,
            ranges=ranges.ranges,
            tuning=Tuning(self.steps, self.batch_size),
            seed=self.seed,
            progress=tell,
            known=file.known if file else None,
            found=file.keep if file else None,
        )
        said = f"roundings of {self.bits} bits learned, {self.steps} steps a {self.granularity}"
        return Ran(made, PassLog(self.name, (Remark("all weights", said),), ()))

    def _identity(self, graph: Graph, work: Work) -> dict[str, str]:
        options = {option.name: str(getattr(self, option.name)) for option in fields_of(type(self))}
        batches = [batch if isinstance(batch, tuple) else (batch,) for batch in work.data.calibration]
        samples = "\n".join(digest_array(array) for batch in batches for array in batch)
        return options | {
            "network": digest_bytes(print_graph(graph).encode()),
            "samples": digest_bytes(samples.encode()),
        }


@dataclass(frozen=True)
class Qat(Training):
    """Train the network as its integers will compute it; `quantize` then takes the ranges that were learned.

    Attributes:
        bits: of the weights, 2 to 8.
    """

    name = "qat"
    phase = Phase.CODES

    bits: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.bits <= 8:
            raise InvalidInput(f"qat: bits must be 2 to 8, not {self.bits}")

    @property
    def needs_calibration(self) -> bool:
        """Training begins with the ranges that data show."""
        return True

    def run(self, graph: Graph, work: Work) -> Ran:
        """Train on `work.data.training`, from the ranges of the calibration data."""
        from penjing.train.qat import quantization_aware

        ranges = calibrate(graph, work.data.calibration)
        module = quantization_aware(graph, ranges.ranges, bits=self.bits)
        result = self.fit(module, work)
        return Ran(module.to_graph(), training_log(self.name, result.losses), Ranges(module.ranges, ranges.samples))


CODE_TRAININGS: tuple[type[PlainStep], ...] = (Qat, Reconstruct)
