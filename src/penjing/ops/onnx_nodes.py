"""What an operator becomes in ONNX, in plain Python: operators write it without the onnx library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from penjing.ir.graph import Graph, Node
from penjing.ir.types import Names, Type

Attribute = int | float | str | tuple[int, ...] | tuple[str, ...]
_AXES_ARE_AN_INPUT = 18  # of reductions, from this opset on


@dataclass(frozen=True)
class OnnxNode:
    """One node: inputs ('' for an absent one) and outputs by name, attributes by name."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Initializer:
    """A constant; int8 codes of -8..7 may be stored in four bits."""

    array: np.ndarray
    in_four_bits: bool = False


@dataclass
class OnnxBody:
    """Nodes in order of execution, and constants, of an ONNX graph under construction."""

    names: Names = field(default_factory=Names)
    nodes: list[OnnxNode] = field(default_factory=list)
    initializers: dict[str, Initializer] = field(default_factory=dict)

    def constant(self, stem: str, array: np.ndarray) -> str:
        """Add a constant; returns its name."""
        name = self.names.fresh(stem)
        self.initializers[name] = Initializer(array)
        return name

    def node(self, op_type: str, inputs: tuple[str, ...], output: str, **attributes: Attribute) -> str:
        """Append a node with one output; returns its name."""
        self.nodes.append(OnnxNode(op_type, inputs, (output,), attributes))
        return output


@dataclass(frozen=True)
class OnnxForm:
    """One node of a network, to be written in ONNX.

    Attributes:
        graph: the network.
        source: the node.
        outputs: the names that its results have in ONNX.
        opset: version of the operators.
        body: takes the nodes and constants.
        read: position of an input, and an order for its axes or None -> its name in ONNX, as floats.
    """

    graph: Graph
    source: Node
    outputs: tuple[str, ...]
    opset: int
    body: OnnxBody
    read: Callable[[int, tuple[int, ...] | None], str]

    def type(self, place: int) -> Type:
        """Of an input."""
        return self.graph.types[self.source.inputs[place]]

    def has(self, place: int) -> bool:
        """Whether the input is there."""
        return len(self.source.inputs) > place and self.source.inputs[place] != ""

    def input(self, place: int, order: tuple[int, ...] | None = None) -> str:
        """Name of an input, as floats; with its axes in `order`, which costs a constant nothing."""
        return self.read(place, order)

    def inputs(self) -> tuple[str, ...]:
        """Names of all inputs, '' for an absent one."""
        return tuple(self.input(place) if name else "" for place, name in enumerate(self.source.inputs))

    def parameter(self, place: int) -> np.ndarray | None:
        """The floats of an input that is a constant and is never quantized; None where it is computed."""
        constant = self.graph.constants.get(self.source.inputs[place])
        return None if constant is None else constant.array

    def floats(self, what: str, values: object) -> str:
        """A float32 constant; `what` becomes part of its name."""
        return self.body.constant(f"{self.source.outputs[0]}.{what}", np.asarray(values, np.float32))

    def integers(self, what: str, values: object) -> str:
        """An int64 constant, as shapes and axes are given."""
        return self.body.constant(f"{self.source.outputs[0]}.{what}", np.asarray(values, np.int64))

    def node(self, op_type: str, *inputs: str, **attributes: Attribute) -> str:
        """Append a node whose result other nodes of this form read."""
        name = self.body.names.fresh(f"{self.source.outputs[0]}.{op_type.lower()}")
        return self.body.node(op_type, inputs, name, **attributes)

    def result(self, op_type: str, *inputs: str, **attributes: Attribute) -> None:
        """Append the node that makes the outputs."""
        self.body.nodes.append(OnnxNode(op_type, inputs, self.outputs, attributes))

    def slice(self, x: str, axis: int, start: int, stop: int) -> str:
        """Elements start..stop - 1 along an axis."""
        ends = (("start", start), ("stop", stop), ("axis", axis))
        return self.node("Slice", x, *(self.integers(what, [value]) for what, value in ends))

    def axes(self, axes: tuple[int, ...]) -> tuple[tuple[str, ...], dict[str, Attribute]]:
        """Axes of a reduction, as (more inputs, attributes): newer opsets have them as an input."""
        if self.opset < _AXES_ARE_AN_INPUT:
            return (), {"axes": axes}
        return (self.integers("axes", axes),), {}
