"""An independent judge of memory plans: it runs a plan on a memory that remembers whose content each byte holds.

The planner reasons with lifetimes; this file knows none. It walks through the program as the generated code does, and
for every byte of every memory keeps the number of the content that was written there last. A node may run when each
of its inputs is still whole.
"""

from collections.abc import Iterator

import numpy as np

from penjing.ir.graph import Graph, Node
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
        if place.offset % ALIGNMENT:
            yield f"%{name} lies at {place.offset}, which is not {ALIGNMENT}-byte aligned"
        if not 0 <= place.offset <= sizes[place.base] - place.nbytes:
            yield f"%{name} lies at {place.offset}, outside the {sizes[place.base]} bytes of {place.base}"
    for base, names in (("in", program.inputs), ("weights", program.constants), ("out", program.outputs)):
        wrong = [name for name in names if name in memory.places and memory.places[name].base != base]
        if wrong:
            yield f"%{wrong[0]} must lie in {base}, not in {memory.places[wrong[0]].base}"


def _sizes(memory: Plan) -> dict[str, int]:
    return {
        "in": memory.input_bytes,
        "out": memory.output_bytes,
        "arena": memory.arena_bytes,
        "weights": memory.weights_bytes,
    }


def _inconsistent(memory: Plan) -> Iterator[str]:
    if memory.lower_bound_bytes > memory.arena_bytes:
        yield f"the lower bound of {memory.lower_bound_bytes} bytes is over the arena's {memory.arena_bytes}"
    places = [*memory.places.values(), *memory.scratch.values()]
    end = max((p.offset + p.nbytes for p in places if p.base == "arena"), default=0)
    if not end <= memory.arena_bytes < end + ALIGNMENT:
        yield f"the arena has {memory.arena_bytes} bytes, its last value ends at {end}"
    for base, size in _sizes(memory).items():
        end = max((place.offset + place.nbytes for place in places if place.base == base), default=0)
        if base != "arena" and end != size:
            yield f"{base} has {size} bytes, its last value ends at {end}"


class _Walk:
    def __init__(self, program: Graph, memory: Plan) -> None:
        self._program = program
        self._memory = memory
        self._owner = {base: np.full(max(size, 1), _NOTHING, np.int64) for base, size in _sizes(memory).items()}
        self._content: dict[str, int] = {}

    def problems(self) -> Iterator[str]:
        for name in (*self._program.inputs, *self._program.constants):
            yield from self._write(name, f"entry %{name}", len(self._content))
        for index, node in enumerate(self._program.nodes):
            yield from self._step(index, node)
        for name in self._program.outputs:
            if not self._is_whole(name):
                yield f"output %{name} is not whole at the end"

    def _step(self, index: int, node: Node) -> Iterator[str]:
        assert isinstance(node.op, IntegerOperator)
        for name in node.inputs:
            if not self._is_whole(name):
                yield f"{node}: %{name} was overwritten before this use"
        if node.op.alias and self._place(node.outputs[0]) == self._place(node.inputs[0]):
            self._content[node.outputs[0]] = self._content[node.inputs[0]]
            return
        yield from self._collisions(index, node)
        scratch = self._memory.scratch.get(index)
        if scratch is not None:
            self._view(scratch)[:] = _SCRATCH
        for name in node.outputs:
            if self._place(name).base in _READ_ONLY:
                yield f"{node}: %{name} is written into {self._place(name).base}"
            yield from self._write(name, str(node), len(self._content))

    def _collisions(self, index: int, node: Node) -> Iterator[str]:
        """Places that one call reads and writes, or writes twice."""
        assert isinstance(node.op, IntegerOperator)
        scratch = self._memory.scratch.get(index)
        needed = node.op.scratch_bytes(self._program.input_types(node), self._program.output_types(node))
        if needed > (scratch.nbytes if scratch else 0):
            yield f"{node}: needs {needed} bytes of scratch"
        written = [(f"%{name}", self._place(name)) for name in node.outputs]
        written += [("scratch", scratch)] if scratch else []
        for i, (label, place) in enumerate(written):
            for other, second in written[:i]:
                if _overlap(place, second):
                    yield f"{node}: {label} and {other} overlap"
            for k, name in enumerate(node.inputs):
                in_place = node.op.in_place and i == k == 0 and place == self._place(name)
                if _overlap(place, self._place(name)) and not in_place:
                    yield f"{node}: {label} overlaps its input %{name}"

    def _write(self, name: str, where: str, content: int) -> Iterator[str]:
        place = self._place(name)
        view = self._view(place)
        if place.base in _READ_ONLY and (view != _NOTHING).any():
            yield f"{where}: %{name} overlaps another value of {place.base}"
        view[:] = content
        self._content[name] = content

    def _is_whole(self, name: str) -> bool:
        return name in self._content and bool((self._view(self._place(name)) == self._content[name]).all())

    def _place(self, name: str) -> Place:
        return self._memory.places[name]

    def _view(self, place: Place) -> np.ndarray:
        view: np.ndarray = self._owner[place.base][place.offset : place.offset + place.nbytes]
        return view


def _overlap(a: Place, b: Place) -> bool:
    return a.base == b.base and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes
