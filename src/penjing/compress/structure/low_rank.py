"""Low rank: one large linear map becomes two or three small ones with less work.

With y = W x + b, W (O, k), covariance C and mean m of x, the best map of rank r projects the outputs on the r principal
axes of their covariance, P (O, r) of W C W^T:

    W~ = P (P^T W),    b~ = b + (W - W~) m,    E |y - y~|^2 = the sum of the other eigenvalues

(Zhang, Zou, He and Sun, "Accelerating Very Deep Convolutional Networks", 2016, section 3.1; the same optimum as the SVD
of W C^(1/2), Chen et al., "DRONE", 2021, section 3.) Without samples C = 1, and this is the SVD of W. For a
convolution, k = I * K * K: P^T W is a convolution of the same kernel with r outputs, and P a 1x1 behind it; this is
form "channels". Both need r (k + O) of k O multiplications.

Form "tucker" also cuts the input channels: 1x1 to r1 of them, the kernel from r1 to r2, 1x1 to the outputs (Kim et al.,
"Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications", 2016, section 3). The
axes of the inputs are those of the weights, by HOSVD; the last 1x1 is the least-squares answer to the first two.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.structure.layers import readers_of_weights
from penjing.compress.structure.linear_map import (
    LinearMap,
    bias_name,
    extents_of,
    forget_constants,
    layer_node,
    map_of,
    replace_node,
)
from penjing.compress.structure.moments import Moments
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Names
from penjing.ops.layers import check_finite, check_names, float_weights

Rank = int | tuple[int, int]
_Float64 = NDArray[np.float64]
_SLACK = 1e-9  # an energy of 1 is reached up to rounding
_FILLED = 0.3  # from this share of zeros on, a Remark says that they are gone


@dataclass(frozen=True)
class LowRank(Pass):
    """Layers become products of smaller ones, where that saves multiplications.

    One of three says how far: `ranks` by layer (a pair for "tucker": inputs, outputs), the share `energy` of the output
    variance to keep, or `budget`, the share of each layer's multiplications to spend. The last two take all layers, or
    those in `layers`. `multiple` rounds ranks to what kernels compute at once (16 outputs, 4 inputs): up, and down
    under a budget; a layer that no rank brings within it stays. `inputs`, from `collect_layer_inputs`, let errors be
    those of the outputs, not of the weights.
    """

    name = "low-rank"

    ranks: Mapping[str, Rank] | None = None
    energy: float | None = None
    budget: float | None = None
    layers: tuple[str, ...] | None = None
    form: Literal["channels", "tucker"] = "channels"
    multiple: int = 1
    inputs: Mapping[str, LayerInputs] | None = None

    def run(self, graph: Graph) -> PassResult:
        """A graph in which layer `w` has become layers `w.down`, in the middle of three `w.core`, and `w.up`.

        Raises:
            InvalidInput: not one of `ranks`, `energy`, `budget`, one outside its range, a name that is no layer's, NaN.
            CalibrationError: `inputs` are those of another graph.
        """
        self._check(graph)
        graph = graph.copy()
        changed, declined = [], []
        for name, readers in readers_of_weights(graph).items():
            if name not in (self._named or (name,)):
                continue
            result = self._factor(graph, name, readers)
            if isinstance(result, _Factors):
                _replace(graph, name, readers[0], result.parts)
                changed.append(Remark(name, result.text))
            else:
                declined.append(Remark(name, result))
        graph.drop_unused_constants()
        return PassResult(graph, tuple(changed), tuple(declined))

    @property
    def _named(self) -> tuple[str, ...] | None:
        return self.layers if self.ranks is None else tuple(self.ranks)

    def _check(self, graph: Graph) -> None:
        check_names(self._named or (), float_weights(graph), "layers" if self.ranks is None else "ranks")
        if sum(option is not None for option in (self.ranks, self.energy, self.budget)) != 1:
            raise InvalidInput("give one of the three: ranks by layer, an energy, or a budget")
        if self.ranks is not None and self.layers is not None:
            raise InvalidInput("ranks name their layers: leave out `layers`")
        for share in (self.energy, self.budget):
            if share is not None and not 0 < share <= 1:
                raise InvalidInput(f"energy and budget are shares in (0, 1], not {share}")
        for rank in (self.ranks or {}).values():
            if min(rank if isinstance(rank, tuple) else (rank,)) < 1:
                raise InvalidInput(f"a rank is at least 1, not {rank}")
        if self.form not in ("channels", "tucker"):
            raise InvalidInput(f"a form is 'channels' or 'tucker', not {self.form!r}")
        if self.multiple < 1:
            raise InvalidInput(f"ranks are multiples of 1 or more, not {self.multiple}")

    def _factor(self, graph: Graph, name: str, readers: Sequence[Node]) -> "_Factors | str":
        if len(readers) > 1:
            return "its weight is shared with another layer"
        layer = map_of(graph, readers[0])
        if layer is None:
            return f"a {readers[0].op.name} is no layer of constant weight and bias that this pass knows"
        check_finite(layer.weight, name)
        if layer.groups > 1:
            return f"its {layer.groups} groups are small maps already"
        if not layer.weight.any():
            return "all its weights are zero"
        outputs, k = len(layer.weight), layer.weight[0].size
        seen = None if self.inputs is None else self.inputs.get(name)
        moments = Moments.white(1, k) if seen is None else Moments.of(seen, 1, k, name)
        tucker = self.form == "tucker" and not layer.pointwise
        task = _Task(layer, moments, _positions(graph, readers[0]), tucker)
        rank = self._rank(name, task)
        spent, whole = task.macs(rank), task.positions[1] * outputs * k
        if self.budget is not None and spent > self.budget * whole:
            return f"rank {_text(rank)}, the smallest, needs {spent} of {whole} MACs: more than the budget"
        factors = task.factors(rank)
        if spent >= whole:
            return f"rank {_text(rank)} needs {spent} MACs, the layer {whole}"
        return factors.told(f"rank {_text(rank)}", f"{whole} -> {spent} MACs{_lost_zeros(layer.weight)}")

    def _rank(self, name: str, task: "_Task") -> tuple[int, ...]:
        if self.ranks is not None:
            given = self.ranks[name]
            rank = given if isinstance(given, tuple) else (given,)
            if len(rank) != len(task.full):
                raise InvalidInput(f"{len(rank)} ranks for a layer that has {len(task.full)}", where=name)
            return task.limited(self._up(n) for n in rank)
        if self.energy is not None:
            return task.limited(self._up(n) for n in task.ranks_for(self.energy))
        assert self.budget is not None
        return task.rank_within(self.budget, self.multiple)

    def _up(self, rank: int) -> int:
        return -(-rank // self.multiple) * self.multiple


@dataclass(frozen=True, eq=False)
class _Factors:
    """The maps that take a layer's place, in order, and the relative output error that they make."""

    parts: tuple[LinearMap, ...]
    error: float
    text: str = ""

    def told(self, rank: str, work: str) -> "_Factors":
        """With the text of a Remark."""
        return replace(self, text=f"{rank}: relative output error {self.error:.3f}, {work}")


