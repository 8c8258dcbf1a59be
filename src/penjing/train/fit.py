"""A plain training loop that repeats itself: the same seed, data and weights give the same weights, interrupted or not.

It draws the order of the samples and all other randomness of an epoch from (seed, epoch) alone. It prints nothing;
progress goes to a callback.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from penjing.core.errors import InvalidInput
from penjing.train.checkpoint import Checkpoint, digest_state
from penjing.train.interrupt import HeldInterrupt
from penjing.train.precision import Precision
from penjing.train.samples import Normalise, Samples, TrainingData, tensor
from penjing.train.schedule import Schedule
from penjing.train.training import Augment, Loss, Optimizer, Progress, Settings, StepHook, Training, callable_name


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
    precision: Precision = "float32",
    on_step: StepHook | None = None,
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
        augment: (n, ...) normalised inputs, on the module's device, and a generator on the CPU -> inputs.
        loss: mean over the batch, from inputs, float32 outputs and targets.
        seed: of sample order, augmentation and dropout.
        precision: "bfloat16" computes layers in it and keeps weights and loss in float32: far faster where the CPU has
            instructions for it (AMX, AVX512-BF16), slower elsewhere.
        on_step: changes the module on the way.
        progress: called after every step.
        checkpoint: file for the state, written at the start, after every epoch and on Ctrl-C; taken up if there.

    Raises:
        InvalidInput: options, shapes or values that do not fit; a loss that is no longer finite; a checkpoint that is
            damaged or belongs to another training.
        WriteFailed: the checkpoint cannot be written.
    """
    started = time.monotonic()
    settings = Settings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        schedule=schedule,
        weight_decay=weight_decay,
        augment=callable_name(augment),
        loss=callable_name(loss),
        seed=seed,
        precision=precision,
        on_step=callable_name(on_step),
    )
    samples = Samples.of(data)
    training = Training(settings, module, samples, loss, augment, on_step)
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


def _test(module: nn.Module, data: TrainingData | tuple[np.ndarray, np.ndarray]) -> NDArray[np.bool_] | None:
    if isinstance(data, tuple) or len(data.test_x) == 0 or data.test_y.dtype.kind not in "iu":
        return None
    return evaluate(module, data.test_x, data.test_y, normalise=data.normalise)


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
