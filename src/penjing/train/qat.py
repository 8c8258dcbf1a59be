"""Quantization-aware training: the network as its integer program will compute it, and steps that are learned.

    w^ = s clamp(rne(w / s), -top, top),   top = 2^(bits - 1) - 1,   one s per output channel (per tensor where few
                                                                     values are shared); 2 bits are -1, 0, 1
    x^ = s (clamp(rne(x / s) + z, 0, 255) - z),   one s per activation, z such that zero is a code

Activations are rounded where the program rounds them and nowhere else (`rounded_values`). Their z stays what
calibration made it, and a range grows and shrinks about zero by its s. Biases are rounded to multiples of s_x s_w.
Inside a recurrent layer, gates and states are rounded at every step (`recurrent_steps`).
Gradients are those of learned step size quantization (`fake_quantize`). Weights that are zero stay zero.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from penjing.core.errors import InvalidInput, QuantizationError
from penjing.ir.graph import Graph, Node
from penjing.ir.grid import activation_parameters, least_squares_scales, on_grid
from penjing.ir.types import Constant, Encoding
from penjing.ops.layers import check_finite, check_names, float_weights, weight_nodes
from penjing.ops.operator import Operator
from penjing.ops.recurrent import Recurrent
from penjing.train.fake_quantize import StepSizes, fake_quantize
from penjing.train.module import BatchNormMode, TrainableGraph
from penjing.train.recurrent_steps import rounded_steps
from penjing.train.rounded_values import rounded_values

TOP_ACTIVATION = 255
_TINY = float(np.finfo(np.float32).tiny)
_Range = tuple[float, float]


class QuantizedGraph(TrainableGraph):
    """A TrainableGraph that rounds weights and activations on the way.

    `to_graph()` gives weights on their grids, and `ranges` what `quantize-static` needs for the activations. The same
    numbers come out of the module and of the program, but for float sums in another order.
    """

    def __init__(
        self,
        graph: Graph,
        ranges: Mapping[str, _Range],
        *,
        bits: int | Mapping[str, int] = 8,
        keep_zeros: bool = True,
        batch_norm: BatchNormMode = "frozen",
    ) -> None:
        super().__init__(graph, keep_zeros=keep_zeros, batch_norm=batch_norm)
        self._initial = dict(ranges)
        rounded = rounded_values(graph)
        self._step_of, self._source = rounded.learned, rounded.source
        self._fixed = {name: activation_parameters(*range_) for name, range_ in rounded.fixed.items()}
        self._zero_points: dict[str, int] = {}
        self._tops = {name: 2 ** (n - 1) - 1 for name, n in _bits(list(float_weights(graph)), bits).items()}
        self._axes = {name: _scale_axis(graph, name) for name in self._tops}
        self._like_activations = _like_activations(graph)
        self._step_keys: dict[str, str] = {}
        self.steps = nn.ModuleDict()
        for name, top in self._tops.items():
            check_finite(graph.constants[name].array, name)
            start = _first_weight_steps(graph.constants[name], self._axes[name], top)
            shared = graph.constants[name].array.size // start.size
            steps = StepSizes(torch.from_numpy(start), shared=shared, low=-top, high=top)
            self._add_steps(name, steps)
        for name in dict.fromkeys(rounded.learned.values()):
            if name not in ranges:
                raise QuantizationError(f"%{name} was not calibrated", hint="calibrate this very graph")
            step, zero = activation_parameters(*ranges[name])
            features = math.prod(graph.types[name].bounds[1:])
            self._zero_points[name] = zero
            steps = StepSizes(torch.tensor(step), shared=features, low=-zero, high=TOP_ACTIVATION - zero)
            self._add_steps(name, steps)

    def _add_steps(self, name: str, steps: StepSizes) -> None:
        self._step_keys[name] = f"s{len(self._step_keys)}"
        self.steps[self._step_keys[name]] = steps

    def _steps(self, name: str) -> StepSizes:
        steps = self.steps[self._step_keys[name]]
        assert isinstance(steps, StepSizes)
        return steps

    def step_sizes(self, name: str) -> torch.Tensor:
        """The present steps of a weight (broadcasting against it) or of an activation (a scalar)."""
        return self._steps(name)().detach()

    @property
    def ranges(self) -> dict[str, _Range]:
        """Activation -> (low, high) as learned, for `Ranges`; those that are never rounded keep what was given."""
        learned = {}
        for name, zero_point in self._zero_points.items():
            step = float(self.step_sizes(name))
            learned[name] = (-zero_point * step, (TOP_ACTIVATION - zero_point) * step)
        return self._initial | learned

    def to_graph(self) -> Graph:
        """As `TrainableGraph.to_graph`, with every weight of a layer on its grid."""
        graph = super().to_graph()
        for name in self._tops:
            codes = self._steps(name).codes(self.constant(name)).detach().cpu().numpy().astype(np.int8)
            scales = self.step_sizes(name).reshape(-1).cpu().numpy()
            graph.set_constant(name, on_grid(codes, scales, self._axes[name], graph.constants[name].encoding))
        return graph

    def _constant_operand(self, name: str) -> torch.Tensor:
        value = self.constant(name)
        if name in self._tops:
            return self._steps(name).round(value)
        if name in self._like_activations:
            step, zero_point = _step_of_constant(value)
            return _round_activation(value, torch.tensor(step, device=value.device), zero_point)
        return value

    def _operands(self, node: Node, values: Mapping[str, torch.Tensor]) -> list[torch.Tensor | None]:
        operands = super()._operands(node, values)
        assert isinstance(node.op, Operator)
        for place in node.op.weight_inputs():
            if place.bias is None or len(operands) <= place.bias:
                continue
            bias, weight = operands[place.bias], node.inputs[place.weight]
            if bias is not None and weight in self._tops and node.inputs[place.bias] in self._graph.constants:
                source = node.outputs[0] if place.of_output else node.inputs[0]
                steps = self._input_step(source) * self.step_sizes(weight).reshape(-1).double()
                operands[place.bias] = _round_bias(bias, steps)
        return operands

    def _results(self, node: Node, values: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        if not isinstance(node.op, Recurrent):
            return super()._results(node, values)
        y = node.outputs[0]
        return rounded_steps(node.op, self._operands(node, values), lambda h: self._activation(y, h))

    def _input_step(self, name: str) -> float:
        source = self._source[name]
        if source in self._graph.constants:
            return float(_step_of_constant(self.constant(source))[0])
        if source in self._fixed:
            return float(self._fixed[source][0])
        return float(self.step_sizes(self._step_of[source]))

    def _activation(self, name: str, value: torch.Tensor) -> torch.Tensor:
        if name in self._fixed:
            step, zero_point = self._fixed[name]
            return _round_activation(value, torch.tensor(step, device=value.device), zero_point)
        if name in self._step_of:
            return self._steps(self._step_of[name]).round(value)
        return value


def quantization_aware(
    graph: Graph,
    ranges: Mapping[str, _Range],
    *,
    bits: int | Mapping[str, int] = 8,
    keep_zeros: bool = True,
    batch_norm: BatchNormMode = "frozen",
) -> QuantizedGraph:
    """`graph` as a module that learns to be quantized.

    Args:
        graph: a float graph, after all passes that change its structure; weights on a grid start from its steps.
        ranges: activation -> (low, high) as `calibrate(graph, ...).ranges` gives it.
        bits: 2 to 8 for the weights, of all layers or by the name of a weight; what is not named gets 8.
        keep_zeros: as in `trainable`.
        batch_norm: as in `trainable`.

    Raises:
        InvalidInput: bits outside 2..8 or of a weight that is not there, or NaN or infinity in a weight.
        QuantizationError: an activation without a range.
    """
    return QuantizedGraph(graph, ranges, bits=bits, keep_zeros=keep_zeros, batch_norm=batch_norm)


def _step_of_constant(value: torch.Tensor) -> tuple[np.float32, int]:
    return activation_parameters(float(value.detach().min()), float(value.detach().max()))


def _round_bias(bias: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """To multiples of `steps`, float64 (n,), which groups of a transposed convolution share; straight through."""
    each = steps.repeat(len(bias) // len(steps))
    rounded = (bias.detach() / each).round() * each
    return bias + (rounded.to(bias.dtype) - bias).detach()


def _round_activation(value: torch.Tensor, step: torch.Tensor, zero_point: int) -> torch.Tensor:
    return fake_quantize(value, step, -zero_point, TOP_ACTIVATION - zero_point)


def _bits(weights: list[str], bits: int | Mapping[str, int]) -> dict[str, int]:
    wanted = dict.fromkeys(weights, bits) if isinstance(bits, int) else dict.fromkeys(weights, 8) | dict(bits)
    check_names(wanted, weights, "bits")
    for name, n in wanted.items():
        if not 2 <= n <= 8:
            raise InvalidInput(f"weights take 2 to 8 bits, not {n}", where=name)
    return wanted


def _scale_axis(graph: Graph, name: str) -> int | None:
    """Of the output channels; None for one step for all, where few values are shared."""
    constant = graph.constants[name]
    if constant.encoding is Encoding.CODEBOOK or (constant.quant is not None and constant.quant.axis is None):
        return None
    axes = {weight.op.weight_axis for weight in weight_nodes(graph) if weight.weight == name}
    if len(axes) > 1:
        raise QuantizationError(f"weight {name} is read along different axes", hint="give each layer its own copy")
    return axes.pop()


def _like_activations(graph: Graph) -> set[str]:
    """Float constants that take part like activations: neither weight nor bias nor parameter of any node."""
    names = set()
    for node in graph.nodes:
        assert isinstance(node.op, Operator)
        weights = node.op.weight_inputs()
        parameters = {place for weight in weights for place in (weight.weight, weight.bias)} | {
            *node.op.parameter_inputs
        }
        names |= {name for i, name in enumerate(node.inputs) if name in graph.constants and i not in parameters}
    return {name for name in names if graph.constants[name].array.dtype == np.float32}


def _first_weight_steps(constant: Constant, axis: int | None, top: int) -> np.ndarray:
    """Steps to start from, float32: those of the grid the weight lies on, else those of least squared error."""
    array = constant.array
    shape = [1] * array.ndim
    if axis is not None:
        shape[axis] = array.shape[axis]
    if constant.quant is not None:
        return np.broadcast_to(constant.quant.scale_array().reshape(_fitting(constant, array.ndim)), shape).copy()
    rows = array.reshape(1, -1) if axis is None else np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    return least_squares_scales(rows, top).reshape(shape)


def _fitting(constant: Constant, rank: int) -> list[int]:
    assert constant.quant is not None
    shape = [1] * rank
    if constant.quant.axis is not None:
        shape[constant.quant.axis] = len(constant.quant.scales)
    return shape
