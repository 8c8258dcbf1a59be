"""A plain training loop that repeats itself: the same seed, data and weights give the same weights, interrupted or not.

It draws the order of the samples and all other randomness of an epoch from (seed, epoch) alone. It prints nothing;
progress goes to a callback.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from penjing.core.errors import InvalidInput
from penjing.train.checkpoint import Checkpoint, TrainingState, digest_state
from penjing.train.interrupt import HeldInterrupt
from penjing.train.samples import Normalise, Samples, TrainingData, tensor
from penjing.train.schedule import Schedule, schedule_factor

Optimizer = Literal["adam", "sgd"]
# (input batch, output, targets) -> scalar. The input is there for a teacher, who must see the same batch.
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Progress:
    """One step is done: numbers count from 1; `loss` is that of the step."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True, eq=False)
class FitResult:
    """What a training gave; the module itself holds the weights.

    Attributes:
        losses: mean loss of every epoch, those before a resumption included.
        correct: (n,) whether each test sample is classified rightly; None without a test set of classes.
        seconds: wall-clock time of this call.
        resumed_epochs: whole epochs that a checkpoint had already done.
    """

    losses: tuple[float, ...]
    correct: NDArray[np.bool_] | None
    seconds: float
    resumed_epochs: int = 0

    @property
    def accuracy(self) -> float | None:
        """Share of the test set that is right, 0..1."""
        return None if self.correct is None else float(self.correct.mean())


