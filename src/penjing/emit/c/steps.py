"""The nodes of a program as C: constant structs, lists of places, and the function that calls kernel after kernel."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from penjing.core.errors import InvalidInput
from penjing.emit.c.forms import form_functions
from penjing.emit.c.header import comment_text
from penjing.emit.c.reals import inputs_in_planes, planes_call
from penjing.emit.c.states import keep_states
from penjing.ir.graph import Graph, Node
from penjing.ir.lengths import length_bound
from penjing.ops.operator import IntegerOperator, Param
from penjing.program.lengths import Polynomial, node_fields
from penjing.program.plan import Place, Plan, moved_inputs

# In the order of their numbers in pj_steps.h.
_MEMORIES = ("weights", "in", "out", "arena", "none", "state", "next")
_NONE = Place("none", 0, 0)
_MEMORY_BYTES = 2**29
_FEWEST_INPUTS = 5  # absent inputs of kernels are null


@dataclass(frozen=True)
class Steps:
    """The nodes of a planned program that have a kernel to call, by their index."""

    program: Graph
    plan: Plan
    stem: str

    @cached_property
    def nodes(self) -> dict[int, Node]:
        """Without those that move no byte because their output lies where their inputs lie."""
        return {i: node for i, node in enumerate(self.program.nodes) if moved_inputs(self.program, self.plan, node)}

    @cached_property
    def operators(self) -> dict[str, IntegerOperator]:
        """One of each kind, by name, sorted."""
        found = {node.op.name: _operator(node) for node in self.nodes.values()}
        return {name: found[name] for name in sorted(found)}

    def limits(self) -> Iterator[str]:
        """What pj_steps.h asks for before it."""
        yield f"#define PJ_MOST_INPUTS {self._inputs}"
        yield f"#define PJ_MOST_OUTPUTS {self._outputs}"

    def constants(self, *, shared: bool) -> Iterator[str]:
        """A struct per node and the places of all; with `shared`, one file defines them for all instruction sets."""
        table = f"const uint32_t {self.stem}_places[{max(len(self.nodes), 1)}][{self._inputs + self._outputs + 1}]"
        if shared:
            yield "#ifndef PJ_DEFINES_PARAMETERS"
            for i, node in self.nodes.items():
                yield f"extern const struct pj_{node.op.name} {self.stem}_node_{i};"
            yield f"extern {table};"
            yield "#else"
        start = "" if shared else "static "
        for i, node in self.nodes.items():
            literal = struct_literal(self._params(node))
            yield f"/* {comment_text(node.outputs[0])} */"
            yield f"{start}const struct pj_{node.op.name} {self.stem}_node_{i} = {literal};"
        rows = [", ".join(map(str, self._places(i, node))) for i, node in self.nodes.items()] or ["0"]
        yield f"{start}{table} = {{{', '.join(f'{{{row}}}' for row in rows)}}};"
        if shared:
            yield "#endif"

    def calls(self, threads: int) -> Iterator[str]:
        """`pj_run`: the kernels in their order."""
        for name, op in self.operators.items():
            yield f"{_step_macro(op, threads)}({name}, {self._known(name)})"
        run, *_ = form_functions(threads, bool(self.program.states), length=self._longest is not None)
        yield ""
        yield f"static void pj_run({run.parameters})"
        yield "{"
        yield "    const uintptr_t memory[] = {"
        states = f", (uintptr_t)state, (uintptr_t)state + {self.plan.saved_bytes}" if self.program.states else ""
        yield f"        (uintptr_t)weights, (uintptr_t)in, (uintptr_t)out, (uintptr_t)arena, 0{states}}};"
        if not self.nodes:
            yield "    PJ_UNUSED(memory);"
        if self._longest is not None and not any(self._varying.values()):
            yield "    PJ_UNUSED(length);"
        planes = inputs_in_planes(self.program)
        if not planes:
            yield "    PJ_UNUSED(reals);"
        for row, (i, node) in enumerate(self.nodes.items()):
            team = f", team{self._share(i, node, threads)}" if threads > 1 else ""
            if i in planes:
                call = planes_call(self.program, self.plan, planes[i], self._memory(node.outputs[0]))
                yield "    if (reals)"
                yield f"        {call};"
                yield "    else"
            varying = self._varying[i]
            if varying:
                yield "    {"
                yield f"        struct pj_{node.op.name} p = {self.stem}_node_{i};"
                yield from (f"        p.{field} = {polynomial};" for field, polynomial in varying.items())
                yield f"        pj_step_{node.op.name}(&p, {self.stem}_places[{row}], memory{team});"
                yield "    }"
                continue
            yield f"    pj_step_{node.op.name}(&{self.stem}_node_{i}, {self.stem}_places[{row}], memory{team});"
        if self.program.states:
            yield from keep_states(self.plan, threads)
        yield "}"

    @cached_property
    def _longest(self) -> int | None:
        return length_bound(self.program)

    @cached_property
    def _varying(self) -> dict[int, dict[str, Polynomial]]:
        """Fields that follow the length of sequences, by node."""
        longest = self._longest
        if longest is None:
            return {i: {} for i in self.nodes}
        return {i: node_fields(self.program, self.plan, node, longest) for i, node in self.nodes.items()}

    def _params(self, node: Node) -> dict[str, Param]:
        types = self.program.input_types(node), self.program.output_types(node)
        moved = moved_inputs(self.program, self.plan, node)
        return _operator(node).placed_params(*types, self.plan.places[node.outputs[0]].pieces, moved)

    def _known(self, name: str) -> str:
        """Assignments of what is the same in all nodes of one kind: parameters, and inputs and memory that none has."""
        found = {i: node for i, node in self.nodes.items() if node.op.name == name}
        first, *others = [self._params(node) for node in found.values()]
        varying = {field.partition("[")[0] for i in found for field in self._varying[i]}
        same = {key: value for key, value in first.items() if all(other[key] == value for other in others)}
        same = {key: value for key, value in same.items() if key not in varying}
        fields = [pair for key, value in same.items() for pair in _fields(key, value)]
        most = max(len(self._given(node)) for node in found.values())
        absent = [f"c.in[{i}] = 0;" for i in range(most, self._inputs)]
        absent += [] if self.plan.scratch.keys() & found.keys() else ["c.scratch = 0;"]
        return " ".join([*(f"p.{field} = {text};" for field, text in fields), *absent])

    def _given(self, node: Node) -> list[str]:
        """The inputs that its kernel reads."""
        return [node.inputs[k] for k in moved_inputs(self.program, self.plan, node)]

    @cached_property
    def _inputs(self) -> int:
        return max(_FEWEST_INPUTS, *(len(self._given(node)) for node in self.nodes.values()), 0)

    @cached_property
    def _outputs(self) -> int:
        return max(1, *(len(node.outputs) for node in self.nodes.values()), 0)

    def _memory(self, name: str) -> str:
        """Where a value lies, as a pointer to codes."""
        place = self.plan.places[name]
        return f"(uint8_t *)memory[{_MEMORIES.index(place.base)}] + {place.offset}"

    def _places(self, index: int, node: Node) -> list[int]:
        """A row of the table, as pj_open reads it."""
        groups = ((self._given(node), self._inputs), (node.outputs, self._outputs))
        places = [self.plan.places[names[i]] if i < len(names) else _NONE for names, n in groups for i in range(n)]
        return [_number(place) for place in (*places, self.plan.scratch.get(index, _NONE))]

    def _share(self, index: int, node: Node, threads: int) -> str:
        if not _operator(node).splits:
            return ""
        return f", {self.plan.scratch.get(index, _NONE).nbytes // threads}"


def struct_literal(params: Mapping[str, Param]) -> str:
    """The initialiser of a kernel's struct; floats are written in hexadecimal, so that they read back exactly."""
    return "{" + ", ".join(f".{key} = {_literal(value)}" for key, value in params.items()) + "}"


def _literal(value: Param) -> str:
    if isinstance(value, tuple):
        return "{" + ", ".join(str(item) for item in value) + "}"
    return f"{value.hex()}f" if isinstance(value, float) else str(value)


def _fields(key: str, value: Param) -> list[tuple[str, str]]:
    if isinstance(value, tuple):
        return [(f"{key}[{i}]", str(item)) for i, item in enumerate(value)]
    return [(key, _literal(value))]


def _operator(node: Node) -> IntegerOperator:
    assert isinstance(node.op, IntegerOperator)
    return node.op


def _step_macro(op: IntegerOperator, threads: int) -> str:
    if threads == 1:
        return "PJ_STEP"
    return "PJ_STEP_OF_ALL" if op.splits else "PJ_STEP_OF_ONE"


def _number(place: Place) -> int:
    if place.offset >= _MEMORY_BYTES:
        what = f"a value lies {place.offset} bytes into the network's {place.base}; generated C reaches {_MEMORY_BYTES}"
        raise InvalidInput(what, hint="run such a network by the interpreter, without a target")
    return 8 * place.offset + _MEMORIES.index(place.base)
