"""Static post-training quantization: every activation gets 8-bit codes from calibration, every weight symmetric codes.

Activations: asymmetric u8 per tensor. Weights: symmetric, narrow range -127..127, one scale per output channel; weights
that another pass has put on a grid (`ir.grid`), of however few codes, keep it. Biases: int32 with scale
s_x * s_w, so that they are added to the accumulator as they are. Layers that are kept in float32 keep weight and bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penjing.compress.quantize.affine_map import symmetric_per_channel
from penjing.compress.quantize.calibrate import Ranges
from penjing.compress.quantize.keep_float import kept_layers
from penjing.core.errors import QuantizationError, UnsupportedOp
from penjing.ir.graph import Graph, Node
from penjing.ir.grid import activation_parameters, grid_codes, round_to_grid
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Constant, DType, Names, Quant
from penjing.ops.floats import float_rule, float_values
from penjing.ops.fusion import computed_for_concat
from penjing.ops.layers import weight_of
from penjing.ops.operator import FloatRule, Operator, QuantRule, WeightInput

# leaves room for the sum of products: at most 2^30 of the 2^31 - 1 may be bias
_BIAS_LIMIT = 2.0**30
_BIAS_ALONE = 2.0**23  # a bias up to here is exact in float32, and as fine as float32 itself
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Give every activation an 8-bit quantization and turn weights and biases into integers.

    Attributes:
        ranges: of activations, by `calibrate`.
        keep_float: weights, or patterns such as 'head.*', whose layers are computed in float32.
    """

    name = "quantize-static"

    ranges: Ranges
    keep_float: tuple[str, ...] = ()

    def run(self, graph: Graph) -> PassResult:
        """A graph in stage `compressed`; float constants that operators read as they are stay.

        Raises:
            QuantizationError: an activation without a range, or a bias beyond int32.
            InvalidInput, UnsupportedOp: a layer to keep that there is not, or that has no form in float32.
        """
        graph = graph.copy()
        kept = kept_layers(graph, self.keep_float)
        quants = self._activations(graph)
        for name, joined in computed_for_concat(graph).items():
            quants[name] = quants[joined]
        for name, quant in quants.items():
            graph.types[name] = graph.types[name].with_quant(quant)
        for name in kept:  # on a grid or not
            graph.set_constant(name, Constant(graph.constants[name].array))
        changed = _Constants(graph, kept).quantize()
        graph.drop_unused_constants()
        graph.stage = "compressed"
        return PassResult(graph, tuple(changed))

    def _activations(self, graph: Graph) -> dict[str, Quant]:
        quants = {name: self._observed(name) for name in graph.real_inputs}
        for node in graph.nodes:
            assert isinstance(node.op, Operator)
            for i, output in enumerate(node.outputs):
                if graph.types[output].dtype is not DType.F32:
                    continue  # ids and positions are their own codes
                match node.op.quant_rule_of(i):
                    case QuantRule.OWN:
                        quants[output] = self._observed(output)
                    case QuantRule.FIXED:
                        quants[output] = _quant(*node.op.fixed_range())
                    case QuantRule.SAME:
                        source = graph.constants.get(node.inputs[0])
                        quants[output] = quants[node.inputs[0]] if source is None else _operand_quant(source.array)
        return quants

    def _observed(self, name: str) -> Quant:
        if name not in self.ranges.ranges:
            raise QuantizationError(f"%{name} was not calibrated", hint="calibrate this graph, after all other passes")
        return _quant(*self.ranges.ranges[name])


def _quant(low: float, high: float) -> Quant:
    scale, zero_point = activation_parameters(low, high)
    return Quant((float(scale),), zero_point)


def _operand_quant(array: np.ndarray) -> Quant:
    """Of a constant that takes part like an activation."""
    return _quant(float(array.min()), float(array.max()))


