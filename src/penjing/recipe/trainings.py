"""Steps that train: what needs samples to train on, and torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.passes import PassLog, Remark
from penjing.recipe.step import Phase, PlainStep, Ran, Work

if TYPE_CHECKING:
    from penjing.train.fit import FitResult
    from penjing.train.module import TrainableGraph
    from penjing.train.training import Loss, Progress


@dataclass(frozen=True)
class Training(PlainStep):
    """What trainings have in common.

    Attributes:
        epochs: passes over the training samples.
        batch_size: samples in one step of the optimizer.
        learning_rate: the highest of the schedule.
        optimizer: what changes the weights: adam, or sgd with Nesterov momentum 0.9.
        schedule: how the learning rate changes.
        weight_decay: L2 penalty on all parameters.
        crop_and_flip: augment images by random crops and mirror images.
        precision: what layers compute in: float32, or bfloat16, which is far faster where the processor has
            instructions for it, and slower elsewhere.
        seed: of sample order, augmentation and dropout.
    """

    phase = Phase.RECOVER
    needs_training: ClassVar[bool] = True

    epochs: int = 1
    batch_size: int = 64
    learning_rate: float = 0.001
    optimizer: Literal["adam", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "one-cycle"] = "one-cycle"
    weight_decay: float = 0.0
    crop_and_flip: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        check_training(self)

    def run(self, graph: Graph, work: Work) -> Ran:
        """Train on `work.data.training`."""
        from penjing.train.module import trainable

        module = trainable(graph)
        result = self.fit(module, work)
        return Ran(module.to_graph(), training_log(self.name, result.losses))

    def fit(self, module: "TrainableGraph", work: Work) -> "FitResult":
        """Train `module` in place."""
        from penjing.train.augment import crop_and_flip
        from penjing.train.fit import fit

        assert work.data.training is not None
        work.progress(self.name, 0, None)
        return fit(
            module,
            work.data.training,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            schedule=self.schedule,
            weight_decay=self.weight_decay,
            augment=crop_and_flip if self.crop_and_flip else None,
            loss=self._loss(work),
            precision=self.precision,
            seed=self.seed,
            progress=told(self.name, work),
            checkpoint=work.checkpoint,
        )

    def _loss(self, work: Work) -> "Loss":
        from penjing.train.fit import cross_entropy

        return cross_entropy


@dataclass(frozen=True)
class FineTune(Training):
    """Train all weights further; zeros stay zero."""

    name = "fine-tune"


@dataclass(frozen=True)
class Distil(Training):
    """Train on what a teacher answers, and on the labels: by default the network before the first step
    that takes something away.

    Attributes:
        temperature: at least 1; how much the teacher's wrong answers count among one another.
        share: 0..1, what the teacher counts; the rest is for the labels.
    """

    name = "distil"

    temperature: float = 4.0
    share: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.temperature < float("inf"):
            raise InvalidInput(f"distil: temperature must be at least 1, not {self.temperature}")
        if not 0 <= self.share <= 1:
            raise InvalidInput(f"distil: share must lie in 0..1, not {self.share}")

    def _loss(self, work: Work) -> "Loss":
        from penjing.train.distil import Distillation
        from penjing.train.module import trainable

        teacher = work.data.teacher or work.first
        assert teacher is not None
        return Distillation(
            trainable(teacher), temperature=self.temperature, share=self.share, precision=self.precision
        )


def check_training(step: Any) -> None:
    """Raise InvalidInput unless epochs, batch size, rates and seed are in range."""
    for name, low in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
        value = getattr(step, name)
        if value < low:
            raise InvalidInput(f"{step.name}: {name} must be at least {low}, not {value}")
    if not 0 < step.learning_rate < float("inf"):
        raise InvalidInput(f"{step.name}: learning_rate must be above 0, not {step.learning_rate}")
    if not 0 <= step.weight_decay < float("inf"):
        raise InvalidInput(f"{step.name}: weight_decay must be 0 or more, not {step.weight_decay}")


def told(name: str, work: Work) -> Any:
    """A callback of a training that passes its steps on."""

    def after_step(p: "Progress") -> None:
        work.progress(name, (p.epoch - 1) * p.steps + p.step, p.epochs * p.steps)

    return after_step


def training_log(name: str, losses: tuple[float, ...]) -> PassLog:
    """What a training did, as a pass would tell it."""
    means = ", ".join(f"{loss:.4g}" for loss in losses)
    return PassLog(name, (Remark("all weights", f"mean loss of each epoch: {means}"),), ())


TRAININGS: tuple[type[PlainStep], ...] = (Distil, FineTune)
