"""The one IR, from import to plan: SSA values with types, nodes with typed attributes, constants, states."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from penjing.ir.types import NOWHERE, Constant, DType, Source, State, Type


class Operation:
    """Base of every operator: a frozen dataclass whose fields are its attributes.

    `ir` knows only this much of an operator; meaning, cost and lowering are added by `penjing.ops`.
    """

    name: ClassVar[str]

    def infer(self, *inputs: Type) -> tuple[Type, ...]:
        """Types of the outputs; raises InvalidGraph when the inputs do not fit."""
        raise NotImplementedError


@dataclass(frozen=True)
class Node:
    """One application of an operator. An absent optional input is the empty name."""

    op: Operation
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source: Source = NOWHERE

    @property
    def output(self) -> str:
        """The only output."""
        (name,) = self.outputs
        return name

    def __str__(self) -> str:
        place = str(self.source)
        return f"node {self.outputs[0]} ({self.op.name}{', ' + place if place else ''})"


@dataclass
class Graph:
    """A network as a list of nodes in execution order.

    `types` holds every input, constant, state and node output; names are unique. `stage` is one of
    imported, cleaned, compressed, lowered, planned.
    """

    name: str
    stage: str = "imported"
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    types: dict[str, Type] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def copy(self) -> "Graph":
        """A copy whose containers are its own; nodes, types and constants are immutable and shared."""
        return Graph(
            self.name,
            self.stage,
            self.inputs,
            self.outputs,
            dict(self.types),
            dict(self.constants),
            dict(self.states),
            list(self.nodes),
        )

    def add_input(self, name: str, type_: Type) -> str:
        """Append a graph input."""
        self.inputs = (*self.inputs, name)
        self.types[name] = type_
        return name

    def add_constant(self, name: str, constant: Constant) -> str:
        """Add a constant under a new name."""
        self.constants[name] = constant
        self.types[name] = constant.type
        return name

    def set_constant(self, name: str, constant: Constant) -> None:
        """Put `constant` in the place of the one called `name`; its shape may differ where the readers allow it."""
        self.constants[name] = constant
        self.types[name] = constant.type

    def add_node(
        self, op: Operation, inputs: tuple[str, ...], outputs: tuple[str, ...], source: Source = NOWHERE
    ) -> Node:
        """Append a node; its output types follow from the operator's shape rule."""
        node = Node(op, inputs, outputs, source)
        for name, type_ in zip(outputs, op.infer(*self.input_types(node)), strict=True):
            self.types[name] = type_
        self.nodes.append(node)
        return node

    def input_types(self, node: Node) -> tuple[Type, ...]:
        """Types of the inputs that are present."""
        return tuple(self.types[name] for name in node.inputs if name)

    def output_types(self, node: Node) -> tuple[Type, ...]:
        """Types of the outputs."""
        return tuple(self.types[name] for name in node.outputs)

    def producers(self) -> dict[str, Node]:
        """Value name -> the node that makes it."""
        return {name: node for node in self.nodes for name in node.outputs}

    def users(self) -> dict[str, list[Node]]:
        """Value name -> nodes that read it, in order; every value has an entry."""
        users: dict[str, list[Node]] = {name: [] for name in self.types}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    users[name].append(node)
        return users

    def sinks(self) -> set[str]:
        """Values that leave the graph: outputs and state updates."""
        return {*self.outputs, *(state.update for state in self.states.values())}

    @property
    def real_inputs(self) -> tuple[str, ...]:
        """Inputs that hold reals, or their codes; the others hold ids, integers as they are."""
        return tuple(name for name in self.inputs if self.types[name].dtype is not DType.S32)

    def activations(self) -> Iterator[str]:
        """Inputs, states and node outputs, in order of appearance."""
        yield from self.inputs
        yield from self.states
        for node in self.nodes:
            yield from node.outputs

    def drop_unused_constants(self) -> None:
        """Forget constants that no node reads."""
        used = {name for node in self.nodes for name in node.inputs}
        for name in [name for name in self.constants if name not in used]:
            del self.constants[name]
            del self.types[name]

    def replace_value(self, old: str, new: str) -> None:
        """Let every reader of `old` read `new` instead."""
        self.nodes = [
            Node(n.op, tuple(new if i == old else i for i in n.inputs), n.outputs, n.source) if old in n.inputs else n
            for n in self.nodes
        ]
        self.outputs = tuple(new if name == old else name for name in self.outputs)
        for name, state in list(self.states.items()):
            if state.update == old:
                self.states[name] = State(state.type, new, state.initial)

    def replace_node(self, old: Node, *new: Node) -> None:
        """Put nodes in the place of one; types of values that they do not share with it are the caller's to set."""
        at = next(i for i, node in enumerate(self.nodes) if node is old)
        self.nodes[at : at + 1] = new

    def remove_nodes(self, gone: list[Node]) -> None:
        """Remove nodes and the types of their outputs."""
        dead = {id(node) for node in gone}
        self.nodes = [node for node in self.nodes if id(node) not in dead]
        kept = set(self.inputs) | set(self.constants) | set(self.states)
        kept |= {name for node in self.nodes for name in node.outputs}
        self.types = {name: type_ for name, type_ in self.types.items() if name in kept}

    def remove_unread_nodes(self) -> list[Node]:
        """Remove nodes of whose outputs none is needed; those that are gone, last first."""
        needed, gone = self.sinks(), []
        for node in reversed(self.nodes):
            if needed.isdisjoint(node.outputs):
                gone.append(node)
            else:
                needed.update(node.inputs)
        self.remove_nodes(gone)
        return gone

    def parameters(self) -> int:
        """Number of constant elements."""
        return sum(constant.array.size for constant in self.constants.values())


Registry = Mapping[str, type[Operation]]