class _Constants:
    """Replaces float constants by integer ones, node by node, as a shared bias needs other codes in each place."""

    def __init__(self, graph: Graph, kept: Sequence[str]) -> None:
        self._graph = graph
        self._kept = frozenset(kept)
        self._floats = float_values(graph, kept)
        self._names = Names(set(graph.types))
        self._operands: dict[str, str] = {}

    def quantize(self) -> list[Remark]:
        remarks = []
        for i, node in enumerate(self._graph.nodes):
            assert isinstance(node.op, Operator)
            inputs = list(node.inputs)
            self._check_layer(node)
            if node.outputs[0] in self._floats:
                remarks += self._as_it_is(node)
                continue
            weights = {place.weight: place for place in node.op.weight_inputs()}
            biases = {place.bias for place in weights.values()}
            for position, name in enumerate(node.inputs):
                constant = self._graph.constants.get(name)
                if constant is None or position in node.op.parameter_inputs or constant.array.dtype != np.float32:
                    continue
                if position in biases:
                    continue
                if position in weights:
                    inputs[position], bias = self._weight(node, weights[position])
                    if bias:
                        inputs[weights[position].bias or 0] = bias
                    largest = int(np.abs(self._graph.constants[inputs[position]].array).max())
                    remarks.append(Remark(str(node), f"weight {name} in {max(largest.bit_length() + 1, 2)} bits"))
                else:
                    inputs[position] = self._operand(name)
            self._graph.nodes[i] = Node(node.op, tuple(inputs), node.outputs, node.source)
        return remarks

    def _as_it_is(self, node: Node) -> list[Remark]:
        """What is said of a node in float32; nothing of one that another does in passing."""
        weight = weight_of(node)
        if weight in self._kept:
            return [Remark(str(node), f"weight {weight} in float32: asked for")]
        follows = float_rule(node) is not FloatRule.NEVER
        return [Remark(str(node), "in float32: all that it reads is")] if follows else []

    def _check_layer(self, node: Node) -> None:
        """A layer's weight and bias are multiplied and added as integers, so they must be known now."""
        assert isinstance(node.op, Operator)
        places = [place for weight in node.op.weight_inputs() for place in (weight.weight, weight.bias)]
        for name in (node.inputs[place] for place in places if place is not None and place < len(node.inputs)):
            if name and name not in self._graph.constants:
                raise UnsupportedOp(
                    f"{node.op.name} with a computed weight or bias, %{name}",
                    where=str(node),
                    hint="make it a parameter of the layer, or compute it before the network is captured",
                )

    def _weight(self, node: Node, place: WeightInput) -> tuple[str, str]:
        """Names of the integer weight and bias ('' when it has none) of one weight of a node."""
        assert isinstance(node.op, Operator)
        name, axis = node.inputs[place.weight], node.op.weight_axis
        array = self._graph.constants[name].array
        codes, scales = self._on_grid(node, name, axis)
        has_bias = place.bias is not None and len(node.inputs) > place.bias
        bias = node.inputs[place.bias] if has_bias and place.bias is not None else ""
        source = self._graph.types[node.outputs[0] if place.of_output else node.inputs[0]].quant
        assert source is not None
        if not bias:
            return self._add(name, codes, Quant(tuple(map(float, scales)), 0, axis)), ""
        real = self._graph.constants[bias].array.astype(np.float64)
        scales = _fit_to_bias(scales, codes, axis, np.abs(real) / float(source.scale))
        if not np.isfinite(scales).all():
            raise QuantizationError(f"bias {bias} does not fit int32", where=str(node), hint="check its values")
        codes = round_to_grid(array, scales, axis)
        step = float(source.scale) * np.resize(scales.astype(np.float64), real.shape)
        bias_codes = np.rint(real / step)
        weight = self._add(name, codes, Quant(tuple(map(float, scales)), 0, axis))
        return weight, self._add(bias, bias_codes.astype(np.int32), None)

    def _on_grid(self, node: Node, name: str, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes and scales per output channel: those that the weight has, or new ones."""
        constant = self._graph.constants[name]
        if constant.quant is None:
            return symmetric_per_channel(constant.array, 8, axis)
        if constant.quant.axis not in (None, axis):
            raise QuantizationError(f"weight {name} has scales along axis {constant.quant.axis}", where=str(node))
        channels = constant.array.shape[axis]
        return grid_codes(constant), np.resize(constant.quant.scale_array(), channels)

    def _operand(self, name: str) -> str:
        """A constant that takes part like an activation: u8 codes over its own range."""
        if name not in self._operands:
            array = self._graph.constants[name].array
            quant = _operand_quant(array)
            codes = np.clip(np.rint(array.astype(np.float64) / float(quant.scale)) + quant.zero_point, 0, 255)
            self._operands[name] = self._add(name, codes.astype(DType.U8.numpy), quant)
        return self._operands[name]

    def _add(self, name: str, array: np.ndarray, quant: Quant | None) -> str:
        return self._graph.add_constant(self._names.fresh(f"{name}.q"), Constant(array, quant=quant))


def _fit_to_bias(scales: np.ndarray, codes: np.ndarray, axis: int, bias: np.ndarray) -> np.ndarray:
    """Weight scales with which the bias, |b| / s_x, becomes an int32 that is fine enough.

    A channel whose weights all but vanish beside its bias gets coarser weights rather than a bias beyond int32. One
    without any weights, as pruning makes them, is all bias, and its scale follows from that alone.
    """
    # all groups of a transposed convolution share their scales
    largest = bias.reshape(-1, scales.size).max(axis=0)
    silent = ~codes.any(axis=tuple(i for i in range(codes.ndim) if i != axis)) & (largest > 0)
    with np.errstate(over="ignore", under="ignore"):
        alone = np.maximum((largest / _BIAS_ALONE).astype(np.float32), _TINY)
        least = np.nextafter((largest / _BIAS_LIMIT).astype(np.float32), np.float32(np.inf))
    fitted: np.ndarray = np.where(silent, alone, np.maximum(scales, np.where(largest > 0, least, np.float32(0))))
    return fitted
