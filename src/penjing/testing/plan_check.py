"""An independent judge of memory plans: it runs a plan on a memory that remembers whose content each byte holds.

The planner reasons with lifetimes; this file knows none. It walks through the program as the generated code does, and
for every byte of every memory keeps the number of the content that was written there last. A node may run when each
of its inputs is still whole. A concat does not move a part that lies in its place already.
"""

from collections.abc import Iterator

import numpy as np

from penjing.ir.graph import Graph, Node
from penjing.ops.concat import QConcat
from penjing.ops.operator import IntegerOperator
from penjing.program.plan import ALIGNMENT, Place, Plan

_NOTHING, _SCRATCH = -1, -2
_READ_ONLY = ("in", "weights")


def plan_problems(program: Graph, memory: Plan) -> list[str]:
    """What is wrong with a plan, described; empty when it is sound.

    Checked: every value lies whole and aligned inside its memory; inputs and constants are never written; a node's
    inputs are intact when it runs; its outputs and scratch keep off its inputs and each other, except where the
    operator may work in place; outputs are intact at the end; sizes and the lower bound are consistent.
    """
    return [*_misplaced(program, memory), *_Walk(program, memory).problems(), *_inconsistent(memory)]


def _misplaced(program: Graph, memory: Plan) -> Iterator[str]:
    sizes = _sizes(memory)
    for name, type_ in program.types.items():
        if name not in memory.places:
            yield f"%{name} has no place"
            continue
        place = memory.places[name]
        if place.nbytes != type_.nbytes:
            yield f"%{name} has {type_.nbytes} bytes, its place {place.nbytes}"
        if place.offset % ALIGNMENT and not _is_part(program, memory, name):
            yield f"%{name} lies at {place.offset}, which is not {ALIGNMENT}-byte aligned"
        if not (place.offset >= 0 and place.end <= sizes[place.base]):
            yield f"%{name} lies at {place.offset}, outside the {sizes[place.base]} bytes of {place.base}"
    for base, names in (("in", program.inputs), ("weights", program.constants), ("out", program.outputs)):
        wrong = [name for name in names if name in memory.places and memory.places[name].base != base]
        if wrong:
            yield f"%{wrong[0]} must lie in {base}, not in {memory.places[wrong[0]].base}"


def _is_part(program: Graph, memory: Plan, name: str) -> bool:
    """Whether a value lies inside a concat that is aligned."""
    place = memory.places[name]
    around = [memory.places[node.output] for node in program.nodes if isinstance(node.op, QConcat)]
    inside = [a for a in around if a.base == place.base and a.offset <= place.offset and place.end <= a.end]
    return any(a.offset % ALIGNMENT == 0 for a in inside)


def _addresses(place: Place) -> np.ndarray:
    """Of each byte of a value, in its order."""
    byte = np.arange(place.nbytes)
    if place.pieces is None:
        return place.offset + byte
    return place.offset + byte // place.pieces.nbytes * place.pieces.step + byte % place.pieces.nbytes


def _sizes(memory: Plan) -> dict[str, int]:
    return {
        "in": memory.input_bytes,
        "out": memory.output_bytes,
        "arena": memory.arena_bytes,
        "weights": memory.weights_bytes,
        "state": memory.states_bytes,
        "next": memory.next_bytes,
    }


def _inconsistent(memory: Plan) -> Iterator[str]:
    if memory.lower_bound_bytes > memory.arena_bytes:
        yield f"the lower bound of {memory.lower_bound_bytes} bytes is over the arena's {memory.arena_bytes}"
    places = [*memory.places.values(), *memory.scratch.values()]
    end = max((p.end for p in places if p.base == "arena"), default=0)
    if not end <= memory.arena_bytes < end + ALIGNMENT:
        yield f"the arena has {memory.arena_bytes} bytes, its last value ends at {end}"
    for base, size in _sizes(memory).items():
        end = max((place.end for place in places if place.base == base), default=0)
        if base != "arena" and end != size:
            yield f"{base} has {size} bytes, its last value ends at {end}"


