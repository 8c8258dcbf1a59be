"""Which layers gain from a pattern of zeros, and why others do not: the rule that pattern passes share.

Kernels with lists of weights take convolutions and linear layers without groups. They save nothing where few inputs
are read, as one product covers four of them, and little where a linear layer is called for one row, as opening its
lists costs about as much as 30 products of 4 inputs with 16 outputs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from penjing.compress.prune.magnitude import Mask
from penjing.compress.prune.patterns import Pattern, kept_energy
from penjing.core.errors import InvalidInput, PruningError
from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Remark
from penjing.ir.types import Constant
from penjing.ops.layers import groups_of, weight_macs, weight_nodes, weight_of
from penjing.ops.operator import Operator

_FEW_CHANNELS = 3
_FEW_FEATURES = 256  # of a linear layer: at 4:16 its lists pay from about here on


@dataclass(frozen=True, eq=False)
class PatternLayer:
    """A layer by its weight.

    Attributes:
        name: of the constant.
        weight: float32 (O, ...), or with another order of axes if `impossible`.
        view: the shape of the weight in which its rows are as a kernel reads them (`compress.prune.patterns`): a linear
            layer behind a flatten reads channels innermost, as a convolution does: (O, C, H * W).
        node: the first that reads it.
        macs: multiply-accumulates of one sample in all layers that read it.
        reason: why the layer gains nothing from a pattern; None when it gains.
        impossible: why it cannot have a pattern at all; None when it can.
    """

    name: str
    weight: np.ndarray
    view: tuple[int, ...]
    node: Node
    macs: int
    reason: str | None
    impossible: str | None

    def mask(self, pattern: Pattern, importance: np.ndarray | None) -> Mask:
        """Which weights `pattern` keeps, in the weight's shape."""
        seen = self.weight.reshape(self.view)
        given = None if importance is None else self.seen(importance)
        return pattern.mask(seen, given, self.name).reshape(self.weight.shape)

    def seen(self, values: np.ndarray) -> np.ndarray:
        """An array of the weight's shape, in the shape of `view`.

        Raises:
            InvalidInput: another shape.
        """
        if np.shape(values) != self.weight.shape:
            raise InvalidInput(
                f"importances of shape {np.shape(values)} for weights of shape {self.weight.shape}", where=self.name
            )
        return np.reshape(values, self.view)


def pattern_layers(graph: Graph) -> dict[str, PatternLayer]:
    """Name of a weight constant -> its layer, for every convolution, linear and recurrent layer with float weights.

    Raises:
        PruningError: there are none.
    """
    found: dict[str, PatternLayer] = {}
    for found_weight in weight_nodes(graph):
        name, node, _, _ = found_weight
        constant = graph.constants[name]
        if constant.array.dtype != np.float32:
            continue
        macs = weight_macs(graph, found_weight)
        if name in found:
            found[name] = replace(found[name], macs=found[name].macs + macs)
            continue
        impossible = _impossible(node, constant.array)
        reason = impossible or _no_gain(graph, node, constant.array)
        view = _view(graph, node, constant.array.shape)
        found[name] = PatternLayer(name, constant.array, view, node, macs, reason, impossible)
    if not found:
        raise PruningError("no layer has a weight to prune", where=f"graph {graph.name}")
    return found


def chosen_layers(graph: Graph, named: Iterable[str]) -> tuple[list[PatternLayer], list[Remark]]:
    """Layers to prune: those that gain, and those that are named; with a remark for each that is left alone.

    Raises:
        PruningError: no layer at all, or a name that is none of a layer that could be pruned.
    """
    layers, names = pattern_layers(graph), set(named)
    for name in sorted(names):
        if name not in layers:
            raise PruningError(
                f"there is no layer with the weight {name!r}", hint=f"there are: {', '.join(sorted(layers))}"
            )
        if layers[name].impossible:
            raise PruningError(f"this layer cannot have a pattern: {layers[name].impossible}", where=name)
    taken, declined = [], []
    for name, layer in layers.items():
        if not layer.weight.any():
            declined.append(Remark(name, "all its weights are zero"))
        elif layer.reason is not None and name not in names:
            declined.append(Remark(name, layer.reason))
        else:
            taken.append(layer)
    return taken, declined


def importance_of(given: Mapping[str, np.ndarray] | None, name: str) -> np.ndarray | None:
    """The importances given for a layer.

    Raises:
        InvalidInput: importances were given, but none for this layer.
    """
    if given is None:
        return None
    if name not in given:
        raise InvalidInput("importances were given, but none for this layer", where=name)
    return given[name]


def prune_by_mask(graph: Graph, layer: PatternLayer, mask: Mask, what: str) -> tuple[Remark, bool]:
    """Zero what the mask leaves out, in place; a remark, and whether anything changed."""
    if (mask == (layer.weight != 0)).all():
        return Remark(layer.name, f"{what} is met already, {_density(mask)}"), False
    graph.set_constant(
        layer.name, Constant(np.where(mask, layer.weight, np.float32(0)), graph.constants[layer.name].encoding)
    )
    return Remark(
        layer.name, f"{what}: {_density(mask)}, {100 * kept_energy(layer.weight, mask):.1f} % of energy"
    ), True


def _density(mask: Mask) -> str:
    return f"{100 * np.count_nonzero(mask) / mask.size:.1f} % of {mask.size} weights stay"


def _view(graph: Graph, node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    flattened = flattened_input(graph, node)
    if flattened is None:
        return shape
    channels = graph.types[flattened].bounds[1]
    return (shape[0], channels, shape[1] // channels)


def flattened_input(graph: Graph, node: Node) -> str | None:
    """The images (N, C, H, W) that a linear layer reads flattened, if they stand with channels innermost."""
    producers = graph.producers()
    flatten = producers.get(node.inputs[0])
    if node.op.name != "linear" or flatten is None or flatten.op.name != "reshape":
        return None
    images = graph.types[flatten.inputs[0]]
    if images.rank != 4 or graph.types[flatten.output].bounds[1:] != (images.elements // images.bounds[0],):
        return None
    # an input of the graph stands as it was given, until a layer has read it
    maker = producers.get(flatten.inputs[0])
    while maker is not None and not weight_of(maker):
        maker = producers.get(maker.inputs[0])
    return None if maker is None else flatten.inputs[0]


def _impossible(node: Node, weight: np.ndarray) -> str | None:
    assert isinstance(node.op, Operator)
    if node.op.weight_axis != 0 or weight.ndim not in (2, 3, 4):
        return f"no kernel leaves out zeros of {node.op.name}"
    return None


def _no_gain(graph: Graph, node: Node, weight: np.ndarray) -> str | None:
    if not weight_of(node):
        return f"no kernel of {node.op.name} leaves out zeros: they shrink the file, not the time"
    if groups_of(node) > 1:
        return "it has groups: no kernel leaves out its zeros"
    if node.op.name != "linear":
        few = weight.shape[1] <= _FEW_CHANNELS
        return f"it reads {weight.shape[1]} channels: one product covers four" if few else None
    rows = graph.types[node.output].elements // weight.shape[0]
    if rows == 1 and weight.shape[1] < _FEW_FEATURES:
        return f"one row of {weight.shape[1]} inputs is as fast dense"
    return None
