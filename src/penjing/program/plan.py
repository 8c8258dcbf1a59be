"""The static memory plan: where every value of a program lies in one arena that the caller owns.

Values are placed one after another at the lowest offset where no value that is alive at the same time lies, the largest
first (greedy by size, as in Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020,
section 5); where that leaves gaps, other orders are tried. Which values share bytes is decided before (`sharing.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from penjing.ir.graph import Graph, Node
from penjing.ops.operator import IntegerOperator, Part, Pieces
from penjing.program.sharing import PartOf, Spot, shared, spot_of_part

ALIGNMENT = 64


def align(nbytes: int) -> int:
    """`nbytes` rounded up to the alignment of every buffer."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Place:
    """Where a value lies: `base` is 'in', 'out', 'arena' or 'weights'.

    One in pieces is part of a concat, which alone reads it.
    """

    base: str
    offset: int
    nbytes: int
    pieces: Pieces | None = None

    @property
    def end(self) -> int:
        """Where its last byte ends."""
        if self.pieces is None:
            return self.offset + self.nbytes
        return self.offset + (self.nbytes // self.pieces.nbytes - 1) * self.pieces.step + self.pieces.nbytes


@dataclass(frozen=True)
class Plan:
    """Places of all values of a program, scratch by node index, and the exact sizes.

    A node that several threads compute has scratch for each, one after another in its place.
    `lower_bound_bytes` is the largest set of arena bytes alive at once: no plan can need less.
    """

    places: dict[str, Place]
    scratch: dict[int, Place]
    arena_bytes: int
    weights_bytes: int
    input_bytes: int
    output_bytes: int
    lower_bound_bytes: int

    @property
    def codes_bytes(self) -> tuple[int, int]:
        """Memory for the codes of all inputs and of all outputs, aligned."""
        return align(self.input_bytes), align(self.output_bytes)

    @property
    def arena_f32_bytes(self) -> int:
        """The arena of a call that takes and gives floats: it holds the codes as well."""
        return self.arena_bytes + sum(self.codes_bytes)


@dataclass
class _Buffer:
    """One stretch of arena memory: first and last node index at which it holds something."""

    first: int
    last: int
    nbytes: int
    offset: int = -1


@dataclass(frozen=True)
class _Draft:
    """Which values share bytes, and the stretches of the arena that this takes: of values by root, scratch by node."""

    spots: dict[str, Spot]
    values: dict[str, _Buffer]
    scratch: dict[int, _Buffer]

    @property
    def buffers(self) -> list[_Buffer]:
        return [*self.values.values(), *self.scratch.values()]


def plan(program: Graph, threads: int = 1) -> Plan:
    """Place every value. Program inputs lie one after another in `in`, outputs in `out`, constants in `weights`."""
    places, weights_bytes = _stack("weights", program, tuple(program.constants))
    inputs, input_bytes = _stack("in", program, program.inputs)
    outputs, output_bytes = _stack("out", program, program.outputs)
    places = outputs | places | inputs
    draft, lower_bound_bytes = _smallest(program, threads, places)
    arena_bytes = _assign(draft.buffers, lower_bound_bytes)
    roots = places | {name: Place("arena", buffer.offset, buffer.nbytes) for name, buffer in draft.values.items()}
    for name, spot in draft.spots.items():
        root = roots[spot.root]
        nbytes = program.types[name].nbytes
        places[name] = Place(root.base, root.offset + spot.offset, nbytes, spot.pieces)
    return Plan(
        places,
        {i: Place("arena", b.offset, b.nbytes) for i, b in draft.scratch.items()},
        arena_bytes=arena_bytes,
        weights_bytes=weights_bytes,
        input_bytes=input_bytes,
        output_bytes=output_bytes,
        lower_bound_bytes=lower_bound_bytes,
    )


def moved_inputs(program: Graph, memory: Plan, node: Node) -> tuple[int, ...]:
    """Positions of the inputs that a node's kernel has to read.

    All, except those that lie in the output already because the operator only joins them, or only renames its input.
    """
    assert isinstance(node.op, IntegerOperator)
    target = memory.places[node.outputs[0]]
    if node.op.alias:
        there = [(target.base, target.offset) == (memory.places[x].base, memory.places[x].offset) for x in node.inputs]
        return tuple(k for k, is_there in enumerate(there) if not is_there)
    types = program.input_types(node), program.output_types(node)
    lies = {k: _part_place(part, target, types[0][k].nbytes) for k, part in enumerate(node.op.parts(*types))}
    return tuple(k for k, name in enumerate(node.inputs) if lies.get(k) != memory.places[name])


def _part_place(part: Part, target: Place, nbytes: int) -> Place | None:
    spot = spot_of_part(part, Spot("", target.offset, target.pieces), nbytes)
    return Place(target.base, spot.offset, nbytes, spot.pieces) if spot else None


def peak_activation_bytes(graph: Graph) -> int:
    """The largest sum of activation bytes alive at once, without any sharing: for float graphs, which have no plan."""
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    end = len(graph.nodes)
    first = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs}
    spans = []
    for name in graph.activations():
        start = first.get(name, 0)
        spans.append((start, end if name in graph.outputs else last.get(name, start), graph.types[name].nbytes))
    return max((sum(n for a, b, n in spans if a <= i <= b) for i in range(end)), default=0)


