"""Random networks for property tests: 1 to 20 operators of the registry, wired at random, with random constants."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from penjing.ir.graph import Graph
from penjing.ir.text import print_graph
from penjing.ir.types import DType, Extent, Type
from penjing.ops.embedding import id_rows
from penjing.ops.operator import Operator
from penjing.testing.growth import BATCH, Growth
from penjing.testing.random_layers import batch_norm_of, flattened, grow, linear_of
from penjing.testing.sample_graphs import network_operators

MAX_LAYERS = 20
# what it makes of a constant has no batch, and kernels of layers know one sample
_NEVER = {"prefix"}
# drawn more often than others: what networks are made of, and what lowering fuses
_FREQUENT = ("conv2d",) * 5 + ("add",) * 4 + ("linear", "relu", "conv1d", "max_pool2d", "concat", "mul") * 2
_SELDOM = ("conv_transpose2d",) * 2  # few values have the rank that it takes
# layers that take an input of each rank
_WITH_WEIGHTS = {
    2: ("linear",),
    3: ("conv1d", "conv_transpose1d", "linear"),
    4: ("conv2d", "conv2d", "conv_transpose2d", "linear"),
}


def drawn_operators() -> list[str]:
    """Names of the operators that random graphs hold."""
    return [name for name in network_operators() if name not in _NEVER]


@dataclass(frozen=True, eq=False)
class RandomGraph:
    """A float graph and a batch of inputs to calibrate it with."""

    graph: Graph
    batch: tuple[np.ndarray, ...]

    def __repr__(self) -> str:
        spans = ", ".join(f"{x.min():g}..{x.max():g}" for x in self.batch)
        return f"{print_graph(self.graph)}calibrated on {spans}"


@st.composite
def float_graphs(draw: Any, names: Sequence[str] = (), max_layers: int = MAX_LAYERS) -> RandomGraph:
    """Graphs in stage `imported` with 1 to 3 inputs of rank 2 to 4; every value that nothing reads is an output.

    Args:
        draw: given by hypothesis.
        names: operators to draw from; all when empty.
        max_layers: how many layers at most; a few more nodes may come from fitting inputs to an operator.
    """
    growth = _seedling(draw)
    table = list(names) or [*_FREQUENT, *_SELDOM, *drawn_operators()]
    for _ in range(growth.number(1, max_layers)):
        if len(growth.graph.nodes) < max_layers:
            grow(growth, growth.choose(table))
    _choose_outputs(growth)
    return RandomGraph(growth.graph, _batch(growth))


@st.composite
def batch_norm_graphs(draw: Any) -> RandomGraph:
    """Layers with weights, each followed by a batch norm, with rectifiers, pools and short cuts between."""
    growth = _seedling(draw)
    for _ in range(growth.number(1, 5)):
        made = grow(growth, growth.choose(_WITH_WEIGHTS[growth.type(growth.pool[-1]).rank]))
        if made:
            twin = growth.graph.nodes[-1] if growth.number(0, 3) == 3 else None
            batch_norm_of(growth, growth.choose([made[0]] * 4 + growth.pool[-2:]))
            if twin is not None:  # another layer with the same weight
                assert isinstance(twin.op, Operator)
                growth.add(twin.op, *twin.inputs)
        grow(growth, growth.choose(("relu", "add", "max_pool2d")))
    _choose_outputs(growth)
    return RandomGraph(growth.graph, _batch(growth))


@st.composite
def flatten_graphs(draw: Any) -> RandomGraph:
    """Convolutions and pools, then one or two linear layers on all that they computed."""
    growth = _seedling(draw, ranks=(4, 3))
    for _ in range(growth.number(1, 3)):
        grow(
            growth,
            growth.choose(("conv2d", "conv1d", "conv2d", "conv1d", "max_pool2d", "permute", "adaptive_avg_pool")),
        )
    flat = flattened(growth, growth.pool[-1])
    for _ in range(growth.choose((1, 1, 2))):
        linear_of(growth, flat)
        grow(growth, growth.choose(("relu", "linear")))
    _choose_outputs(growth)
    return RandomGraph(growth.graph, _batch(growth))


def _seedling(draw: Any, ranks: tuple[int, ...] = (4, 3, 2)) -> Growth:
    growth = Growth(draw, Graph("random"))
    batches: list[Extent] = [BATCH, BATCH, BATCH, 2]
    batch = growth.choose(batches)
    rank = growth.choose(ranks)
    extents = tuple(growth.number(1, high) for high in (18, 9, 9)[: rank - 1])
    for i in range(growth.choose((1, 1, 1, 2, 3))):
        growth.pool.append(growth.graph.add_input(f"x{i}", Type((batch, *extents))))
    return growth


def _choose_outputs(growth: Growth) -> None:
    graph = growth.graph
    graph.drop_unused_constants()
    users = graph.users()
    ends = [name for name in growth.pool if not users[name]]
    extra = [growth.choose(growth.pool)] if growth.number(0, 3) == 3 else []
    graph.outputs = tuple(dict.fromkeys([*ends, *extra]))


def _batch(growth: Growth) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(growth.number(0, 2**16))
    spread, offset = growth.choose(((1.0, 0.0), (1.0, 3.0), (100.0, 0.0), (1e-3, 0.0), (0.0, 0.0), (0.0, 5.0)))
    arrays, rows = [], id_rows(growth.graph)
    for name in growth.graph.inputs:
        shape = growth.type(name).shape
        samples = shape[0] if isinstance(shape[0], int) else 3
        if growth.type(name).dtype is DType.S32:
            ids = rng.integers(0, rows[name], (samples, *growth.type(name).bounds[1:]))
            arrays.append(ids.astype(np.int32))
            continue
        made = rng.normal(size=(samples, *growth.type(name).bounds[1:])) * spread + offset
        arrays.append(made.astype(np.float32))
    return tuple(arrays)
