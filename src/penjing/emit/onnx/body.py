"""Graph -> the nodes and constants of an ONNX graph.

A float graph is written operator by operator. In a quantized one, a pair of QuantizeLinear and DequantizeLinear stands
behind every value that our integer program rounds to codes, and nowhere else:

    conv -> add -> relu -> Q -> DQ -> ...        what is fused is not rounded in between (ops/fusion.py)
    conv -> conv -> Q -> DQ -> ...               nor what layers in float32 hand to each other (ops/floats.py)

so that engines which compute between a DQ and the next Q in integers round where we do. Constants are stored as codes:

    weights       int8 (int4 on request), one scale per output channel, zero point 0
    biases        int32 with scale s_x * s_w, as integer kernels add them to the accumulator
    activations   uint8, one scale, zero point 0..255

TensorRT takes int8 with zero point 0 alone, and biases as floats. The codes u8 with zero point 128 are the same as s8
with zero point 0, so a network with symmetric ranges computes the same there.
"""

from dataclasses import dataclass

import numpy as np

from penjing.core.errors import InvalidGraph, QuantizationError, UnsupportedOp
from penjing.emit.onnx.options import OnnxOptions
from penjing.ir.graph import Graph, Node
from penjing.ir.types import Names, Quant
from penjing.ops.floats import float_values, kept_weights
from penjing.ops.fusion import between_roundings
from penjing.ops.onnx_nodes import Initializer, OnnxBody, OnnxForm
from penjing.ops.operator import Operator, QuantRule

_MIDDLE = 128  # u8 codes with this zero point are s8 codes with zero point 0
_INT4_TOP = 7

Order = tuple[int, ...] | None


@dataclass(frozen=True)
class Written:
    """The nodes and constants, and what the graph's inputs and outputs are called: inputs keep their names."""

    body: OnnxBody
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def write_body(graph: Graph, options: OnnxOptions) -> Written:
    """The graph in ONNX, as plain data.

    Raises:
        InvalidGraph: a graph of integer operators.
        UnsupportedOp: an operator without an ONNX form, or a state.
        QuantizationError: a value of a quantized graph without scales, or one that TensorRT would not take.
    """
    if graph.states:
        raise UnsupportedOp("values that are kept between calls cannot be written as ONNX", where=f"graph {graph.name}")
    if graph.stage in ("lowered", "planned"):
        raise InvalidGraph(f"a {graph.stage} graph cannot be written as ONNX", hint="export it before lowering")
    writer = _Writer(graph, options)
    for name in graph.inputs:
        writer.add_input(name)
    for node in graph.nodes:
        writer.add(node)
    outputs = writer.outputs()
    if options.int4:
        _store_in_four_bits(writer.body)
    return Written(writer.body, graph.inputs, outputs)


