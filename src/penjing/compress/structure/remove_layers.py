"""Fewer layers (层数减少): those leave whose absence the outputs feel least, and whose shape lets the network do so.

A layer of equal input and output shape becomes the identity, or, with samples, the best scale for each channel:

    y~_c = a_c x_c,    a_c = E[y_c x_c] / E[x_c^2]

(least squares, without a shift, so that `merge-layers` can put it into the next layer whatever that pads). A rectifier
behind an identity that is behind the same rectifier leaves with it: max(max(x, 0), 0) = max(x, 0).

The effect of a layer is measured, not guessed: the relative change of all outputs y over samples when it alone leaves,

    sqrt(sum |y~ - y|^2 / sum |y - mean y|^2)

1 is what a network that always answers the same would reach. Layers that leave together cost more than each alone;
fine-tune afterwards, best with the whole network as teacher.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.observe import Batch
from penjing.compress.structure.layers import least_harmful, readers_of_weights
from penjing.compress.structure.linear_map import (
    LinearMap,
    change_of_cost,
    layer_cost,
    layer_in_place,
    map_of,
    replace_node,
)
from penjing.compress.structure.moments import Moments
from penjing.core.errors import CalibrationError, InvalidInput, PruningError
from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Constant, Names
from penjing.ops.evaluate import evaluate
from penjing.ops.layers import check_names, float_weights
from penjing.ops.mul import Mul
from penjing.ops.operator import Cost, Operator


@dataclass(frozen=True)
class RemoveLayers(Pass):
    """Layers of equal input and output shape leave: those named, or the `count` or `ratio` of least effect.

    `effects` come from `removal_effects`, or from anywhere else; only a choice by `count` or `ratio` needs them. With
    `inputs`, from `collect_layer_inputs`, a scale for each channel stays behind.
    """

    name = "remove-layers"

    effects: Mapping[str, float] = field(default_factory=dict)
    layers: tuple[str, ...] | None = None
    count: int | None = None
    ratio: float | None = None
    inputs: Mapping[str, LayerInputs] | None = None

    def run(self, graph: Graph) -> PassResult:
        """A graph of the same inputs and outputs.

        Raises:
            InvalidInput: not one of `layers`, `count`, `ratio`, or one that does not fit; an effect that is no number.
            PruningError: no layer would be left.
            CalibrationError: `inputs` are those of another graph.
        """
        graph = graph.copy()
        check_names(self.layers or (), float_weights(graph), "layers")
        harm, changed, declined = {}, [], []
        layers = readers_of_weights(graph)
        for name, readers in layers.items():
            reason = _reason_to_stay(graph, readers, name, self.inputs)
            if reason is None and self.layers is None and name not in self.effects:
                reason = "its effect was not measured"
            if reason is None:
                harm[name] = _number(name, self.effects.get(name, 0.0))
            elif self.layers is None or name in self.layers:
                declined.append(Remark(name, reason))
        chosen = least_harmful(harm, self.layers, self.count, self.ratio)
        if chosen and len(chosen) == len(layers):
            raise PruningError(
                f"removing all {len(layers)} layers leaves no network", where=f"graph {graph.name}", hint="remove fewer"
            )
        if self.layers is None:
            kept = [name for name in harm if name not in chosen]
            declined += [Remark(name, f"others matter less than its effect of {harm[name]:.3f}") for name in kept]
        for name in chosen:
            effect = f"effect {harm[name]:.3f}, " if name in self.effects else ""
            changed.append(Remark(name, effect + _remove(graph, name, self.inputs)))
        return PassResult(graph, tuple(changed), tuple(declined))


def removal_effects(
    graph: Graph,
    batches: Iterable[Batch],
    inputs: Mapping[str, LayerInputs] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Weight name -> relative change of the outputs when its layer alone leaves, of all layers that can.

    The network runs once for each of them, and once whole.

    Args:
        graph: any float stage.
        batches: float32 inputs (N, ...), normalised as in training; a tuple per batch for several inputs.
        inputs: as `RemoveLayers` will be given them.
        progress: called with how many of how many layers are done.

    Raises:
        CalibrationError: no batches, or `inputs` of another graph.
    """
    held = [batch if isinstance(batch, tuple) else (batch,) for batch in batches]
    if not held:
        raise CalibrationError("the calibration set is empty", hint="give at least one batch; 100 to 500 samples do")
    whole = _outputs(graph, held)
    deviation = sum(float(np.square(y - y.mean(axis=0)).sum()) for y in whole) or 1.0
    names = [
        n for n, readers in readers_of_weights(graph).items() if _reason_to_stay(graph, readers, n, inputs) is None
    ]
    effects = {}
    for done, name in enumerate(names, 1):
        without = graph.copy()
        _remove(without, name, inputs)
        change = sum(float(np.square(a - b).sum()) for a, b in zip(_outputs(without, held), whole, strict=True))
        effects[name] = float(np.sqrt(change / deviation))
        if progress is not None:
            progress(done, len(names))
    return effects


