"""Quantized ONNX models: codes vanish from the graph, and what is left of them are floats, grids and ranges.

    q = sat(rne(x / scale) + zero_point)          QuantizeLinear
    x = (q - zero_point) * scale                  DequantizeLinear

A constant that is dequantized becomes floats on their grid. An activation between the two becomes the activation
itself, and its range is kept: with codes 0..255, from scale * (0 - zero_point) to scale * (255 - zero_point). Signed
codes are the same numbers, shifted by 128. Operators on codes are read as DequantizeLinear, operator, QuantizeLinear;
those that only move codes are read as they are.

Exporters leave out a relu where its quantization cuts off what is negative. So where the zero point is the lowest code,
and nothing says that the value is not negative, there is a relu again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.frontends.onnx.model import MICROSOFT, OnnxNode
from penjing.frontends.onnx.signs import is_nonnegative
from penjing.ir.graph import Graph, Node
from penjing.ir.grid import TOP_CODE, activation_parameters
from penjing.ir.types import Quant, Source
from penjing.ops.fusion import between_roundings, computed_for_concat
from penjing.ops.onnx_call import Known, Ref
from penjing.ops.operator import Operator, QuantRule
from penjing.ops.relu import Clamp, Relu

_U8_MAX = 255
_SHIFTS = {"uint8": 0, "int8": 128}  # to codes 0..255
_OUTPUT_TYPES = {0: "uint8", 2: "uint8", 3: "int8"}


@dataclass(frozen=True)
class _OnCodes:
    """An operator on codes: the float operator, where its (x, scale, zero point) and those of y stand, and the bias."""

    op: str
    operands: tuple[int, ...]
    output: int
    bias: int | None = None


_ON_CODES = {
    "QLinearConv": _OnCodes("Conv", (0, 3), 6, bias=8),
    "QLinearMatMul": _OnCodes("MatMul", (0, 3), 6),
    f"{MICROSOFT}.QGemm": _OnCodes("Gemm", (0, 3), 7, bias=6),
    f"{MICROSOFT}.QLinearAdd": _OnCodes("Add", (0, 3), 6),
    f"{MICROSOFT}.QLinearMul": _OnCodes("Mul", (0, 3), 6),
    f"{MICROSOFT}.QLinearSigmoid": _OnCodes("Sigmoid", (0,), 3),
    f"{MICROSOFT}.QLinearLeakyRelu": _OnCodes("LeakyRelu", (0,), 3),
    f"{MICROSOFT}.QLinearGlobalAveragePool": _OnCodes("GlobalAveragePool", (0,), 3),
    f"{MICROSOFT}.QLinearAveragePool": _OnCodes("AveragePool", (0,), 3),
}
_CONCAT = f"{MICROSOFT}.QLinearConcat"
_QUANTIZE = ("QuantizeLinear", f"{MICROSOFT}.QuantizeLinear")
_DEQUANTIZE = ("DequantizeLinear", f"{MICROSOFT}.DequantizeLinear")
QUANTIZED = frozenset({*_ON_CODES, _CONCAT, *_QUANTIZE, *_DEQUANTIZE})
_MOVERS = frozenset(
    {
        "Concat", "Dropout", "Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool", "Pad", "Reshape", "Resize",
        "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Coded:
    """A value that the model holds as codes: the real value, and real = scale * (q - zero_point), codes 0..255.

    `shift` leads from the model's own codes to these: 128 where they are signed.
    """

    ref: Ref
    scale: float
    zero_point: int
    shift: int

    @property
    def range(self) -> tuple[float, float]:
        """The reals of the lowest and the highest code; both are exact."""
        return self.scale * -self.zero_point, self.scale * (_U8_MAX - self.zero_point)


Held = Ref | Known | Coded
Append = Callable[[Operator, tuple[str, ...], str, Source], list[Ref]]
Call = Callable[[OnnxNode, list[Ref | Known | None]], list[Ref]]


@dataclass
class Codes:
    """What quantization a model has, gathered while it is read.

    Attributes:
        ranges: activation -> (low, high).
        given_up: ranges in the model of activations that have one of their own here.
        notes: (value, what of its quantization could not be kept).
        found: whether activations become codes.
    """

    graph: Graph
    append: Append
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    given_up: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: list[tuple[str, str]] = field(default_factory=list)
    found: bool = False
    _done: dict[tuple[str, float, int], Ref] = field(default_factory=dict)
    _makers: dict[str, Node] = field(default_factory=dict)
    _seen: int = 0

    def read(self, node: OnnxNode, held: Sequence[Held | None], call: Call, source: Source) -> list[Held] | None:
        """The values of a node that makes, takes or moves codes; None for every other node.

        Raises:
            UnsupportedOp: codes that cannot be carried.
        """
        if node.target in _QUANTIZE and isinstance(held[0], Ref):
            return [self._quantize(held[0], self._parameters(node, held, 1), source)]
        if node.target in _DEQUANTIZE:
            return [self._dequantize(node, held)]
        if node.target in _ON_CODES or node.target == _CONCAT:
            return [self._on_codes(node, held, call, source)]
        if node.op in _MOVERS and any(isinstance(value, Coded) for value in held):
            return self._moved(node, held, call, source)
        return None

    def complete(self) -> tuple[str, ...]:
        """Find the ranges of values that are never rounded; names of those whose range nothing tells."""
        users = self.graph.users()
        silent = between_roundings(self.graph)
        joined = computed_for_concat(self.graph)
        missing = []
        observed = (name for n in self.graph.nodes for name in n.outputs if _rule(n, name) is QuantRule.OWN)
        for name in reversed([*self.graph.inputs, *observed]):
            if name in self.ranges:
                continue
            if not users[name] and name not in self.graph.outputs:
                self.ranges[name] = (0.0, 1.0)  # nothing reads it
                continue
            after = joined.get(name) or (users[name][0].outputs[0] if name in silent and users[name] else None)
            if after in self.ranges:
                self.ranges[name] = self.ranges[after]
            else:
                missing.append(name)
        return tuple(missing[::-1])

    def _parameters(self, node: OnnxNode, held: Sequence[Held | None], at: int) -> tuple[float, int, int]:
        """(scale, zero point among 0..255, shift) of an activation, from the inputs `at` and behind it."""
        scale, zero = _known(node, held, at), held[at + 1] if at + 1 < len(held) else None
        output = node.attributes.get("output_dtype", 0)
        kind = _OUTPUT_TYPES.get(output if isinstance(output, int) else -1, "other")
        if isinstance(zero, Known):
            kind = zero.array.dtype.name
        elif zero is not None:
            raise UnsupportedOp(f"{node.op}: its zero point is computed from the data")
        if kind not in _SHIFTS:
            raise UnsupportedOp(f"{node.op} with codes of {kind}: activations have 8 bits")
        if scale.array.size != 1 or (isinstance(zero, Known) and zero.array.size != 1):
            raise UnsupportedOp(f"{node.op} with one scale per channel of an activation")
        step = float(np.float32(scale.array.reshape(-1)[0]))
        if not (np.isfinite(step) and step >= float(np.finfo(np.float32).tiny)):
            raise UnsupportedOp(f"{node.op} with the scale {step}")
        point = int(zero.array.reshape(-1)[0]) if isinstance(zero, Known) else 0
        return step, point + _SHIFTS[kind], _SHIFTS[kind]

    def _quantize(self, ref: Ref, parameters: tuple[float, int, int], source: Source) -> Coded:
        self.found = True
        scale, zero_point, shift = parameters
        key = (ref.name, scale, zero_point)
        if key not in self._done:
            self._done[key] = self._ranged(Coded(ref, scale, zero_point, shift), source)
        return Coded(self._done[key], scale, zero_point, shift)

    def _ranged(self, coded: Coded, source: Source) -> Ref:
        """The value whose range is that of the codes."""
        ref = coded.ref
        root = self._root(ref.name)
        maker = self._maker(root)
        if maker is not None and _rule(maker, root) is QuantRule.FIXED:
            assert isinstance(maker.op, Operator)
            scale, zero_point = activation_parameters(*maker.op.fixed_range())
            if (float(scale), zero_point) != (coded.scale, coded.zero_point):
                self.notes.append((ref.name, f"{maker.op.name} has a quantization of its own"))
            self.given_up[root] = coded.range
            return ref
        if coded.zero_point == 0 and not is_nonnegative(self.graph, root, self._maker):
            (ref,) = self.append(Relu(), (ref.name,), f"{ref.name}.relu", source)
            root = ref.name
        if self.ranges.setdefault(root, coded.range) != coded.range:
            # the same value in codes of two kinds: the second is a value of its own
            (ref,) = self.append(Clamp(*coded.range), (ref.name,), f"{ref.name}.requantized", source)
            self.ranges[ref.name] = coded.range
        return ref

    def _dequantize(self, node: OnnxNode, held: Sequence[Held | None]) -> Ref | Known:
        value = held[0]
        if isinstance(value, Known):
            zero = held[2] if len(held) > 2 else None
            return self._on_grid(node, value, _known(node, held, 1), zero if isinstance(zero, Known) else None)
        if not isinstance(value, Coded):
            raise UnsupportedOp(f"{node.op} of what is no code")
        return self._real(node, value, self._parameters(node, held, 1))

    def _real(self, node: OnnxNode, value: Coded, parameters: tuple[float, int, int]) -> Ref:
        if (value.scale, value.zero_point) != parameters[:2]:
            raise UnsupportedOp(f"{node.op} with another scale or zero point than its codes were made with")
        return value.ref

    def _on_grid(self, node: OnnxNode, value: Known, scale: Known, zero: Known | None, axis: int = 1) -> Known:
        """A constant of codes as floats, on a grid where they are symmetric and have at most 8 bits."""
        array, name = value.array, value.name.removesuffix("_quantized")
        if array.dtype.kind == "f" or node.attributes.get("block_size", 0):
            raise UnsupportedOp(f"{node.op} of {array.dtype} or by blocks")
        given = node.attributes.get("axis", axis)
        axis = given if isinstance(given, int) else axis
        scales = scale.array.astype(np.float32).reshape(-1)
        points = np.zeros(1, np.int64) if zero is None else zero.array.astype(np.int64).reshape(-1)
        along = None if scales.size == points.size == 1 else axis % max(array.ndim, 1)
        extent = array.shape[along] if along is not None and along < array.ndim else -1
        if along is not None and not {scales.size, points.size} <= {1, extent}:
            raise UnsupportedOp(f"{node.op} with {scales.size} scales for {value.name} of {array.shape}, axis {axis}")
        lie = (1,) * array.ndim if along is None else tuple(-1 if i == along else 1 for i in range(array.ndim))
        centred = array.astype(np.int64) - points.reshape(lie)
        real = (centred * scales.astype(np.float64).reshape(lie)).astype(np.float32)
        quant = None
        if array.dtype.name not in ("int32", "int64"):
            if np.abs(centred).max(initial=0) <= TOP_CODE and bool((scales >= np.finfo(np.float32).tiny).all()):
                steps = scales if along is None else np.broadcast_to(scales, array.shape[along : along + 1])
                quant = Quant(tuple(map(float, steps)), 0, along)
            else:
                self.notes.append((name, f"its codes are not symmetric within -{TOP_CODE}..{TOP_CODE}"))
        return Known(name, real, real, quant)

    def _on_codes(self, node: OnnxNode, held: Sequence[Held | None], call: Call, source: Source) -> Coded:
        rule = _ON_CODES.get(node.target, _OnCodes("Concat", tuple(range(2, len(held), 3)), 0))
        attributes = dict(node.attributes)
        if attributes.pop("channels_last", 0):
            raise UnsupportedOp(f"{node.op} with channels_last")
        operands: list[Ref | Known | None] = []
        for at in rule.operands:
            value = held[at] if at < len(held) else None
            if isinstance(value, Coded):
                operands.append(self._real(node, value, self._parameters(node, held, at + 1)))
            elif isinstance(value, Known):
                zero = held[at + 2] if at + 2 < len(held) else None
                axis = 0 if rule.op == "Conv" or node.attributes.get("transB") else 1
                known = zero if isinstance(zero, Known) else None
                operands.append(self._on_grid(node, value, _known(node, held, at + 1), known, axis))
            else:
                raise UnsupportedOp(f"{node.op} of what is no code")
        if rule.bias is not None and rule.bias < len(held) and held[rule.bias] is not None:
            bias = _known(node, held, rule.bias)
            steps = _known(node, held, 1).array.astype(np.float64) * _known(node, held, 4).array.astype(np.float64)
            real = (bias.array * steps.reshape(-1)).astype(np.float32)
            operands.append(Known(bias.name.removesuffix("_quantized"), real, real))
        plain = replace(node, op=rule.op, domain="", attributes=attributes)
        (ref,) = call(plain, operands)
        return self._quantize(ref, self._parameters(node, held, rule.output), source)

    def _moved(self, node: OnnxNode, held: Sequence[Held | None], call: Call, source: Source) -> list[Held]:
        coded = [value for value in held if isinstance(value, Coded)]
        first = coded[0]
        if any((c.scale, c.zero_point) != (first.scale, first.zero_point) for c in coded):
            raise UnsupportedOp(f"{node.op} of codes of different kinds")
        operands: list[Ref | Known | None] = [v.ref if isinstance(v, Coded) else v for v in held]
        if node.op == "Pad" and len(operands) > 2 and node.attributes.get("mode", "constant") == "constant":
            if _known(node, held, 2).array.reshape(-1).tolist() != [first.zero_point - first.shift]:
                raise UnsupportedOp("Pad of codes with another constant than their zero point")
            operands[2] = None
        if node.op == "Resize" and node.attributes.get("mode", "nearest") != "nearest":
            raise UnsupportedOp("Resize of codes between neighbours")
        parameters = (first.scale, first.zero_point, first.shift)
        return [self._quantize(ref, parameters, source) for ref in call(node, operands)]

    def _maker(self, name: str) -> Node | None:
        for node in self.graph.nodes[self._seen :]:
            self._makers.update(dict.fromkeys(node.outputs, node))
        self._seen = len(self.graph.nodes)
        return self._makers.get(name)

    def _root(self, name: str) -> str:
        """The value whose codes are moved to make this one."""
        maker, known = self._maker(name), self.graph.constants
        while maker is not None and _rule(maker, name) is QuantRule.SAME and maker.inputs[0] not in known:
            name = maker.inputs[0]
            maker = self._maker(name)
        return name


def _rule(node: Node, name: str) -> QuantRule:
    """Where the quantization of one of a node's outputs comes from."""
    assert isinstance(node.op, Operator)
    return node.op.quant_rule_of(node.outputs.index(name))


def _known(node: OnnxNode, held: Sequence[Held | None], at: int) -> Known:
    value = held[at] if at < len(held) else None
    if not isinstance(value, Known) or not value.is_constant:
        raise UnsupportedOp(f"{node.op}: its input {at} is no constant")
    return value