class _Task:
    """One layer to be cut: principal axes of its outputs, and of its inputs where `tucker`."""

    def __init__(self, layer: LinearMap, moments: Moments, positions: tuple[int, int], tucker: bool) -> None:
        self.layer, self.moments, self.positions, self.tucker = layer, moments, positions, tucker
        self.rows = layer.weight.reshape(len(layer.weight), -1)
        self._covariance = moments.covariance[0]
        self._outputs = _principal(self.rows @ self._covariance @ self.rows.T)
        by_input = np.moveaxis(layer.weight, 1, 0).reshape(layer.weight.shape[1], -1)
        self._inputs = _principal(by_input @ by_input.T) if tucker else None

    @property
    def full(self) -> tuple[int, ...]:
        """The largest ranks: of inputs and outputs, or of the one."""
        outputs, k = self.rows.shape
        return (min(outputs, k),) if self._inputs is None else (self.layer.weight.shape[1], min(outputs, k))

    def limited(self, ranks: Iterator[int]) -> tuple[int, ...]:
        """Ranks that are no larger than the full ones."""
        return tuple(min(rank, full) for rank, full in zip(ranks, self.full, strict=True))

    def ranks_for(self, energy: float) -> Iterator[int]:
        """The smallest ranks that keep the share `energy` of each variance."""
        for values, _ in (self._outputs,) if self._inputs is None else (self._inputs, self._outputs):
            share = np.cumsum(values) / values.sum() if values.sum() > 0 else np.ones(len(values))
            yield 1 + int(np.argmax(share >= energy - _SLACK))

    def rank_within(self, budget: float, multiple: int) -> tuple[int, ...]:
        """The largest ranks, in the proportion of the full ones, whose work is within; the smallest if none is."""
        whole = budget * self.positions[1] * self.rows.size
        candidates = [self._proportional(rank, multiple) for rank in range(self.full[-1], 0, -1)]
        return next((rank for rank in candidates if self.macs(rank) <= whole), candidates[-1])

    def _proportional(self, rank: int, multiple: int) -> tuple[int, ...]:
        exact = (rank * full / self.full[-1] for full in self.full)
        return self.limited(max(multiple, int(n) // multiple * multiple) for n in exact)

    def macs(self, rank: tuple[int, ...]) -> int:
        """Multiplications of the factors in one call."""
        before, behind = self.positions
        outputs, k = self.rows.shape
        if self._inputs is None:
            return behind * rank[0] * (k + outputs)
        inputs = self.layer.weight.shape[1]
        return int(before * inputs * rank[0] + behind * (rank[0] * rank[1] * k // inputs + rank[1] * outputs))

    def factors(self, rank: tuple[int, ...]) -> _Factors:
        """The maps of these ranks."""
        axes = self._outputs[1][:, : rank[-1]]
        core = np.tensordot(axes.T, self.layer.weight, 1)  # (r2, I, *kernel)
        down: tuple[LinearMap, ...] = ()
        if self._inputs is not None:
            inward = self._inputs[1][:, : rank[0]]
            core = np.moveaxis(np.tensordot(core, inward, (1, 0)), -1, 1)
            down = (_pointwise(inward.T, np.zeros(rank[0]), len(self.layer.kernel)),)
            seen = np.moveaxis(np.tensordot(core, inward, (1, 1)), -1, 1).reshape(rank[1], -1)
            along = seen @ self._covariance
            axes = self.rows @ along.T @ np.linalg.pinv(along @ seen.T, rcond=1e-10, hermitian=True)
        else:
            seen = core.reshape(rank[0], -1)
        changed = axes @ seen
        bias = self.layer.bias + (self.rows - changed) @ self.moments.mean[0]
        middle = replace(self.layer, weight=core, bias=np.zeros(rank[-1]))
        parts = (*down, middle, _pointwise(axes, bias, len(self.layer.kernel)))
        return _Factors(parts, self.moments.relative_error(self.rows[None], changed[None]))


def _principal(covariance: _Float64) -> tuple[_Float64, _Float64]:
    """Eigenvalues of a covariance, the largest first and none below 0, and their axes as columns."""
    values, axes = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.maximum(values[::-1], 0), axes[:, ::-1]


def _pointwise(weight: _Float64, bias: _Float64, rank: int) -> LinearMap:
    """A map of features: a linear layer, or a convolution of 1x1 for `rank` spatial axes."""
    ones, zeros = (1,) * rank, (0,) * rank
    return LinearMap(weight.reshape(*weight.shape, *ones), bias, ones, zeros, zeros, ones)


def _positions(graph: Graph, node: Node) -> tuple[int, int]:
    """How many positions of input and output a layer works on in one call."""
    x, y = graph.types[node.inputs[0]], graph.types[node.output]
    axis = 1 if extents_of(graph, node.inputs[0]) and node.op.name != "linear" else -1
    return x.elements // x.bounds[axis], y.elements // y.bounds[axis]


def _replace(graph: Graph, name: str, node: Node, parts: Sequence[LinearMap]) -> None:
    names = Names(set(graph.types))
    suffixes = ("down", "core", "up") if len(parts) == 3 else ("down", "up")
    forget_constants(graph, node)
    x, nodes = node.inputs[0], []
    for suffix, part in zip(suffixes, parts, strict=True):
        output = node.output if suffix == "up" else names.fresh(f"{node.output}.{suffix}")
        nodes.append(layer_node(graph, part, x, output, (f"{name}.{suffix}", bias_name(node)), node.source))
        x = output
    replace_node(graph, node, nodes)


def _lost_zeros(weight: _Float64) -> str:
    zeros = 1 - np.count_nonzero(weight) / weight.size
    return f"; {100 * zeros:.0f} % of its weights were zero and are not any more" if zeros >= _FILLED else ""


def _text(rank: tuple[int, ...]) -> str:
    return " x ".join(map(str, rank))
