"""A training under way: the settings that decide its course, and its steps one after another."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn
from torch.nn.utils import get_total_norm

from penjing.core.errors import InvalidInput
from penjing.train.checkpoint import Checkpoint, TrainingState
from penjing.train.precision import Precision, autocast, for_convolutions
from penjing.train.samples import Samples
from penjing.train.schedule import Schedule, schedule_factor

Optimizer = Literal["adam", "sgd"]
# (input batch, output, targets) -> scalar. The input is there for a teacher, who must see the same batch.
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


@runtime_checkable
class Identified(Protocol):
    """A loss, augmentation or hook with options: what `identity` says belongs to the identity of the training."""

    def identity(self) -> str:
        """Everything about it that the course of the training depends on."""


class StepHook(Identified, Protocol):
    """Changes the module while it is trained, such as `GradualPruning`; its state lives in the module's buffers."""

    def prepare(self, module: nn.Module, steps: int) -> None:
        """Called once, before a checkpoint is taken up; `steps` are those of the whole training."""

    def before_step(self, module: nn.Module, step: int) -> None:
        """Called before step 0 <= `step` < `steps`."""


@dataclass(frozen=True)
class Progress:
    """One step is done: numbers count from 1; `loss` is that of the step."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Settings:
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
    precision: Precision
    on_step: str

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
        if self.precision not in ("float32", "bfloat16"):
            raise InvalidInput(f"there is no precision {self.precision!r}", hint="choose float32 or bfloat16")
        schedule_factor(self.schedule, 0, 1)


class Training:
    """A module under way, one step after another."""

    def __init__(
        self,
        settings: Settings,
        module: nn.Module,
        samples: Samples,
        loss: Loss,
        augment: Augment | None,
        on_step: StepHook | None,
    ) -> None:
        self.settings = settings
        self.module = module
        self.samples = samples
        self.loss = loss
        self.augment = augment
        self.on_step = on_step
        self.steps_per_epoch = max(1, len(samples.x) // settings.batch_size)
        if on_step is not None:
            on_step.prepare(module, settings.epochs * self.steps_per_epoch)
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        if not self.parameters:
            raise InvalidInput("the module has no parameters to train", where="module")
        self.rule = _optimizer(settings, self.parameters)
        self.generator = torch.Generator()
        self.state = TrainingState()

    def resume(self, file: Checkpoint | None) -> None:
        """Go on from what the file holds; write it when it is not there."""
        if file is None:
            return
        state = file.restore(self.module, self.rule, self.generator)
        if state is None:
            self.save(file)  # a place that cannot be written is better known now than after the first epoch
        else:
            self.state = state

    def save(self, file: Checkpoint | None) -> None:
        """Write the present state, if there is a file for it."""
        if file is not None:
            file.save(self.state, self.module, self.rule, self.generator)

    def steps(self) -> Iterator[Progress]:
        """Do the remaining steps; at each yield, weights, optimizer and state belong together."""
        size, epochs, steps = self.settings.batch_size, self.settings.epochs, self.steps_per_epoch
        for epoch in range(self.state.epoch, epochs):
            order = np.random.default_rng([self.settings.seed, epoch]).permutation(len(self.samples.x))
            if self.state.step == 0:
                self._seed_epoch(epoch)
            for step in range(self.state.step, steps):
                factor = schedule_factor(self.settings.schedule, epoch * steps + step, epochs * steps)
                for group in self.rule.param_groups:
                    group["lr"] = self.settings.learning_rate * factor
                if self.on_step is not None:
                    self.on_step.before_step(self.module, epoch * steps + step)
                x, y = self.samples.batch(order[step * size : (step + 1) * size])
                value = self._step(x, y, f"epoch {epoch + 1} of {epochs}, step {step + 1} of {steps}")
                self.state = self.state.after_step(value, steps)
                yield Progress(epoch + 1, epochs, step + 1, steps, value)

    def check_finite(self, report: Progress) -> None:
        """The last step of an epoch can spoil weights that no later loss would tell of."""
        if not _all_finite(self.parameters):
            raise self._diverged("a weight is NaN or infinite", f"the end of epoch {report.epoch} of {report.epochs}")

    def _step(self, x: torch.Tensor, y: torch.Tensor, where: str) -> float:
        device = self.parameters[0].device
        x, y = x.to(device), y.to(device)
        x = x if self.augment is None else self.augment(x, self.generator)
        x = for_convolutions(x, self.settings.precision)
        self.rule.zero_grad()
        with autocast(self.settings.precision, device):
            output = self.module(x)
        loss = self.loss(x, _in_float32(output), y)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value}", where)
        loss.backward()
        if not _all_finite([p.grad for p in self.parameters if p.grad is not None]):
            raise self._diverged("a gradient is NaN or infinite", where)
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


def _optimizer(settings: Settings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, nesterov=True, weight_decay=decay)
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, rate, weight_decay=decay)
    raise InvalidInput(f"there is no optimizer {settings.optimizer!r}", hint="choose adam or sgd")


def _in_float32(output: Any) -> Any:
    """The outputs of a module that computed in a lower precision."""
    if isinstance(output, tuple):
        return tuple(_in_float32(part) for part in output)
    return output.float() if isinstance(output, torch.Tensor) and output.is_floating_point() else output


def _all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    # one number for all: a device is waited for once
    return bool(get_total_norm([t for t in tensors if t.numel()], math.inf).isfinite())


def callable_name(function: object) -> str:
    """What tells one function from another, its options included where it states them."""
    if function is None:
        return "none"
    if isinstance(function, Identified):
        return f"{type(function).__qualname__} {function.identity()}"
    if isinstance(function, partial):
        return f"{callable_name(function.func)} {function.args} {sorted(function.keywords.items())}"
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
