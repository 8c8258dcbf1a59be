"""Where the input channels of a layer come from, if they can be renumbered: one maker, one reader, and between them
only what treats every channel alike or has a constant for each."""

from dataclasses import dataclass

from penjing.compress.prune.pattern_layers import flattened_input
from penjing.ir.graph import Graph, Node
from penjing.ops.layers import groups_of
from penjing.ops.operator import Operator

_ALIKE = frozenset(
    (
        *("relu", "relu6", "clamp", "leaky_relu", "hardsigmoid", "hardswish", "gelu", "sigmoid", "silu", "tanh"),
        *("identity", "max_pool1d", "avg_pool1d", "max_pool2d", "avg_pool2d"),
        *("adaptive_avg_pool", "adaptive_max_pool", "upsample_nearest", "upsample_linear"),
    )
)
_MAKERS = frozenset(("conv1d", "conv2d", "linear"))


@dataclass(frozen=True)
class Chain:
    """What has to follow when channels are renumbered.

    Attributes:
        maker: the value that the layer which makes the channels puts out.
        constants: names of constants with an entry along axis 0 for each channel.
    """

    maker: str
    constants: tuple[str, ...]

    def __str__(self) -> str:
        return f"with the channels of {self.maker}"


def chain_to(graph: Graph, reader: Node) -> Chain | str:
    """The chain that ends in the first input of `reader`, or why its channels cannot be renumbered."""
    assert isinstance(reader.op, Operator) and reader.op.weight_input is not None
    producers, users, sinks = graph.producers(), graph.users(), graph.sinks()
    if len(users[reader.inputs[reader.op.weight_input]]) > 1:
        return "its weight is shared with another layer"
    if reader.op.name == "linear" and graph.types[reader.inputs[0]].rank != 2:
        return "the features that it reads are not channels"
    constants: list[str] = []
    value, after = reader.inputs[0], reader
    while True:
        if len(users[value]) > 1 or value in sinks:
            return f"{value} has other readers"
        maker = producers.get(value)
        if maker is None:
            return "it reads an input of the graph"
        problem = _constants_of(graph, maker, after, constants)
        if problem is not None:
            return problem
        if maker.op.name in _MAKERS and groups_of(maker) == 1:
            break
        value, after = maker.inputs[0], maker
    if any(name not in graph.constants or len(users[name]) > 1 for name in constants):
        return f"weights of {maker.output} are computed or shared"
    return Chain(maker.output, tuple(constants))


def _constants_of(graph: Graph, maker: Node, after: Node, constants: list[str]) -> str | None:
    """Adds the constants of `maker` that have an entry for each channel; why it cannot be passed, else None."""
    groups = groups_of(maker)
    if maker.op.name in _MAKERS and groups == 1:
        if maker.op.name == "linear" and graph.types[maker.output].rank != 2:
            return f"the features of {maker.output} are not its channels"
        constants += [name for name in maker.inputs[1:] if name]
        return None
    if maker.op.name in ("conv1d", "conv2d") and groups == graph.types[maker.output].bounds[1]:
        if graph.types[maker.inputs[0]].bounds[1] != groups:
            return f"{maker.output} makes several channels of each"
        constants += [name for name in maker.inputs[1:] if name]
        return None
    if maker.op.name == "batch_norm":
        constants += [name for name in maker.inputs[1:] if name]
        return None
    if maker.op.name == "mean" and 1 not in maker.op.axes:  # type: ignore[attr-defined]
        return None
    if maker.op.name == "prelu" and graph.types[maker.inputs[1]].elements == 1:
        return None
    if maker.op.name == "reshape" and (after.op.name != "linear" or flattened_input(graph, after) is None):
        return f"channels do not come through {maker.output} in order"
    if maker.op.name in _ALIKE or maker.op.name == "reshape":
        return None
    return f"its channels come from {maker.op.name} ({maker.output})"
