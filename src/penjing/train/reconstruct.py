"""Few-bit weights without labels: rounding is learned block by block on what the float network computes.

For each block in order (`train.blocks`), with x the activations that come out of the part already quantized, x' those of
the float network, and f the block:

    minimise over the roundings, scales and biases   |f~(x) - f(x')|^2 / |f_nearest(x) - f(x')|^2  +  penalty

(Li et al., "BRECQ", 2021, section 3.2; roundings and penalty: `train.rounding`.) Each element of x and of the codes in
the block is, with probability `drop`, that of the float activation instead (Wei et al., "QDrop", 2022, section 3.3).
The last fifth of the steps trains scales and biases alone, with every rounding fixed.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from penjing.core.errors import CalibrationError, InvalidGraph, InvalidInput, QuantizationError
from penjing.ir.graph import Graph, Node
from penjing.ir.inputs import named_inputs
from penjing.ir.types import Constant
from penjing.ops.operator import Operator
from penjing.train.blocks import Block, Granularity, Values, computed_codes, find_blocks, run_nodes
from penjing.train.rounding import FakeQuant, LearnedRounding, penalty_beta

Samples = np.ndarray | tuple[np.ndarray, ...]

_CHUNK = 128  # samples at a time where no gradient is needed
_FIXED_SHARE = 0.2  # of the steps, at the end, with fixed roundings


@dataclass(frozen=True)
class BlockProgress:
    """One step is done, numbers count from 1; `error` is that of the step, relative to rounding to nearest."""

    block: int
    blocks: int
    step: int
    steps: int
    error: float


@dataclass(frozen=True)
class Tuning:
    """How roundings are trained.

    Attributes:
        steps: per block, of `batch_size` samples each.
        batch_size: samples per step.
        drop: the probability of float activations, 0 (none) to 1.
        rounding_rate: Adam's learning rate of the roundings.
        scale_rate: of the logarithms of the scales; 0 keeps the scales of least squared error.
        bias_rate: of the biases, in units of the block's root-mean-square output; 0 keeps the biases.
        penalty: weight of the penalty on roundings that have not chosen, where 1 is the error of rounding to nearest.
    """

    steps: int = 1000
    batch_size: int = 32
    drop: float = 0.5
    rounding_rate: float = 1e-2
    scale_rate: float = 1e-3
    bias_rate: float = 1e-3
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise InvalidInput(f"{self.steps} steps of {self.batch_size} samples cannot be", where="steps, batch_size")
        if not 0 <= self.drop <= 1:
            raise InvalidInput(f"a probability lies in [0, 1], not {self.drop}", where="drop")
        rates = (self.rounding_rate, self.scale_rate, self.bias_rate, self.penalty)
        if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
            raise InvalidInput(f"rates and penalty must be finite and not negative, not {rates}", where="Tuning")


def reconstruct(
    graph: Graph,
    data: Samples | Iterable[Samples],
    *,
    bits: int | Mapping[str, int] = 4,
    granularity: Granularity = "block",
    ranges: Mapping[str, tuple[float, float]] | None = None,
    tuning: Tuning | None = None,
    seed: int = 0,
    progress: Callable[[BlockProgress], None] | None = None,
) -> Graph:
    """A graph like `graph` whose weights lie on grids of few bits, and whose biases are tuned to that.

    Args:
        graph: a float graph, batch norms folded (`api.clean`). Weights that lie on a grid already keep it.
        data: inputs, float32 (N, ...), normalised as in training; or batches of them. A tuple for several inputs. 500
            to 1,000 samples do, and all are kept in memory with the activations of a block.
        bits: 2 to 8, for all layers or by the name of the weight; a layer that is not named stays as it is.
        granularity: "block", or "layer" for layers one at a time.
        ranges: value name -> (low, high) that its u8 codes will cover; activations without one stay floats.
        tuning: steps and rates.
        seed: of the order of samples and of `drop`. The same seed gives the same graph, on one number of threads.
        progress: called after every step.

    Raises:
        InvalidInput: bits outside 2..8, a name that is no weight or no activation, samples that do not fit.
        CalibrationError: no samples, or NaN or infinity in an activation.
        QuantizationError: a weight with NaN or infinity.
        InvalidGraph: a graph that holds integers or states.
    """
    widths = _widths(graph, bits)
    learner = _Reconstruction(graph.copy(), widths, ranges or {}, tuning or Tuning(), seed)
    blocks = find_blocks(graph, granularity)
    source = _inputs(graph, data)
    floats, codes = source, {name: learner.coded(name, value) for name, value in source.items()}
    for i, block in enumerate(blocks):
        targets = learner.run(block.nodes, floats, original=True)
        for name in block.targets:
            if not bool(torch.isfinite(targets[name]).all()):
                raise CalibrationError("NaN or infinity in an activation", where=f"%{name}", hint="check the samples")
        if any(name in learner.pending for name in block.weights):
            for step, error in learner.learn(block, i, floats, codes, targets):
                if progress is not None:
                    progress(BlockProgress(i + 1, len(blocks), step, learner.tuning.steps, error))
        codes = learner.run(block.nodes, codes, original=False)
        needed = {name for later in blocks[i + 1 :] for node in later.nodes for name in node.inputs}
        floats = {name: value for name, value in targets.items() if name in needed}
        codes = {name: value for name, value in codes.items() if name in needed}
    return learner.graph


class _Reconstruction:
    """The graph as it is so far; `pending` are weights that still wait for their codes."""

    def __init__(
        self,
        graph: Graph,
        widths: dict[str, int],
        ranges: Mapping[str, tuple[float, float]],
        tuning: Tuning,
        seed: int,
    ) -> None:
        self.graph, self.tuning, self.pending = graph, tuning, widths
        self._seed = seed
        self._codes = _fake_quants(graph, ranges)
        self._original = {name: torch.tensor(constant.array) for name, constant in graph.constants.items()}
        self._present = dict(self._original)

    def coded(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """An activation as its codes have it."""
        return self._codes[name](value) if name in self._codes else value

    def run(self, nodes: Iterable[Node], values: Values, *, original: bool) -> Values:
        """`values` and all that `nodes` make of them, for all samples: of the given network or of the present one."""
        nodes = list(nodes)
        constants = self._original if original else self._present
        made = [name for node in nodes for name in node.outputs]
        parts: dict[str, list[torch.Tensor]] = {name: [] for name in made}
        with torch.inference_mode():
            for part in _chunks(values, _CHUNK):
                results = run_nodes(nodes, {**part, **constants}, (lambda _, x: x) if original else self.coded)
                for name in made:
                    parts[name].append(results[name])
        return {**values, **{name: torch.cat(found) for name, found in parts.items()}}

    def learn(
        self, block: Block, index: int, floats: Values, codes: Values, targets: Values
    ) -> Iterator[tuple[int, float]]:
        """Train the block's roundings and put the weights into the graph; yields each step and its error."""
        tuning = self.tuning
        chosen = np.random.default_rng([self._seed, index])
        noise = torch.Generator().manual_seed(int(chosen.integers(2**31)))
        rounding = {
            name: LearnedRounding(self.graph.constants[name].array, self.pending.pop(name), self._axis(block, name))
            for name in block.weights
            if name in self.pending
        }
        # clones, as inference tensors take no part in a training
        read = [n for n in {name: 0 for node in block.nodes for name in node.inputs} if n in codes]
        floats, codes = ({name: side[name].clone() for name in read} for side in (floats, codes))
        wanted = {name: targets[name].clone() for name in block.targets}
        unit = {name: 1 / float(value.square().mean() or 1) for name, value in wanted.items()}
        biases = self._biases(block, rounding, wanted)

        def error(constants: Values, rows: torch.Tensor | slice, drop: float) -> torch.Tensor:
            inputs = {name: self._dropped(codes[name][rows], floats[name][rows], drop, noise) for name in read}

            def change(name: str, value: torch.Tensor) -> torch.Tensor:
                return self._dropped(self.coded(name, value), value, drop, noise) if name in self._codes else value

            made = run_nodes(block.nodes, {**inputs, **constants}, change)
            losses = [(made[n] - wanted[n][rows]).square().mean() * unit[n] for n in block.targets]
            return torch.stack(losses).sum()

        def overall(constants: Values) -> float:
            total = len(next(iter(wanted.values())))
            with torch.no_grad():
                parts = [slice(i, min(i + _CHUNK, total)) for i in range(0, total, _CHUNK)]
                return sum(float(error(constants, p, 0.0)) * (p.stop - p.start) for p in parts) / total

        least = overall(self._present | {name: one.nearest() for name, one in rounding.items()})
        groups = [
            {"params": [one.choice for one in rounding.values()], "lr": tuning.rounding_rate},
            {"params": [one.stretch for one in rounding.values()], "lr": tuning.scale_rate},
            {"params": [value for value, _ in biases.values()], "lr": tuning.bias_rate},
        ]
        optimizer = torch.optim.Adam([group for group in groups if group["lr"] and group["params"]])
        rates = [group["lr"] for group in optimizer.param_groups]
        total, size = len(next(iter(wanted.values()))), tuning.batch_size
        learned = tuning.steps - int(tuning.steps * _FIXED_SHARE)
        for step in range(tuning.steps if least > 0 else 0):
            is_fixed = step >= learned
            done = step / learned if not is_fixed else (step - learned) / (tuning.steps - learned)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate if rate == tuning.rounding_rate else rate * 0.5 * (1 + math.cos(math.pi * done))
            constants = self._present | {n: one.hard() if is_fixed else one.soft() for n, one in rounding.items()}
            constants |= {n: self._present[n] + value * scale for n, (value, scale) in biases.items()}
            rows = torch.from_numpy(chosen.choice(total, min(size, total), replace=False))
            loss = found = error(constants, rows, tuning.drop) / least
            beta = None if is_fixed else penalty_beta(step, learned)
            if beta is not None:
                loss = loss + tuning.penalty * sum(one.penalty(beta) for one in rounding.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield step + 1, float(found.detach())
        with torch.no_grad():
            final = self._present | {n: one.hard() for n, one in rounding.items()}
            final |= {n: self._present[n] + value * scale for n, (value, scale) in biases.items()}
        self._after = overall(final)
        is_better = self._after < least
        self.log = getattr(self, "log", []) + [(block.targets[0], least, self._after)]
        for name, one in rounding.items():
            self._set(name, one.constant(nearest=not is_better))
        for name in biases if is_better else ():
            self._set(name, Constant(final[name].numpy()))

    def _set(self, name: str, constant: Constant) -> None:
        self.graph.set_constant(name, constant)
        self._present[name] = torch.tensor(constant.array)

    def _axis(self, block: Block, name: str) -> int:
        return next(n.op.weight_axis for n in block.nodes if isinstance(n.op, Operator) and name in n.inputs)

    def _biases(
        self, block: Block, rounding: Mapping[str, LearnedRounding], wanted: Values
    ) -> dict[str, tuple[torch.nn.Parameter, float]]:
        """Of the layers that are learned: a change to train, and its unit."""
        scale = max(float(value.square().mean().sqrt()) for value in wanted.values())
        users = self.graph.users()
        found = {}
        for node in block.nodes:
            op = node.op
            assert isinstance(op, Operator)
            if op.weight_input is None or op.bias_input is None or len(node.inputs) <= op.bias_input:
                continue
            name = node.inputs[op.bias_input]
            if node.inputs[op.weight_input] in rounding and name in self.graph.constants and len(users[name]) == 1:
                found[name] = torch.nn.Parameter(torch.zeros_like(self._present[name])), scale
        return found

    def _dropped(
        self, codes: torch.Tensor, floats: torch.Tensor, drop: float, noise: torch.Generator
    ) -> torch.Tensor:
        if not drop:
            return codes
        return torch.where(torch.rand(codes.shape, generator=noise) < drop, floats, codes)


def _widths(graph: Graph, bits: int | Mapping[str, int]) -> dict[str, int]:
    if graph.stage not in ("imported", "cleaned") or graph.states:
        raise InvalidGraph("only a float graph without states can be reconstructed", where=f"graph {graph.name}")
    weights = {
        node.inputs[node.op.weight_input]
        for node in graph.nodes
        if isinstance(node.op, Operator) and node.op.weight_input is not None
    }
    weights = {name for name in weights if name in graph.constants}
    named = bits if isinstance(bits, Mapping) else dict.fromkeys(weights, bits)
    for name, width in named.items():
        if name not in weights:
            raise InvalidInput(f"there is no layer with a weight {name!r}", where="bits")
        if not 2 <= width <= 8:
            raise InvalidInput(f"weights take 2 to 8 bits, not {width}", where=name)
        if not np.isfinite(graph.constants[name].array).all():
            raise QuantizationError("a weight holds NaN or infinity", where=name, hint="the training diverged")
    return {name: width for name, width in named.items() if graph.constants[name].quant is None}


def _fake_quants(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> dict[str, FakeQuant]:
    activations = set(graph.activations())
    for name, (low, high) in ranges.items():
        if name not in activations:
            raise InvalidInput(f"there is no activation {name!r}", where="ranges")
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise InvalidInput(f"a range of activations cannot be {low}..{high}", where=name)
    return {name: FakeQuant(*ranges[name]) for name in computed_codes(graph) if name in ranges}


def _inputs(graph: Graph, data: Samples | Iterable[Samples]) -> Values:
    batches = [data] if isinstance(data, (np.ndarray, tuple)) else list(data)
    checked = [named_inputs(graph, batch if isinstance(batch, tuple) else (batch,)) for batch in batches]
    if not sum(len(batch[graph.inputs[0]]) for batch in checked):
        raise CalibrationError("there are no samples to reconstruct on", hint="give 500 to 1000")
    joined = {name: np.concatenate([batch[name] for batch in checked]) for name in graph.inputs}
    for name, array in joined.items():
        if not np.isfinite(array).all():
            raise CalibrationError("NaN or infinity in the samples", where=f"%{name}")
    return {name: torch.tensor(array) for name, array in joined.items()}


def _chunks(values: Values, size: int) -> Iterator[Values]:
    total = len(next(iter(values.values())))
    for start in range(0, total, size):
        yield {name: value[start : start + size] for name, value in values.items()}
