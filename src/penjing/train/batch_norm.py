"""Running statistics of batch norms measured anew, as pruning or coarse weights shift what the norms see.

With every norm normalising by the batch at hand, the moments of all batches are pooled:

    mean = sum of x / n,    var = sum of (x - mean)^2 / (n - 1)    over all values of a channel

(Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3.1, PreciseBN.)
"""

from collections.abc import Iterable
from typing import overload

import numpy as np
import torch

from penjing.core.errors import CalibrationError
from penjing.ir.graph import Graph, Node
from penjing.train.module import TrainableGraph, trainable
from penjing.train.precision import Precision, autocast, for_convolutions
from penjing.train.samples import tensor

Batch = np.ndarray | tuple[np.ndarray, ...]


@overload
def reestimate_batch_norm(target: Graph, batches: Iterable[Batch], *, precision: Precision = ...) -> Graph: ...
@overload
def reestimate_batch_norm(
    target: TrainableGraph, batches: Iterable[Batch], *, precision: Precision = ...
) -> TrainableGraph: ...
def reestimate_batch_norm(
    target: Graph | TrainableGraph, batches: Iterable[Batch], *, precision: Precision = "float32"
) -> Graph | TrainableGraph:
    """Replace the statistics of all batch norms by those of `batches`: of a module in place, of a graph in a new one.

    Args:
        target: with batch norms that were not folded; without any it is returned as it is.
        batches: float32 inputs (N, ...), normalised as in training; a tuple per batch for several inputs. A few
            hundred samples do.
        precision: what layers compute in.

    Raises:
        CalibrationError: no batches, NaN or infinity, or a batch with a single value to a channel.
    """
    if isinstance(target, Graph):
        module = trainable(target)
        _measure(module, batches, precision)
        return module.to_graph()
    _measure(target, batches, precision)
    return target


class _Moments:
    """Count, mean and sum of squared deviations of each channel, pooled exactly (Chan et al., 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, x: torch.Tensor) -> None:
        rows = x.detach().to("cpu", torch.float64).movedim(1, -1).reshape(-1, x.shape[1])
        mean = rows.mean(0)
        total = self.count + len(rows)
        shift = mean - self.mean
        self.squares = self.squares + (rows - mean).square().sum(0) + shift.square() * self.count * len(rows) / total
        self.mean = self.mean + shift * len(rows) / total
        self.count = total


def _measure(module: TrainableGraph, batches: Iterable[Batch], precision: Precision) -> None:
    norms = module.batch_norms()
    if not norms:
        return
    moments: dict[tuple[str, str], _Moments] = {}
    saved = {name: module.constant(name).clone() for node in norms for name in node.inputs[3:5]}
    training, mode = module.training, module.batch_norm
    module.train()
    module.batch_norm = "train"
    try:
        _see(module, norms, batches, precision, moments)
    except BaseException:
        _assign(module, saved)
        raise
    finally:
        module.batch_norm = mode
        module.train(training)
    for (mean, var), seen in moments.items():
        _assign(module, {mean: seen.mean, var: seen.squares / max(seen.count - 1, 1)})


def _see(
    module: TrainableGraph,
    norms: list[Node],
    batches: Iterable[Batch],
    precision: Precision,
    moments: dict[tuple[str, str], _Moments],
) -> None:
    device = next(module.parameters()).device
    with module.watch(node.inputs[0] for node in norms) as watch, torch.no_grad(), autocast(precision, device):
        for batch in batches:
            arrays = batch if isinstance(batch, tuple) else (batch,)
            try:
                module(*(for_convolutions(tensor(array).to(device), precision) for array in arrays))
            except ValueError as error:
                raise CalibrationError(f"a batch cannot be normalised by itself: {error}", where="batches") from error
            for node in norms:
                moments.setdefault((node.inputs[3], node.inputs[4]), _Moments()).add(watch.values[node.inputs[0]])
    if not moments:
        raise CalibrationError("the calibration set is empty", hint="give at least one batch; 100 to 500 samples do")
    if not all(torch.isfinite(seen.squares).all() for seen in moments.values()):
        raise CalibrationError("NaN or infinity before a batch norm", hint="check the inputs and the weights")


def _assign(module: TrainableGraph, values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            module.constant(name).copy_(value)
