"""Smaller filters (滤波器大小减小): convolutions of odd kernel become 1x1.

Of the k = I * K * K values x that an output sees, the 1x1 convolution sees the I at the centre, x_c. The start from
which training recovers is the best there is for the samples, by least squares over their covariance C and mean m:

    V = W C[:, c] C[c, c]^-1,    b~ = b + W m - V m_c

(the normal equations of E |W x + b - V x_c - b~|^2). Padding, stride and crop keep the output's shape, and each output
where it was. A depthwise convolution becomes one scale for each channel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.structure.layers import least_harmful, readers_of_weights
from penjing.compress.structure.linear_map import (
    LinearMap,
    change_of_cost,
    extents_of,
    layer_cost,
    layer_in_place,
    map_of,
    replace_node,
)
from penjing.compress.structure.moments import Moments
from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Names
from penjing.ops.layers import check_names, float_weights
from penjing.ops.slice import Slice


@dataclass(frozen=True)
class ShrinkKernels(Pass):
    """Convolutions of odd kernel become 1x1: those named, or the `count` or `ratio` of them that lose least.

    `inputs` are those that `collect_layer_inputs` saw on this graph. Harm is judged for each layer alone; fine-tune
    afterwards.
    """

    name = "shrink-kernels"

    inputs: Mapping[str, LayerInputs]
    layers: tuple[str, ...] | None = None
    count: int | None = None
    ratio: float | None = None

    def run(self, graph: Graph) -> PassResult:
        """A graph of the same shapes, its layers under the names that they had.

        Raises:
            InvalidInput: not one of `layers`, `count`, `ratio`, or one that does not fit.
            CalibrationError: `inputs` are those of another graph.
        """
        graph = graph.copy()
        check_names(self.layers or (), float_weights(graph), "layers")
        fits: dict[str, _Fit] = {}
        declined = []
        for name, readers in readers_of_weights(graph).items():
            fit = self._fit(graph, name, readers)
            if isinstance(fit, _Fit):
                fits[name] = fit
            elif self.layers is None or name in self.layers:
                declined.append(Remark(name, fit))
        chosen = least_harmful({name: fit.error for name, fit in fits.items()}, self.layers, self.count, self.ratio)
        changed = [Remark(name, _shrink(graph, fits[name])) for name in chosen]
        if self.layers is None:
            kept = [(name, fit) for name, fit in fits.items() if name not in chosen]
            declined += [Remark(name, f"others lose less than its {fit.error:.3f}") for name, fit in kept]
        graph.drop_unused_constants()
        return PassResult(graph, tuple(changed), tuple(declined))

    def _fit(self, graph: Graph, name: str, readers: Sequence[Node]) -> "_Fit | str":
        if len(readers) > 1:
            return "its weight is shared with another layer"
        node = readers[0]
        whole = map_of(graph, node)
        if whole is None:
            return f"a {node.op.name} is no layer of constant weight and bias that this pass knows"
        if whole.pointwise:
            return "it sees one position already"
        if any(n % 2 == 0 for n in whole.kernel):
            return f"a kernel of {_by(whole.kernel)} has no centre"
        if name not in self.inputs:
            return "nothing is known of what it reads: it is not among the inputs given"
        fit = _least_squares(whole, self.inputs[name], name)
        cut = _crop(fit.shrunken, extents_of(graph, node.inputs[0]), extents_of(graph, node.output))
        return "its centre sees nothing but padding" if cut is None else replace(fit, node=node, crop=cut)


@dataclass(frozen=True, eq=False)
class _Fit:
    """The best 1x1 in the place of a layer; `crop` has (start, stop) of each spatial axis of the input."""

    shrunken: LinearMap
    error: float
    kernel: tuple[int, ...]
    node: Node | None = None
    crop: tuple[tuple[int, int], ...] = ()


def _least_squares(whole: LinearMap, seen: LayerInputs, name: str) -> _Fit:
    outputs, inputs, *kernel = whole.weight.shape
    taps = int(np.prod(kernel))
    rows = whole.weight.reshape(whole.groups, outputs // whole.groups, inputs * taps)
    moments = Moments.of(seen, whole.groups, inputs * taps, name)
    centre = np.arange(inputs) * taps + taps // 2
    c = moments.covariance
    best = rows @ c[:, :, centre] @ np.linalg.pinv(c[:, centre][:, :, centre], rcond=1e-10, hermitian=True)
    embedded = np.zeros_like(rows)
    embedded[:, :, centre] = best
    drift = np.einsum("gok,gk->go", rows - embedded, moments.mean).reshape(outputs)
    before = tuple(b - d * (n // 2) for b, d, n in zip(whole.before, whole.dilation, whole.kernel, strict=True))
    ones = (1,) * len(kernel)
    made = LinearMap(
        best.reshape(outputs, inputs, *ones), whole.bias + drift, whole.stride, before, before, ones, whole.groups
    )
    return _Fit(made, moments.relative_error(rows, embedded), whole.kernel)


def _crop(made: LinearMap, extents: Sequence[int], outputs: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
    """What of each axis the 1x1 needs, so that it makes exactly `outputs` positions; None where it needs nothing."""
    crop = []
    for before, stride, extent, output in zip(made.before, made.stride, extents, outputs, strict=True):
        start, pad = max(0, -before), max(0, before)
        reach = start + (output - 1) * stride - pad + 1  # behind the last position that is read
        would_be = (extent - start + pad - 1) // stride + 1
        stop = extent if would_be <= output else reach
        if not start < stop <= extent:
            return None
        crop.append((start, stop))
    return tuple(crop)


def _shrink(graph: Graph, fit: _Fit) -> str:
    node = fit.node
    assert node is not None
    before = layer_cost(graph, node)
    names, x, new = Names(set(graph.types)), node.inputs[0], []
    extents = list(extents_of(graph, x))
    for axis, (start, stop) in enumerate(fit.crop):
        if (start, stop) != (0, extents[axis]):
            x, source = names.fresh(f"{node.output}.crop"), x
            new.append(Node(Slice(axis + 2, start, stop), (source,), (x,), node.source))
            extents[axis] = stop - start
    padded = replace(fit.shrunken, before=tuple(max(0, b) for b in fit.shrunken.before))
    made = padded.fitted(tuple(extents), extents_of(graph, node.output))
    layer = layer_in_place(graph, node, made, x)
    replace_node(graph, node, [*new, layer])
    after = layer_cost(graph, layer)
    kind = ", one scale for each channel" if made.groups > 1 and made.weight.shape[1] == 1 else ""
    crop = ", its input cropped" if new else ""
    return (
        f"{_by(fit.kernel)} -> {_by(made.kernel)}{kind}{crop}: relative output error {fit.error:.3f}, "
        f"{change_of_cost(before, after)}"
    )


def _by(extents: Sequence[int]) -> str:
    return "x".join(map(str, extents))
