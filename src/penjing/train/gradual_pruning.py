"""Pruning on the way: masks that tighten while the network is trained.

The share of zeros rises from step t_0 to t_1 as `penjing.core.cubic` says, from s_i to s_f, and the training goes on at
s_f. What is zero stays zero.
"""

from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from penjing.core.cubic import cubic
from penjing.core.errors import InvalidInput, PruningError
from penjing.train.module import TrainableGraph
from penjing.train.training import callable_name

# (name -> weight, share to keep) -> name -> bool array, True where a weight stays; weights it leaves out stay whole
Masks = Callable[[Mapping[str, np.ndarray], float], Mapping[str, np.ndarray]]


class GradualPruning:
    """A hook for `fit(on_step=...)` that prunes a TrainableGraph step by step; masks travel in its checkpoints.

    Args:
        masks_for: from present weights and the share to keep, such as
            `lambda weights, density: global_ratio_masks(weights, 1 - density)`, or `masks_by_density` for patterns.
        sparsity: s_f above, in [0, 1).
        initial_sparsity: s_i above.
        begin: t_0 as a share of the training, 0..1.
        end: t_1 likewise; the rest of the training recovers.
        every: steps between two tightenings; the last is at t_1 in any case.

    Raises:
        PruningError: a sparsity outside [0, 1), or one that falls.
        InvalidInput: not 0 <= begin <= end < 1, or `every` below 1.
    """

    def __init__(
        self,
        masks_for: Masks,
        sparsity: float,
        *,
        initial_sparsity: float = 0.0,
        begin: float = 0.0,
        end: float = 0.6,
        every: int = 50,
    ) -> None:
        if not 0 <= initial_sparsity <= sparsity < 1:
            raise PruningError(
                f"sparsity must rise within [0, 1), not from {initial_sparsity} to {sparsity}", where="GradualPruning"
            )
        if not 0 <= begin <= end < 1:
            raise InvalidInput(
                f"begin ({begin}) and end ({end}) must be in order within [0, 1)", where="GradualPruning"
            )
        if every < 1:
            raise InvalidInput(f"every must be at least 1 step, not {every}", where="GradualPruning")
        self._masks_for = masks_for
        self._initial, self._final = initial_sparsity, sparsity
        self._begin, self._end, self._every = begin, end, every
        self._first = self._last = 0

    def identity(self) -> str:
        """The options."""
        return (
            f"{callable_name(self._masks_for)} {self._initial}..{self._final} "
            f"begin={self._begin} end={self._end} every={self._every}"
        )

    def prepare(self, module: nn.Module, steps: int) -> None:
        """See `StepHook`: masks of ones where a weight has none yet.

        Raises:
            InvalidInput: not a TrainableGraph.
        """
        graph = _graph(module)
        self._first, self._last = round(self._begin * steps), round(self._end * steps)
        for name in graph.maskable():
            graph.set_mask(name, graph.mask(name))

    def sparsity_at(self, step: int) -> float:
        """s(t) after `prepare`."""
        return cubic(step, self._first, self._last, self._initial, self._final)

    def before_step(self, module: nn.Module, step: int) -> None:
        """See `StepHook`: new masks at the steps for them.

        Raises:
            InvalidInput: `masks_for` names a weight that is not there, or gives another shape.
            PruningError: it leaves a layer without any weight.
        """
        is_due = self._first <= step < self._last and (step - self._first) % self._every == 0
        if not is_due and step != self._last:
            return
        graph = _graph(module)
        weights = {name: graph.constant(name).detach().cpu().numpy() for name in graph.maskable()}
        density = round(1 - self.sparsity_at(step), 12)  # so that 1 - density is the sparsity as it was written
        for name, keep in self._masks_for(weights, density).items():
            before = graph.mask(name) if name in weights else np.ones_like(keep)
            graph.set_mask(name, keep & before if keep.shape == before.shape else keep)
            if not graph.mask(name).any():
                raise PruningError("pruning on the way leaves this layer no weight", where=name)


def _graph(module: nn.Module) -> TrainableGraph:
    if not isinstance(module, TrainableGraph):
        raise InvalidInput(
            f"only a TrainableGraph can be pruned on the way, not {type(module).__name__}",
            hint="train penjing.trainable(graph)",
        )
    return module
