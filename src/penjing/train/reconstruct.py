"""Few-bit weights without labels: rounding is learned block by block on what the float network computes.

For each block f in order (`train.blocks`), with x' what the float network feeds it and x what the part that is already
quantized does:

    minimise over roundings, scales and biases   |f~(x) - f(x')|^2 / |f_nearest(x) - f(x')|^2  +  penalty

(Li et al., "BRECQ", 2021, section 3.2; roundings and penalty: `train.rounding`). With probability `drop`, an element of
x, and of the codes within the block, is the float activation instead (Wei et al., "QDrop", 2022). The last fifth of the
steps trains scales and biases alone, every rounding being fixed. A block where all that is no better than rounding to
nearest, on all samples, is rounded to nearest.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from penjing.core.errors import CalibrationError, InvalidGraph, InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.inputs import named_inputs
from penjing.ir.types import Constant
from penjing.ops.layers import check_finite, check_names, layer_nodes
from penjing.train.block_training import SAMPLES_AT_ONCE, BlockSamples, BlockTraining, Coded, Tuning
from penjing.train.blocks import Block, Granularity, Values, computed_codes, find_blocks, run_nodes
from penjing.train.rounding import FakeQuant, LearnedRounding

Samples = np.ndarray | tuple[np.ndarray, ...]


@dataclass(frozen=True)
class BlockProgress:
    """One step is done, numbers count from 1; `error` is that of the step, where 1 is that of rounding to nearest."""

    block: int
    blocks: int
    step: int
    steps: int
    error: float


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
    known: Mapping[str, Constant] | None = None,
    found: Callable[[Mapping[str, Constant]], None] | None = None,
) -> Graph:
    """A graph like `graph` whose weights lie on grids of few bits, and whose biases are tuned to that.

    Args:
        graph: a float graph, batch norms folded (`penjing.clean`). Weights that lie on a grid already keep it.
        data: inputs, float32 (N, ...), normalised as in training, or batches of them; tuples for several inputs. 500 to
            1,000 samples do. All are kept in memory, with the activations around one block.
        bits: 2 to 8, for all layers or by the name of the weight; a layer that is not named stays as it is.
        granularity: "block", or "layer" for one layer at a time.
        ranges: value name -> (low, high) that its u8 codes will cover; activations without one stay floats.
        tuning: steps and rates.
        seed: of the order of samples and of `drop`. The same seed gives the same graph, on one number of threads.
        progress: called after every step.
        known: what `found` was given by an interrupted call of the same arguments; its blocks are not trained again.
        found: called after every block with its new weights and biases, by name.

    Raises:
        InvalidInput: bits outside 2..8, a name that is no weight or no activation, samples that do not fit, or NaN or
            infinity in a weight.
        CalibrationError: no samples, or NaN or infinity in an activation.
        InvalidGraph: a graph that holds integers or states.
    """
    tuning = tuning or Tuning()
    network = _Network(graph, _widths(graph, bits), ranges or {}, known or {})
    blocks = find_blocks(graph, granularity)
    floats = _inputs(graph, data)
    codes = {name: network.coded(name, value) for name, value in floats.items()}
    for i, block in enumerate(blocks):
        floats_after = _run(block, floats, network.original, lambda _, value: value)
        _check_finite(block, floats_after)
        training = network.training(block, (floats, codes, floats_after), tuning, (seed, i))
        if training is not None:
            for step, error in enumerate(training.steps(), 1):
                if progress is not None:
                    progress(BlockProgress(i + 1, len(blocks), step, tuning.steps, error))
            result = training.result()
            network.set(result)
            if found is not None:
                found(result)
        codes = _run(block, codes, network.present, network.coded)
        needed = {name for later in blocks[i + 1 :] for node in later.nodes for name in node.inputs}
        floats = {name: value for name, value in floats_after.items() if name in needed}
        codes = {name: value for name, value in codes.items() if name in needed}
    return network.graph


class _Network:
    """The graph as it was given (`original` constants) and as it is so far (`present`)."""

    def __init__(
        self,
        graph: Graph,
        widths: dict[str, int],
        ranges: Mapping[str, tuple[float, float]],
        known: Mapping[str, Constant],
    ) -> None:
        self.graph = graph.copy()
        self.original = {name: torch.tensor(constant.array) for name, constant in graph.constants.items()}
        self.present = dict(self.original)
        self._pending = {name: width for name, width in widths.items() if name not in known}
        self._fake_quants = _fake_quants(graph, ranges)
        self.set(known)

    def coded(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """An activation as its codes have it."""
        return self._fake_quants[name](value) if name in self._fake_quants else value

    def training(
        self, block: Block, values: tuple[Values, Values, Values], tuning: Tuning, seed: tuple[int, int]
    ) -> BlockTraining | None:
        """Of the weights that still wait for their codes; None when none does."""
        axes = {name: op.weight_axis for name, _, op in layer_nodes(self.graph, block.nodes)}
        names = [name for name in block.weights if name in self._pending]
        if not names:
            return None
        rounding = {
            name: LearnedRounding(self.graph.constants[name].array, self._pending.pop(name), axes[name])
            for name in names
        }
        floats, codes, after = values
        read = {name for node in block.nodes for name in node.inputs} & codes.keys()
        samples = BlockSamples(
            {name: floats[name] for name in sorted(read)},
            {name: codes[name] for name in sorted(read)},
            {name: after[name] for name in block.targets},
        )
        biases = self._biases(block, rounding)
        return BlockTraining(block, rounding, biases, self.present, samples, self.coded, tuning, seed)

    def set(self, found: Mapping[str, Constant]) -> None:
        """Put constants in the place of those of the same names."""
        for name, constant in found.items():
            self.graph.set_constant(name, constant)
            self.present[name] = torch.tensor(constant.array)

    def _biases(self, block: Block, rounding: Mapping[str, LearnedRounding]) -> list[str]:
        """Those of layers with a learned weight that no other node reads."""
        users, found = self.graph.users(), []
        for weight, node, op in layer_nodes(self.graph, block.nodes):
            if op.bias_input is None or len(node.inputs) <= op.bias_input or weight not in rounding:
                continue
            name = node.inputs[op.bias_input]
            if name in self.graph.constants and len(users[name]) == 1:
                found.append(name)
        return found


def _run(block: Block, values: Values, constants: Values, change: Coded) -> Values:
    """`values` and all that leaves the block, for all samples."""
    made: dict[str, list[torch.Tensor]] = {name: [] for name in block.leaving}
    total = len(next(iter(values.values())))
    with torch.no_grad():
        for start in range(0, total, SAMPLES_AT_ONCE):
            part = {name: value[start : start + SAMPLES_AT_ONCE] for name, value in values.items()}
            results = run_nodes(block.nodes, {**constants, **part}, change)
            for name, found in made.items():
                found.append(results[name])
    return {**values, **{name: torch.cat(found) for name, found in made.items()}}


def _check_finite(block: Block, values: Values) -> None:
    for name in block.targets:
        if not bool(torch.isfinite(values[name]).all()):
            raise CalibrationError(
                "NaN or infinity in an activation", where=f"%{name}", hint="check the samples and their normalisation"
            )


def _widths(graph: Graph, bits: int | Mapping[str, int]) -> dict[str, int]:
    """Name of a weight that is to get codes -> their bits."""
    if graph.stage not in ("imported", "cleaned") or graph.states:
        raise InvalidGraph("only a float graph without states can be reconstructed", where=f"graph {graph.name}")
    weights = [layer.weight for layer in layer_nodes(graph)]
    widths = dict(bits) if isinstance(bits, Mapping) else dict.fromkeys(weights, bits)
    check_names(widths, weights, "bits")
    for name, width in widths.items():
        if width not in range(2, 9):
            raise InvalidInput(f"weights take 2 to 8 bits, not {width}", where=name)
        check_finite(graph.constants[name].array, name)
    return {name: width for name, width in widths.items() if graph.constants[name].quant is None}


def _fake_quants(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> dict[str, FakeQuant]:
    activations = set(graph.activations())
    for name, (low, high) in ranges.items():
        if name not in activations:
            raise InvalidInput(f"there is no activation {name!r}", where="ranges")
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise InvalidInput(f"a range of activations cannot be {low}..{high}", where=name)
    return {name: FakeQuant(*ranges[name]) for name in computed_codes(graph) if name in ranges}


def _inputs(graph: Graph, data: Samples | Iterable[Samples]) -> Values:
    batches = [data] if isinstance(data, np.ndarray | tuple) else list(data)
    checked = [named_inputs(graph, batch if isinstance(batch, tuple) else (batch,)) for batch in batches]
    if not checked or not all(array.size for batch in checked for array in batch.values()):
        raise CalibrationError("there are no samples to reconstruct on, or empty ones", hint="give 500 to 1,000")
    found = {}
    for name in graph.inputs:
        arrays = [batch[name] for batch in checked]
        if len({array.shape[1:] for array in arrays}) > 1:
            raise InvalidInput("samples differ in shape from batch to batch", where=f"%{name}", hint="use one shape")
        found[name] = torch.tensor(np.concatenate(arrays))
        if not bool(torch.isfinite(found[name]).all()):
            raise CalibrationError("NaN or infinity in the samples", where=f"%{name}")
    return found