class _Walk:
    def __init__(self, program: Graph, memory: Plan) -> None:
        self._program = program
        self._memory = memory
        self._owner = {base: np.full(max(size, 1), _NOTHING, np.int64) for base, size in _sizes(memory).items()}
        self._content: dict[str, np.ndarray] = {}
        self._written = 0

    def problems(self) -> Iterator[str]:
        for name in (*self._program.inputs, *self._program.states, *self._program.constants):
            yield from self._write(name, f"entry %{name}", self._at(self._place(name)))
        for index, node in enumerate(self._program.nodes):
            yield from self._step(index, node)
        for name in self._program.sinks():
            if not self._is_whole(name):
                yield f"output %{name} is not whole at the end"

    def _step(self, index: int, node: Node) -> Iterator[str]:
        assert isinstance(node.op, IntegerOperator)
        there = [
            self._is_there(node, name, wanted) for name, wanted in zip(node.inputs, self._wanted(node), strict=True)
        ]
        for name, is_there in zip(node.inputs, there, strict=True):
            if not self._is_whole(name):
                yield f"{node}: %{name} was overwritten before this use"
            if self._place(name).pieces and not is_there:
                yield f"{node}: %{name} is read where it lies in pieces"
        if node.op.alias and self._place(node.outputs[0]) == self._place(node.inputs[0]):
            self._content[node.outputs[0]] = self._content[node.inputs[0]]
            return
        kept = [self._at(self._place(name)) for name, is_there in zip(node.inputs, there, strict=True) if is_there]
        written = {name: self._at(self._place(name)) for name in node.outputs}
        if kept:
            written[node.output] = np.setdiff1d(written[node.output], np.concatenate(kept))
        yield from self._collisions(index, node, written)
        scratch = self._memory.scratch.get(index)
        if scratch is not None:
            self._owner[scratch.base][self._at(scratch)] = _SCRATCH
        for name, addresses in written.items():
            if self._place(name).base in _READ_ONLY:
                yield f"{node}: %{name} is written into {self._place(name).base}"
            yield from self._write(name, str(node), addresses)

    def _wanted(self, node: Node) -> list[np.ndarray | None]:
        """The addresses in its output where a concat wants each of its inputs; nothing for other operators."""
        if not isinstance(node.op, QConcat):
            return [None] * len(node.inputs)
        output = self._program.types[node.output]
        within = _addresses(self._place(node.output)).reshape(output.bounds)
        ends = np.cumsum([self._program.types[name].bounds[node.op.axis] for name in node.inputs])
        return [part.reshape(-1) for part in np.split(within, ends[:-1], axis=node.op.axis)]

    def _is_there(self, node: Node, name: str, wanted: np.ndarray | None) -> bool:
        place = self._place(name)
        if wanted is None or place.base != self._place(node.output).base:
            return False
        return np.array_equal(_addresses(place), wanted)

    def _collisions(self, index: int, node: Node, outputs: dict[str, np.ndarray]) -> Iterator[str]:
        """Places that one call reads and writes, or writes twice, or writes in pieces that its kernel cannot write."""
        assert isinstance(node.op, IntegerOperator)
        scratch = self._memory.scratch.get(index)
        types = self._program.input_types(node), self._program.output_types(node)
        needed = node.op.scratch_bytes(*types)
        if needed > (scratch.nbytes if scratch else 0):
            yield f"{node}: needs {needed} bytes of scratch"
        written = [(f"%{name}", self._place(name), outputs[name]) for name in node.outputs]
        written += [("scratch", scratch, self._at(scratch))] if scratch else []
        for i, (label, place, addresses) in enumerate(written):
            if place.pieces and not node.op.writes_pieces(*types, place.pieces.nbytes):
                yield f"{node}: {label} cannot be written in pieces of {place.pieces.nbytes} bytes"
            for other, second, beside in written[:i]:
                if place.base == second.base and self._meet(place.base, addresses, beside):
                    yield f"{node}: {label} and {other} overlap"
            for k, name in enumerate(node.inputs):
                source = self._place(name)
                in_place = node.op.in_place and i == k == 0 and place == source
                if place.base == source.base and not in_place and self._meet(place.base, addresses, self._at(source)):
                    yield f"{node}: {label} overlaps its input %{name}"

    def _meet(self, base: str, some: np.ndarray, others: np.ndarray) -> bool:
        mask = np.zeros(len(self._owner[base]), bool)
        mask[some] = True
        return bool(mask[others].any())

    def _write(self, name: str, where: str, addresses: np.ndarray) -> Iterator[str]:
        """Give the bytes at `addresses` a new content; the value then is what its place holds."""
        place = self._place(name)
        owner = self._owner[place.base]
        if place.base in _READ_ONLY and (owner[addresses] != _NOTHING).any():
            yield f"{where}: %{name} overlaps another value of {place.base}"
        owner[addresses] = self._written
        self._written += 1
        self._content[name] = owner[self._at(place)]

    def _is_whole(self, name: str) -> bool:
        place = self._place(name)
        return name in self._content and np.array_equal(self._owner[place.base][self._at(place)], self._content[name])

    def _at(self, place: Place) -> np.ndarray:
        """Addresses of a value, as far as they lie in its memory."""
        found = _addresses(place)
        return found[(found >= 0) & (found < len(self._owner[place.base]))]

    def _place(self, name: str) -> Place:
        return self._memory.places[name]
