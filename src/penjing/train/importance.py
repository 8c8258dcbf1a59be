"""How much each weight matters to the loss, to first order, from gradients (for 裁剪).

    I = sum over batches of (w dL/dw)^2

what the loss would change by without the weight, squared. (Molchanov et al., "Importance estimation for neural network
pruning", 2019, section 3.1, equation 8.) Sums over groups of weights are the importance of the groups, equation 9.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.types import Constant
from penjing.ops.layers import float_weights
from penjing.train.fit import cross_entropy
from penjing.train.module import trainable
from penjing.train.samples import Samples, TrainingData
from penjing.train.training import Loss


def taylor_importance(
    graph: Graph,
    data: TrainingData | tuple[np.ndarray, np.ndarray],
    loss: Loss = cross_entropy,
    *,
    batch_size: int = 64,
    batches: int | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Name of a weight -> importances of its shape, for every layer; as the passes of `compress.prune` take them.

    The graph stays as it is, and runs as in evaluation.

    Args:
        graph: a float graph.
        data: samples and targets, as `fit` takes them; the training part of a data set.
        loss: mean over the batch, from inputs, outputs and targets.
        batch_size: samples whose gradients are summed before they are squared.
        batches: how many, from the start of the data; None takes all. A last batch may be short.

    Raises:
        InvalidInput: data that do not fit, no batch, or a loss or gradient that is not finite.
    """
    if batch_size < 1 or (batches is not None and batches < 1):
        raise InvalidInput(f"cannot take {batches} batches of {batch_size} samples", where="batches, batch_size")
    samples = Samples.of(data)
    dense, names = graph.copy(), float_weights(graph)
    for name in names:  # each weight for itself, whatever values it shares with others
        dense.set_constant(name, Constant(graph.constants[name].array))
    module = trainable(dense, keep_zeros=False, only=names).eval()
    weights = {name: module.constant(name) for name in names}
    sums = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
    starts = range(0, len(samples.x), batch_size)[:batches]
    for start in starts:
        x, y = samples.batch(np.arange(start, min(start + batch_size, len(samples.x))))
        gradients = torch.autograd.grad(loss(x, module(x), y), list(weights.values()), allow_unused=True)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            if gradient is not None:
                sums[name] += (weight.detach().double() * gradient.double()) ** 2
    for name, total in sums.items():
        if not bool(torch.isfinite(total).all()):
            raise InvalidInput("a gradient is NaN or infinite", where=name, hint="check the inputs' normalisation")
    return {name: total.numpy() for name, total in sums.items()}
