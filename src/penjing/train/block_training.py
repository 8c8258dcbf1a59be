"""One block of a network, its few-bit weights trained to give what the float block gives (see `train.reconstruct`)."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from penjing.core.errors import InvalidInput
from penjing.ir.types import Constant
from penjing.train.blocks import Block, Values, run_nodes
from penjing.train.rounding import LearnedRounding, penalty_beta
from penjing.train.schedule import schedule_factor

SAMPLES_AT_ONCE = 128  # where no gradient is needed
_FIXED_SHARE = 0.2  # of the steps, at the end, with fixed roundings

Coded = Callable[[str, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Tuning:
    """How roundings are trained.

    Attributes:
        steps: per block.
        batch_size: samples per step.
        drop: the probability that an activation is that of the float network, 0 to 1, in steps of 1/256. NOTE: the 0.5
            of QDrop is for activations of few bits; with 8, blocks of ResNet-20 came out 5 to 7 % worse than with 0.
        rounding_rate: Adam's learning rate of the roundings.
        scale_rate: of the logarithms of the scales; 0 keeps the scales of least squared error.
        bias_rate: of the biases, in units of the block's root-mean-square output; 0 keeps the biases.
        penalty: weight of the penalty on roundings that have not chosen, where 1 is the error of rounding to nearest.

    Raises:
        InvalidInput: less than one step or sample, a probability outside [0, 1], a rate that is negative or not finite.
    """

    steps: int = 600
    batch_size: int = 32
    drop: float = 0.0
    rounding_rate: float = 5e-2
    scale_rate: float = 1e-3
    bias_rate: float = 5e-3
    penalty: float = 20.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise InvalidInput(f"{self.steps} steps of {self.batch_size} samples cannot be", where="steps, batch_size")
        if not 0 <= self.drop <= 1:
            raise InvalidInput(f"a probability lies in [0, 1], not {self.drop}", where="drop")
        rates = (self.rounding_rate, self.scale_rate, self.bias_rate, self.penalty)
        if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
            raise InvalidInput(f"rates and penalty must be finite and not negative, not {rates}", where="tuning")
        if not self.rounding_rate:
            raise InvalidInput("a learning rate of 0 learns no rounding", where="rounding_rate")


@dataclass(frozen=True, eq=False)
class BlockSamples:
    """Value name -> (N, ...), all samples: what a block reads, in floats and as codes, and what it should give."""

    floats: Values
    codes: Values
    targets: Values

    def __len__(self) -> int:
        return len(next(iter(self.targets.values())))


class BlockTraining:
    """Roundings, scales and biases of one block.

    Args:
        block: at least one of its weights is in `rounding`.
        rounding: name of a weight -> its rounding.
        biases: names of the biases that may change.
        constants: name -> present value, of all constants of the network.
        samples: of this block.
        coded: name and value of an activation -> the value that its code stands for; itself where it has no codes.
        tuning: steps and rates.
        seed: of the order of samples and of `drop`.
    """

    def __init__(
        self,
        block: Block,
        rounding: Mapping[str, LearnedRounding],
        biases: list[str],
        constants: Values,
        samples: BlockSamples,
        coded: Coded,
        tuning: Tuning,
        seed: tuple[int, int],
    ) -> None:
        self._block, self._rounding, self._constants, self._coded = block, rounding, constants, coded
        self._samples, self._tuning = samples, tuning
        self._power = {name: float(value.square().mean()) or 1.0 for name, value in samples.targets.items()}
        self._bias_unit = math.sqrt(max(self._power.values()))
        self._bias_changes = {name: nn.Parameter(torch.zeros_like(constants[name])) for name in biases}
        self._random = np.random.default_rng(seed)
        self._nearest = self._overall({name: one.nearest() for name, one in rounding.items()})

    def steps(self) -> Iterator[float]:
        """Train; after each step, its error, where 1 is the error of rounding to nearest."""
        if self._nearest == 0:
            return
        tuning = self._tuning
        optimizer = self._optimizer()
        choosing = max(1, round(tuning.steps * (1 - _FIXED_SHARE)))
        for step in range(tuning.steps):
            is_fixed = step >= choosing
            done = (step - choosing, tuning.steps - choosing) if is_fixed else (step, choosing)
            for group in optimizer.param_groups:
                group["lr"] = group["highest"] * (schedule_factor("cosine", *done) if group["falls"] else 1)
            loss = error = self._error(self._learned(is_fixed), self._batch(), tuning.drop) / self._nearest
            beta = None if is_fixed else penalty_beta(step, choosing)
            if beta is not None:
                for one in self._rounding.values():
                    loss = loss + tuning.penalty * one.penalty(beta)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield float(error.detach())

    def result(self) -> dict[str, Constant]:
        """The new weights and biases; rounding to nearest and the old biases where training has made nothing better."""
        with torch.no_grad():
            final = self._learned(is_fixed=True)
        is_better = self._overall(final) < self._nearest
        found = {name: one.constant(nearest=not is_better) for name, one in self._rounding.items()}
        if is_better:
            found |= {name: Constant(final[name].numpy()) for name in self._bias_changes}
        return found

    def _optimizer(self) -> torch.optim.Optimizer:
        rounding, tuning = self._rounding.values(), self._tuning
        groups = [
            _group([one.choice for one in rounding], tuning.rounding_rate, falls=False),
            _group([one.stretch for one in rounding], tuning.scale_rate, falls=True),
            _group(list(self._bias_changes.values()), tuning.bias_rate, falls=True),
        ]
        return torch.optim.Adam([group for group in groups if group["params"] and group["lr"]])

    def _learned(self, is_fixed: bool) -> Values:
        weights = {name: one.hard() if is_fixed else one.soft() for name, one in self._rounding.items()}
        changes = self._bias_changes.items()
        return weights | {name: self._constants[name] + self._bias_unit * change for name, change in changes}

    def _batch(self) -> torch.Tensor:
        total = len(self._samples)
        return torch.from_numpy(self._random.choice(total, min(self._tuning.batch_size, total), replace=False))

    def _overall(self, learned: Values) -> float:
        total, error = len(self._samples), 0.0
        with torch.no_grad():
            for start in range(0, total, SAMPLES_AT_ONCE):
                rows = torch.arange(start, min(start + SAMPLES_AT_ONCE, total))
                error += float(self._error(learned, rows, 0.0)) * len(rows) / total
        return error

    def _error(self, learned: Values, rows: torch.Tensor, drop: float) -> torch.Tensor:
        """Squared error of the block's targets, relative to their power."""
        samples = self._samples
        inputs = {
            name: self._mixed(samples.codes[name][rows], samples.floats[name][rows], drop) for name in samples.codes
        }

        def change(name: str, value: torch.Tensor) -> torch.Tensor:
            coded = self._coded(name, value)
            return value if coded is value else self._mixed(coded, value, drop)

        made = run_nodes(self._block.nodes, {**self._constants, **inputs, **learned}, change)
        wanted = samples.targets.items()
        return torch.stack([(made[n] - y[rows]).square().mean() / self._power[n] for n, y in wanted]).sum()

    def _mixed(self, codes: torch.Tensor, floats: torch.Tensor, drop: float) -> torch.Tensor:
        threshold = round(256 * drop)
        if not threshold:
            return codes
        # bytes and a product: drawing floats and choosing by `where` take longer than the convolutions
        random = self._random.integers(0, 256, size=codes.shape, dtype=np.uint8)
        return torch.lerp(codes, floats, torch.from_numpy((random < threshold).astype(np.float32)))


def _group(parameters: list[nn.Parameter], rate: float, *, falls: bool) -> dict[str, Any]:
    """For Adam; a rate that falls does so twice, while roundings are chosen and when they are fixed."""
    return {"params": parameters, "lr": rate, "highest": rate, "falls": falls}