def cross_entropy(_x: torch.Tensor, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of (n, classes) logits against (n,) class indices.

    Raises:
        InvalidInput: a class index that the network has no output for.
    """
    low, high, classes = int(target.min()), int(target.max()), output.shape[1]
    if low < 0 or high >= classes:
        raise InvalidInput(
            f"the labels run from {low} to {high}, the network has {classes} outputs",
            where="y",
            hint="count classes from 0, or widen the last layer",
        )
    return F.cross_entropy(output, target)


def fit(
    module: nn.Module,
    data: TrainingData | tuple[np.ndarray, np.ndarray],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    optimizer: Optimizer = "sgd",
    schedule: Schedule = "one-cycle",
    weight_decay: float = 0.0,
    augment: Augment | None = None,
    loss: Loss = cross_entropy,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
) -> FitResult:
    """Train `module` in place and leave it in evaluation mode.

    Samples that do not fill a batch sit out the epoch; every epoch has another order. A first Ctrl-C waits for the end
    of the step; with a checkpoint its state is then saved, and the same call later goes on from there to the very
    weights that an uninterrupted run gives (on the CPU, with the same number of threads).

    Args:
        module: on any device; at least one parameter requires a gradient.
        data: with a test set and a normalisation, or a pair (x, y) of float inputs and targets.
        epochs: passes over the samples.
        batch_size: samples per step.
        learning_rate: the highest of the schedule.
        optimizer: "sgd" has Nesterov momentum 0.9.
        schedule: "one-cycle" rises for 30 % of the steps and falls to zero on a cosine; "cosine" only falls.
        weight_decay: L2 penalty on all parameters.
        augment: (n, ...) normalised inputs and a generator -> inputs.
        loss: mean over the batch, from inputs, outputs and targets.
        seed: of sample order, augmentation and dropout.
        progress: called after every step.
        checkpoint: file for the state, written at the start, after every epoch and on Ctrl-C; taken up if there.

    Raises:
        InvalidInput: options, shapes or values that do not fit; a loss that is no longer finite; a checkpoint that is
            damaged or belongs to another training.
        WriteFailed: the checkpoint cannot be written.
    """
    started = time.monotonic()
    settings = _Settings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        schedule=schedule,
        weight_decay=weight_decay,
        augment=_callable_name(augment),
        loss=_callable_name(loss),
        seed=seed,
    )
    samples = Samples.of(data)
    training = _Training(settings, module, samples, loss, augment)
    file = None
    if checkpoint is not None:
        # All that the course of the training depends on, so that one training never goes on from another's weights.
        identity = {name: str(value) for name, value in asdict(settings).items()}
        identity |= {"samples": samples.digest(), "first weights": digest_state(module)}
        file = Checkpoint(checkpoint, identity)
    with torch.random.fork_rng(), HeldInterrupt() as interrupt:
        training.resume(file)
        resumed_epochs = training.state.epoch
        module.train()
        for report in training.steps():
            try:
                if progress is not None:
                    progress(report)
                interrupt.raise_if_pending()
            except KeyboardInterrupt:
                training.save(file)
                raise
            if report.step == report.steps:
                training.check_finite(report)
                training.save(file)
    module.eval()
    return FitResult(tuple(training.state.losses), _test(module, data), time.monotonic() - started, resumed_epochs)


def predict(
    module: nn.Module, x: np.ndarray, *, batch_size: int = 256, normalise: Normalise | None = None
) -> NDArray[np.float32]:
    """Outputs of `module` in evaluation mode for all samples; the mode it was in is restored.

    Args:
        module: on any device.
        x: (n, ...) inputs.
        batch_size: samples at a time.
        normalise: applied to every batch first, such as `Dataset.normalise`.

    Raises:
        InvalidInput: no samples, or a batch size below 1.
    """
    if len(x) == 0 or batch_size < 1:
        raise InvalidInput(f"cannot run {len(x)} samples in batches of {batch_size}", where="x, batch_size")
    parameter = next(module.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    outputs = []
    with _evaluation_mode(module), torch.inference_mode():
        for start in range(0, len(x), batch_size):
            part = x[start : start + batch_size]
            part = part if normalise is None else normalise(part)
            outputs.append(module(tensor(part).to(device)).cpu().numpy())
    return np.concatenate(outputs)


def evaluate(
    module: nn.Module, x: np.ndarray, y: np.ndarray, *, batch_size: int = 256, normalise: Normalise | None = None
) -> NDArray[np.bool_]:
    """(n,) whether the highest output is at the label; its mean is the accuracy, its pairs are for paired tests.

    Args:
        module: gives (n, classes).
        x: (n, ...) inputs.
        y: (n,) class indices.
        batch_size: samples at a time.
        normalise: applied to every batch first.

    Raises:
        InvalidInput: no samples, or another number of labels.
    """
    if len(x) != len(y):
        raise InvalidInput(f"there are {len(x)} samples and {len(y)} labels", where="x, y")
    logits = predict(module, x, batch_size=batch_size, normalise=normalise)
    return np.asarray(logits.argmax(axis=1) == y)


@dataclass(frozen=True)
class _Settings:
    """The options of `fit` that decide its course."""

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Optimizer
    schedule: Schedule
    weight_decay: float
    augment: str
    loss: str
    seed: int

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise InvalidInput(
                f"epochs ({self.epochs}) and batch_size ({self.batch_size}) must be at least 1", where="fit"
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InvalidInput(f"learning_rate must be above 0 and finite, not {self.learning_rate}", where="fit")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise InvalidInput(f"weight_decay must be 0 or more and finite, not {self.weight_decay}", where="fit")
        if self.seed < 0:
            raise InvalidInput(f"seed must be 0 or more, not {self.seed}", where="fit")
        schedule_factor(self.schedule, 0, 1)


class _Training:
    """A module under way, one step after another."""

    def __init__(
        self, settings: _Settings, module: nn.Module, samples: Samples, loss: Loss, augment: Augment | None
    ) -> None:
        self.settings = settings
        self.module = module
        self.samples = samples
        self.loss = loss
        self.augment = augment
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        if not self.parameters:
            raise InvalidInput("the module has no parameters to train", where="module")
        self.rule = _optimizer(settings, self.parameters)
        self.generator = torch.Generator()
        self.state = TrainingState()

    def resume(self, file: Checkpoint | None) -> None:
        if file is None:
            return
        state = file.restore(self.module, self.rule, self.generator)
        if state is None:
            self.save(file)  # a place that cannot be written is better known now than after the first epoch
        else:
            self.state = state

    def save(self, file: Checkpoint | None) -> None:
        if file is not None:
            file.save(self.state, self.module, self.rule, self.generator)

    def steps(self) -> Iterator[Progress]:
        """Do the remaining steps; at each yield, weights, optimizer and state belong together."""
        size, epochs = self.settings.batch_size, self.settings.epochs
        steps = max(1, len(self.samples.x) // size)
        for epoch in range(self.state.epoch, epochs):
            order = np.random.default_rng([self.settings.seed, epoch]).permutation(len(self.samples.x))
            if self.state.step == 0:
                self._seed_epoch(epoch)
            for step in range(self.state.step, steps):
                factor = schedule_factor(self.settings.schedule, epoch * steps + step, epochs * steps)
                for group in self.rule.param_groups:
                    group["lr"] = self.settings.learning_rate * factor
                x, y = self.samples.batch(order[step * size : (step + 1) * size])
                value = self._step(x, y, f"epoch {epoch + 1} of {epochs}, step {step + 1} of {steps}")
                self.state = self.state.after_step(value, steps)
                yield Progress(epoch + 1, epochs, step + 1, steps, value)

    def check_finite(self, report: Progress) -> None:
        """The last step of an epoch can spoil weights that no later loss would tell of."""
        if not all(bool(torch.isfinite(p).all()) for p in self.parameters):
            raise self._diverged("a weight is NaN or infinite", f"the end of epoch {report.epoch} of {report.epochs}")

    def _step(self, x: torch.Tensor, y: torch.Tensor, where: str) -> float:
        device = self.parameters[0].device
        x = x if self.augment is None else self.augment(x, self.generator)
        x, y = x.to(device), y.to(device)
        self.rule.zero_grad()
        loss = self.loss(x, self.module(x), y)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value}", where)
        loss.backward()
        self.rule.step()
        return value

    def _seed_epoch(self, epoch: int) -> None:
        dropout, augmentation = np.random.SeedSequence([self.settings.seed, epoch]).generate_state(2)
        torch.manual_seed(int(dropout))
        self.generator.manual_seed(int(augmentation))

    def _diverged(self, what: str, where: str) -> InvalidInput:
        return InvalidInput(
            f"the training has diverged: {what}",
            where=where,
            hint=f"lower learning_rate (now {self.settings.learning_rate:g}), "
            "check that the inputs are normalised and the first weights finite",
        )


def _optimizer(settings: _Settings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, nesterov=True, weight_decay=decay)
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, rate, weight_decay=decay)
    raise InvalidInput(f"there is no optimizer {settings.optimizer!r}", hint="choose adam or sgd")


def _test(module: nn.Module, data: TrainingData | tuple[np.ndarray, np.ndarray]) -> NDArray[np.bool_] | None:
    if isinstance(data, tuple) or len(data.test_x) == 0 or data.test_y.dtype.kind not in "iu":
        return None
    return evaluate(module, data.test_x, data.test_y, normalise=data.normalise)


def _callable_name(function: Callable[..., object] | None) -> str:
    if function is None:
        return "none"
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