def _store_in_four_bits(body: OnnxBody) -> None:
    """Weights whose codes are -7..7, with their zero points."""
    for node in body.nodes:
        made = body.initializers.get(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
        if made is None or made.array.dtype != np.int8 or np.abs(made.array).max(initial=0) > _INT4_TOP:
            continue
        for name in (node.inputs[0], node.inputs[2]):
            body.initializers[name] = Initializer(body.initializers[name].array, in_four_bits=True)


class _Writer:
    """Writes one graph; `_reals` says what is read in the place of each value."""

    def __init__(self, graph: Graph, options: OnnxOptions) -> None:
        self._graph = graph
        self._options = options
        self._is_quantized = graph.stage == "compressed"
        self._unrounded = between_roundings(graph) | (set(graph.inputs) - set(graph.real_inputs))
        self._floats = float_values(graph, kept_weights(graph)) if self._is_quantized else set[str]()
        self._unrounded |= _read_in_float(graph, self._floats)
        self._exact: dict[str, str] = {}
        if options.tensorrt:
            self._unrounded |= _known_ranges(graph)
        self._reals: dict[str, str] = {}
        self._constants: dict[tuple[str, Order, bytes], str] = {}
        self.body = OnnxBody(Names(set(graph.types)))

    def add_input(self, name: str) -> None:
        self._define(name, name, self.body.names.fresh(f"{name}.rounded") if self._rounds(name) else name)

    def add(self, node: Node) -> None:
        op = node.op
        if not isinstance(op, Operator):
            raise InvalidGraph(f"{op.name} has no ONNX form", where=str(node))
        exact = tuple(self.body.names.fresh(f"{n}.exact") if self._rounds(n) else n for n in node.outputs)

        def read(place: int, order: Order) -> str:
            return self._operand(node, place, order)

        before = len(self.body.nodes)
        op.to_onnx(OnnxForm(self._graph, node, exact, self._options.opset, self.body, read))
        written = {name for new in self.body.nodes[before:] for name in new.outputs}
        for name, made in zip(node.outputs, exact, strict=True):
            if made in written:  # an operator may leave out what nothing reads
                self._define(name, made, name)

    def outputs(self) -> tuple[str, ...]:
        """An output that is an input, a constant, or another output as well, gets a copy under another name."""
        names: list[str] = []
        for name in self._graph.outputs:
            if name in self._graph.inputs or name in self._graph.constants or name in names:
                source = self._reals.get(name) or self._constant(name, None)
                names.append(self.body.node("Identity", (source,), self.body.names.fresh(f"{name}.copy")))
            else:
                names.append(name)
        return tuple(names)

    def _rounds(self, name: str) -> bool:
        return self._is_quantized and name not in self._unrounded

    def _define(self, name: str, made: str, result: str) -> None:
        """Let readers of `name` read `result`, which is `made` rounded to its codes where the program rounds it."""
        self._reals[name], self._exact[name] = result, made
        if not self._rounds(name):
            return
        quant = self._graph.types[name].quant
        if quant is None:
            raise QuantizationError(f"%{name} has no quantization", hint="calibrate and quantize first")
        scale, zero = self._code_parameters(name, quant)
        codes = self.body.node("QuantizeLinear", (made, scale, zero), self.body.names.fresh(f"{name}.codes"))
        self.body.node("DequantizeLinear", (codes, scale, zero), result)

    def _code_parameters(self, name: str, quant: Quant) -> tuple[str, str]:
        """Constants with the scale and zero point of an activation."""
        zero_point: np.ndarray = np.array(quant.zero_point, np.uint8)
        if self._options.tensorrt:
            if quant.zero_point != _MIDDLE:
                raise QuantizationError(
                    f"%{name} has the zero point {quant.zero_point}, and TensorRT takes symmetric codes alone",
                    hint="quantize with symmetric=True, or --tensorrt and --calibrate",
                )
            zero_point = np.array(0, np.int8)
        scale = self.body.constant(f"{name}.scale", np.array(quant.scale, np.float32))
        return scale, self.body.constant(f"{name}.zero_point", zero_point)

    def _operand(self, node: Node, place: int, order: Order) -> str:
        """The input of a node in the given order of axes."""
        name = node.inputs[place]
        if name in self._graph.constants:
            return self._constant(name, order, self._bias_scales(node, place))
        in_float = name in self._floats and node.outputs[0] in self._floats
        real = self._exact[name] if in_float else self._reals[name]
        if order is None:
            return real
        moved = self.body.names.fresh(f"{name}.transposed")
        return self.body.node("Transpose", (real,), moved, perm=order)

    def _bias_scales(self, node: Node, place: int) -> np.ndarray | None:
        """s_x * s_w for each output channel, where the input is a bias of integers."""
        op = node.op
        assert isinstance(op, Operator)
        bias = self._graph.constants[node.inputs[place]].array
        if place != op.bias_input or bias.dtype != np.int32 or op.weight_input is None:
            return None
        x = self._graph.types[node.inputs[0]].quant
        w = self._graph.types[node.inputs[op.weight_input]].quant
        assert x is not None and w is not None
        return np.resize(x.scale * w.scale_array(), bias.shape)  # groups of a transposed convolution share theirs

    def _constant(self, name: str, order: Order, scales: np.ndarray | None = None) -> str:
        """A constant as floats, its axes in `order`; `scales` are those of a bias."""
        key = (name, order, b"" if scales is None else scales.tobytes())
        if key not in self._constants:
            self._constants[key] = self._new_constant(name, order, scales)
        return self._constants[key]

    def _new_constant(self, name: str, order: Order, scales: np.ndarray | None) -> str:
        constant = self._graph.constants[name]
        array = constant.array if order is None else np.ascontiguousarray(constant.array.transpose(order))
        quant = constant.quant if scales is None else Quant(tuple(map(float, scales)), 0, 0)
        if array.dtype == np.float32 or quant is None:
            return self._initializer(name, array)
        if self._options.tensorrt and array.dtype != np.int8:
            return self._initializer(name, _floats(array, quant))
        axis = quant.axis if order is None or quant.axis is None else order.index(quant.axis)
        steps = quant.scale_array() if axis is not None else np.array(quant.scale, np.float32)
        codes = self.body.constant(f"{name}.codes", array)
        scale = self.body.constant(f"{name}.scale", steps)
        zero = self.body.constant(f"{name}.zero_point", np.full(steps.shape, quant.zero_point, array.dtype))
        along = {} if axis is None else {"axis": axis}
        return self.body.node("DequantizeLinear", (codes, scale, zero), self.body.names.fresh(f"{name}.real"), **along)

    def _initializer(self, name: str, array: np.ndarray) -> str:
        """Under the constant's own name, unless that is taken by another order of its axes."""
        if name not in self.body.initializers:
            self.body.names.taken.discard(name)
        return self.body.constant(name, array)


def _floats(codes: np.ndarray, quant: Quant) -> np.ndarray:
    """What codes stand for; axis 0 is the only one along which a bias has scales."""
    steps = quant.scale_array() if quant.axis is not None else np.array(quant.scale)
    reals: np.ndarray = ((codes.astype(np.float64) - quant.zero_point) * steps).astype(np.float32)
    return reals


def _read_in_float(graph: Graph, floats: set[str]) -> set[str]:
    """Values in float32 that nothing reads as codes."""
    users, sinks = graph.users(), graph.sinks()
    return {name for name in floats - sinks if all(reader.outputs[0] in floats for reader in users[name])}


def _known_ranges(graph: Graph) -> set[str]:
    """Values whose codes begin at zero because their operator says so: TensorRT gets them as floats."""
    known: set[str] = set()
    for node in graph.nodes:
        assert isinstance(node.op, Operator)
        moved = node.op.quant_rule is QuantRule.SAME and node.inputs[0] in known
        if moved or (node.op.quant_rule is QuantRule.FIXED and node.op.fixed_range()[0] == 0):
            known.update(node.outputs)
    return known