def _stack(base: str, program: Graph, names: tuple[str, ...]) -> tuple[dict[str, Place], int]:
    places, offset, end = {}, 0, 0
    for name in names:
        nbytes = program.types[name].nbytes
        places[name] = Place(base, offset, nbytes)
        end = offset + nbytes
        offset = align(end)
    return places, end


def _scratch_bytes(program: Graph, node: Node, threads: int) -> int:
    assert isinstance(node.op, IntegerOperator)
    nbytes = node.op.scratch_bytes(program.input_types(node), program.output_types(node))
    return align(nbytes) * threads if node.op.splits and threads > 1 else nbytes


def _smallest(program: Graph, threads: int, placed: dict[str, Place]) -> tuple[_Draft, int]:
    """The draft with the most parts of concats in place among those that need the least, and what it needs.

    A concat's bytes are taken from its first part on. Where most bytes are alive at once, it is tried whether parts
    made so early are better copied.
    """
    apart: set[PartOf] = set()
    draft = _draft(program, threads, placed, apart)
    live = _live(draft.buffers, len(program.nodes))
    while early := _early_parts(program, draft, live, apart):
        other = _draft(program, threads, placed, apart | early)
        needed = _live(other.buffers, len(program.nodes))
        if max(needed) >= max(live):
            break
        draft, live, apart = other, needed, apart | early
    return draft, max(live, default=0)


def _draft(program: Graph, threads: int, placed: dict[str, Place], apart: set[PartOf]) -> _Draft:
    spots = shared(program, apart)
    scratch = {
        i: _Buffer(i, i, n) for i, node in enumerate(program.nodes) if (n := _scratch_bytes(program, node, threads))
    }
    return _Draft(spots, _buffers(program, spots, placed), scratch)


def _early_parts(program: Graph, draft: _Draft, live: list[int], apart: set[PartOf]) -> set[PartOf]:
    """The parts of concats that are in place and made before the first node at which most bytes are alive."""
    peak = live.index(max(live)) if live else 0
    made = {name: i for i, node in enumerate(program.nodes) for name in node.outputs}
    early = set()
    for i, node in enumerate(program.nodes[peak + 1 :], peak + 1):
        assert isinstance(node.op, IntegerOperator)
        root = draft.spots[node.outputs[0]].root
        if root not in draft.values or draft.values[root].first > peak:
            continue
        for k, _ in enumerate(node.op.parts(program.input_types(node), program.output_types(node))):
            name = node.inputs[k]
            if draft.spots[name].root == root and made.get(name, i) <= peak:
                early.add((i, k))
    return early - apart


def _buffers(program: Graph, spots: dict[str, Spot], placed: dict[str, Place]) -> dict[str, _Buffer]:
    buffers: dict[str, _Buffer] = {}
    for i, node in enumerate(program.nodes):
        for name in (*node.outputs, *node.inputs):
            root = spots[name].root
            if root not in placed:
                buffers.setdefault(root, _Buffer(i, i, program.types[root].nbytes)).last = i
    return buffers


def _assign(buffers: list[_Buffer], enough: int) -> int:
    """Give every buffer the offset that it has in the smallest of several greedy arenas, whose size is returned.

    The first arena of `enough` bytes ends the search.
    """
    best, chosen = -1, [0] * len(buffers)
    for order in _ORDERS:
        offsets = _placed_in(sorted(range(len(buffers)), key=lambda k: order(buffers[k])), buffers)
        size = max((align(at + b.nbytes) for at, b in zip(offsets, buffers, strict=True)), default=0)
        if best < 0 or size < best:
            best, chosen = size, offsets
        if best <= enough:
            break
    for buffer, offset in zip(buffers, chosen, strict=True):
        buffer.offset = offset
    return best


# Which buffers come first: the largest, those that hold most for longest, the longest-lived, or in the order of time.
_ORDERS: tuple[Callable[[_Buffer], tuple[int, int]], ...] = (
    lambda b: (-b.nbytes, b.first),
    lambda b: (-b.nbytes * (b.last - b.first + 1), b.first),
    lambda b: (b.first - b.last, -b.nbytes),
    lambda b: (b.first, -b.nbytes),
    lambda b: (-b.last, -b.nbytes),
)


def _placed_in(order: list[int], buffers: list[_Buffer]) -> list[int]:
    """Offsets of the buffers, each put at the lowest offset where nothing of those before it is alive at its time."""
    offsets = [0] * len(buffers)
    done: list[int] = []
    for k in order:
        buffer, offset = buffers[k], 0
        for other in sorted(done, key=lambda d: offsets[d]):
            if buffers[other].last < buffer.first or buffer.last < buffers[other].first:
                continue
            if offset + buffer.nbytes <= offsets[other]:
                break
            offset = max(offset, align(offsets[other] + buffers[other].nbytes))
        offsets[k] = offset
        done.append(k)
    return offsets


def _live(buffers: list[_Buffer], steps: int) -> list[int]:
    """Bytes alive at each node."""
    return [sum(align(b.nbytes) for b in buffers if b.first <= i <= b.last) for i in range(steps)]
