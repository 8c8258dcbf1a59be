"""A convolution or linear layer as one linear map, so that maps can be added, chained and cut whatever their kind:

    y[o, i] = b[o] + sum over c, t of w[o, c, t] * x[c, i * stride + t * dilation - before]

i and t have a coordinate for each spatial axis: two in conv2d, one in conv1d, none in linear (where x may have other
axes in front). Beyond its ends x is zero. `groups` splits the channels into independent maps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penjing.ir.graph import Graph, Node
from penjing.ir.types import NOWHERE, Constant, Names, Source
from penjing.ops.conv1d import Conv1d
from penjing.ops.conv2d import Conv2d
from penjing.ops.linear import Linear
from penjing.ops.operator import Cost, Operator

Extents = tuple[int, ...]
_Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearMap:
    """weight (O, I / groups, *kernel), bias (O,); the tuples have an entry for each spatial axis."""

    weight: _Float64
    bias: _Float64
    stride: Extents = ()
    before: Extents = ()
    after: Extents = ()
    dilation: Extents = ()
    groups: int = 1

    @property
    def kernel(self) -> Extents:
        """Taps along each spatial axis."""
        return tuple(int(n) for n in self.weight.shape[2:])

    @property
    def pointwise(self) -> bool:
        """Whether an output sees one position only, as in 1x1 convolutions and linear layers."""
        return all(n == 1 for n in self.kernel)

    @property
    def padded(self) -> bool:
        """Whether it reads zeros beyond the ends of x."""
        return any(self.before) or any(self.after)

    @property
    def channel_axis(self) -> int:
        """Of x and y: 1 in images and sequences, the last in linear layers."""
        return 1 if self.kernel else -1

    @property
    def fits_float32(self) -> bool:
        """Whether its numbers can be those of constants."""
        largest = max(float(np.abs(self.weight).max()), float(np.abs(self.bias).max()))
        return largest <= float(np.finfo(np.float32).max)

    @property
    def operator(self) -> Linear | Conv1d | Conv2d:
        """The network's operator that computes it."""
        if not self.kernel:
            return Linear()
        if len(self.kernel) == 1:
            return Conv1d(self.stride[0], (self.before[0], self.after[0]), self.dilation[0], self.groups)
        (sy, sx), (dy, dx) = self.stride, self.dilation
        return Conv2d((sy, sx), (*self.before, *self.after), (dy, dx), self.groups)  # type: ignore[arg-type]

    def regrouped(self, groups: int) -> "LinearMap":
        """The same map in fewer groups, a divisor of the present ones: with zeros where channels are independent."""
        if groups == self.groups:
            return self
        outputs, inputs, *kernel = self.weight.shape
        together = self.groups // groups
        weight = np.zeros((outputs, inputs * together, *kernel))
        rows = outputs // self.groups
        for g in range(self.groups):
            columns = slice(g % together * inputs, (g % together + 1) * inputs)
            weight[g * rows : (g + 1) * rows, columns] = self.weight[g * rows : (g + 1) * rows]
        return replace(self, weight=weight, groups=groups)

    def fitted(self, extents: Extents, outputs: Extents) -> "LinearMap":
        """With as much padding behind as `outputs` positions need on an input of `extents`."""
        axes = zip(outputs, self.stride, self.dilation, self.kernel, strict=True)
        need = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in axes]
        after = tuple(max(0, n - x - b) for n, x, b in zip(need, extents, self.before, strict=True))
        return replace(self, after=after)


def map_of(graph: Graph, node: Node | None) -> LinearMap | None:
    """The map that a layer computes; None for other operators and where weight or bias are no float constants."""
    if node is None or not isinstance(node.op, Linear | Conv1d | Conv2d):
        return None
    names = [name for name in node.inputs[1:] if name]
    if any(name not in graph.constants or graph.constants[name].array.dtype != np.float32 for name in names):
        return None
    weight, *rest = (graph.constants[name].array.astype(np.float64) for name in names)
    bias = rest[0] if rest else np.zeros(len(weight))
    op = node.op
    if isinstance(op, Linear):
        return LinearMap(weight, bias)
    if isinstance(op, Conv1d):
        return LinearMap(weight, bias, (op.stride,), op.padding[:1], op.padding[1:], (op.dilation,), op.groups)
    return LinearMap(weight, bias, op.stride, op.padding[:2], op.padding[2:], op.dilation, op.groups)


def layer_node(
    graph: Graph, made: LinearMap, x: str, output: str, stems: tuple[str, str], source: Source = NOWHERE
) -> Node:
    """A node that computes `made` from `x`; it is not in the graph yet, but its constants are.

    They are called by the `stems` of weight and bias, or nearly so where these are taken. A bias of zeros is left out.
    """
    names = Names(set(graph.types))
    inputs = [x, graph.add_constant(names.fresh(stems[0]), Constant(made.weight.astype(np.float32)))]
    if made.bias.any():
        inputs.append(graph.add_constant(names.fresh(stems[1]), Constant(made.bias.astype(np.float32))))
    return Node(made.operator, tuple(inputs), (output,), source)


def layer_in_place(graph: Graph, old: Node, made: LinearMap, x: str) -> Node:
    """`layer_node` in the place of the layer `old`, which loses its constants; the new ones take their names."""
    forget_constants(graph, old)
    return layer_node(graph, made, x, old.output, (old.inputs[1], bias_name(old)), old.source)


def forget_constants(graph: Graph, layer: Node) -> None:
    """Remove the constants that nothing but `layer`, about to leave, reads."""
    users = graph.users()
    for name in set(layer.inputs):
        if name in graph.constants and users[name] == [layer]:
            del graph.constants[name], graph.types[name]


def bias_name(node: Node) -> str:
    """The name of a layer's bias, or the one that it would get."""
    return node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] else f"{node.output}.bias"


def replace_node(graph: Graph, old: Node, new: Sequence[Node]) -> None:
    """Put nodes in the place of one; the last makes what the old one made."""
    graph.replace_node(old, *new)
    for node in new:
        types = node.op.infer(*graph.input_types(node))
        graph.types.update(zip(node.outputs, types, strict=True))


def extents_of(graph: Graph, name: str) -> Extents:
    """Spatial extents of a value (N, C, ...)."""
    return graph.types[name].bounds[2:]


def only_reader(graph: Graph, name: str) -> Node | None:
    """The one node that reads a value, if nothing else does and it does not leave the graph."""
    readers = graph.users()[name]
    alone = len(readers) == 1 and readers[0].inputs.count(name) == 1 and name not in graph.sinks()
    return readers[0] if alone else None


def layer_cost(graph: Graph, node: Node) -> Cost:
    """Multiply-accumulates of one call, and bytes of the constants that it reads."""
    assert isinstance(node.op, Operator)
    macs = node.op.cost(graph.input_types(node), graph.output_types(node)).macs
    return Cost(macs, sum(graph.types[name].nbytes for name in node.inputs if name in graph.constants))


def change_of_cost(before: Cost, after: Cost) -> str:
    """What a Remark says of both."""
    return f"{before.macs} -> {after.macs} MACs, {before.bytes} -> {after.bytes} bytes"