def _outputs(graph: Graph, batches: Sequence[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    columns = zip(*(evaluate(graph, *batch) for batch in batches), strict=True)
    return [np.concatenate(column).astype(np.float64) for column in columns]


def _number(name: str, effect: float) -> float:
    if not effect >= 0:
        raise InvalidInput(f"an effect is a number of 0 or more, not {effect}", where=name)
    return float(effect)


def _reason_to_stay(
    graph: Graph, readers: Sequence[Node], name: str, inputs: Mapping[str, LayerInputs] | None
) -> str | None:
    for node in readers:
        layer = map_of(graph, node)
        if layer is None:
            return f"a {node.op.name} is no layer of constant weight and bias that this pass knows"
        x, y = graph.types[node.inputs[0]], graph.types[node.output]
        if x.shape != y.shape:
            return f"it makes {y.bounds[1:]} from {x.bounds[1:]}"
        if set(layer.stride) - {1}:
            return f"it has a stride of {layer.stride}"
        if inputs is not None and name not in inputs:
            return "nothing is known of what it reads: it is not among the inputs given"
        if inputs is not None and _own_tap(layer) is None:
            return "no tap lies at the output's own place"
    return None


def _own_tap(layer: LinearMap) -> int | None:
    """The index of the tap that sees the position that an output stands at."""
    taps = [b // d for b, d in zip(layer.before, layer.dilation, strict=True)]
    on_it = all(
        b % d == 0 and t < n for b, d, t, n in zip(layer.before, layer.dilation, taps, layer.kernel, strict=True)
    )
    return int(np.ravel_multi_index(taps, layer.kernel)) if on_it and taps else (0 if on_it else None)


def _remove(graph: Graph, name: str, inputs: Mapping[str, LayerInputs] | None) -> str:
    """Take out all layers of a weight; what a Remark says of it."""
    before, after = Cost(0, 0), Cost(0, 0)
    for output in [node.output for node in readers_of_weights(graph)[name]]:
        node = graph.producers()[output]  # looked up anew: one that left renames the input of the next
        before += layer_cost(graph, node)
        if inputs is None:
            _pass_on(graph, node)
            continue
        scaling = _scaling(graph, node, inputs[name])
        replace_node(graph, node, [scaling])
        after += layer_cost(graph, scaling)
    graph.drop_unused_constants()
    kind = "identity" if inputs is None else "one scale for each channel"
    return f"{kind} in its place: {change_of_cost(before, after)}"


def _pass_on(graph: Graph, node: Node) -> None:
    x = node.inputs[0]
    behind, maker = graph.users()[node.output], graph.producers().get(x)
    graph.replace_value(node.output, x)
    graph.remove_nodes([other for other in graph.nodes if other.outputs == node.outputs])
    if maker is None or len(behind) != 1:
        return
    (reader,) = behind
    if _clamp(reader) is not None and _clamp(reader) == _clamp(maker):
        graph.replace_value(reader.output, x)
        graph.remove_nodes([other for other in graph.nodes if other.outputs == reader.outputs])


def _clamp(node: Node) -> tuple[float, float] | None:
    return node.op.clamp_range() if isinstance(node.op, Operator) else None


def _scaling(graph: Graph, node: Node, seen: LayerInputs) -> Node:
    """The best scale for each channel in the place of a layer."""
    layer = map_of(graph, node)
    assert layer is not None
    outputs, k, groups = len(layer.weight), layer.weight[0].size, layer.groups
    Moments.of(seen, groups, k, node.inputs[1])  # refuses the sums of another layer
    taps, own = int(np.prod(layer.kernel)), _own_tap(layer)
    assert own is not None
    per_group = outputs // groups
    g, j = np.divmod(np.arange(outputs), per_group)
    column = j * taps + own
    rows = layer.weight.reshape(groups, per_group, k)
    across = (rows @ seen.gram)[g, j, column] + layer.bias * seen.mean[g, column]
    energy = seen.gram[g, column, column]
    scale = across / np.where(energy > 0, energy, 1)
    if not layer.kernel:
        stem = Names(set(graph.types)).fresh(f"{node.output}.scale")
        factor = graph.add_constant(stem, Constant(scale.astype(np.float32)))
        return Node(Mul(), (node.inputs[0], factor), node.outputs, node.source)
    ones, zeros = (1,) * len(layer.kernel), (0,) * len(layer.kernel)
    made = LinearMap(scale.reshape(-1, 1, *ones), np.zeros(outputs), ones, zeros, zeros, ones, outputs)
    return layer_in_place(graph, node, made, node.inputs[0])
