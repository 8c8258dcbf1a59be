"""The static memory plan: where every value of a program lies in one arena that the caller owns.

Values are placed one after another at the lowest offset where no value that is alive at the same time lies, the largest
first (greedy by size, as in Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020,
section 5); where that leaves gaps, other orders are tried. Which values share bytes is decided before (`sharing.py`).
"""

from bisect import insort
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import accumulate

from penjing.ir.graph import Graph, Node
from penjing.ops.operator import IntegerOperator, Part, Pieces
from penjing.program.sharing import PartOf, Sharing, Spot, spot_of_part

ALIGNMENT = 64


def align(nbytes: int) -> int:
    """`nbytes` rounded up to the alignment of every buffer."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Place:
    """Where a value lies: `base` is 'in', 'out', 'arena', 'weights', 'state' or 'next'.

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

    A node that several threads compute has scratch for each, one after another in its place. What the next call reads
    as its states lies in `next`, as the states themselves in `state`, until the call ends; what is written over a
    state, as a cache to which steps are appended, lies there.
    `lower_bound_bytes` is the largest set of arena bytes alive at once: no plan can need less.
    """

    places: dict[str, Place]
    scratch: dict[int, Place]
    arena_bytes: int
    weights_bytes: int
    input_bytes: int
    output_bytes: int
    lower_bound_bytes: int
    states_bytes: int = 0
    next_bytes: int = 0

    @property
    def saved_bytes(self) -> int:
        """What of a session is worth saving: the states."""
        return align(self.states_bytes)

    @property
    def session_bytes(self) -> int:
        """Memory that a caller keeps from call to call: the states, and behind them what those that move become."""
        return align(self.states_bytes) + align(self.next_bytes)

    @property
    def codes_bytes(self) -> tuple[int, int]:
        """Memory for the codes of all inputs and of all outputs, aligned."""
        return align(self.input_bytes), align(self.output_bytes)

    @property
    def arena_f32_bytes(self) -> int:
        """The arena of a call that takes and gives floats: it holds the codes as well."""
        return self.arena_bytes + sum(self.codes_bytes)


def plan(program: Graph, threads: int = 1) -> Plan:
    """Place every value. Program inputs lie one after another in `in`, outputs in `out`, constants in `weights`."""
    sharing = Sharing(program)
    weights, weights_bytes = _stack("weights", sharing, program.constants)
    inputs, input_bytes = _stack("in", sharing, program.inputs)
    outputs, output_bytes = _stack("out", sharing, program.outputs)
    written = written_states(program)
    moved = [name for name in program.states if name not in written]
    states, states_bytes = _stack("state", sharing, [*moved, *written])
    updates, next_bytes = _stack("next", sharing, [program.states[name].update for name in moved])
    updates |= {program.states[name].update: states[name] for name in written}
    places = outputs | weights | inputs | states | updates
    arena = _smallest(program, sharing, threads, places)
    for name, spot in arena.spots.items():
        root = places.get(spot.root)
        base, offset = (root.base, root.offset) if root else ("arena", arena.values[spot.root])
        places[name] = Place(base, offset + spot.offset, sharing.nbytes[name], spot.pieces)
    return Plan(
        places,
        arena.scratch,
        arena_bytes=arena.nbytes,
        weights_bytes=weights_bytes,
        input_bytes=input_bytes,
        output_bytes=output_bytes,
        lower_bound_bytes=arena.lower_bound_bytes,
        states_bytes=states_bytes,
        next_bytes=next_bytes,
    )


def written_states(program: Graph) -> list[str]:
    """States that their update is written over: an operator in place makes it of the state, which none reads later."""
    producers, users = program.producers(), program.users()
    found = []
    for name, state in program.states.items():
        maker, readers = producers[state.update], users[name]
        ops = [node.op for node in readers if isinstance(node.op, IntegerOperator)]
        is_last = bool(ops) and readers[-1] is maker and maker.inputs[0] == name not in maker.inputs[1:]
        if is_last and ops[-1].in_place and not any(op.alias for op in ops):
            found.append(name)
    return found


def moved_inputs(program: Graph, memory: Plan, node: Node) -> tuple[int, ...]:
    """Positions of the inputs that a node's kernel has to read.

    All, except those that lie in the output already because the operator only joins them, or only renames its input.
    """
    assert isinstance(node.op, IntegerOperator)
    target = memory.places[node.outputs[0]]
    if node.op.alias:
        source = memory.places[node.inputs[0]]
        return () if (target.base, target.offset) == (source.base, source.offset) else (0,)
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


def _stack(base: str, sharing: Sharing, names: Iterable[str]) -> tuple[dict[str, Place], int]:
    places, offset, end = {}, 0, 0
    for name in names:
        nbytes = sharing.nbytes[name]
        places[name] = Place(base, offset, nbytes)
        end = offset + nbytes
        offset = align(end)
    return places, end


def _scratch_bytes(program: Graph, node: Node, threads: int) -> int:
    assert isinstance(node.op, IntegerOperator)
    nbytes = node.op.scratch_bytes(program.input_types(node), program.output_types(node))
    return align(nbytes) * threads if node.op.splits and threads > 1 else nbytes


@dataclass(frozen=True)
class _Buffer:
    """One stretch of arena memory: first and last node index at which it holds something."""

    first: int
    last: int
    nbytes: int


@dataclass(frozen=True)
class _Arena:
    """Which values share bytes; the offset of each root and the place of each node's scratch; and what that takes."""

    spots: dict[str, Spot]
    values: dict[str, int]
    scratch: dict[int, Place]
    nbytes: int
    lower_bound_bytes: int


def _smallest(program: Graph, sharing: Sharing, threads: int, placed: Collection[str]) -> _Arena:
    """The smallest arena that is found, and of several such the one with the most parts of concats in place.

    A concat's bytes are taken from its first part on. Where most bytes are alive at once, parts that are made so early
    may better be copied.
    """
    scratch = {
        i: _Buffer(i, i, n) for i, node in enumerate(program.nodes) if (n := _scratch_bytes(program, node, threads))
    }
    apart: set[PartOf] = set()
    best: _Arena | None = None
    while True:
        spots = dict(sharing.decide(apart))
        values = _buffers(sharing, spots, placed)
        live = _live([*values.values(), *scratch.values()], len(program.nodes))
        if best is None or max(live, default=0) < best.nbytes:
            arena = _arena(spots, values, scratch, max(live, default=0))
            best = arena if best is None or arena.nbytes < best.nbytes else best
        early = _early_parts(program, sharing, spots, values, live) - apart
        if not early:
            return best
        apart |= early


def _buffers(sharing: Sharing, spots: dict[str, Spot], placed: Collection[str]) -> dict[str, _Buffer]:
    """Root -> its stretch of the arena."""
    spans: dict[str, tuple[int, int]] = {}
    for name, spot in spots.items():
        if spot.root not in placed:
            first, last = spans.get(spot.root, (sharing.first[name], sharing.last[name]))
            spans[spot.root] = min(first, sharing.first[name]), max(last, sharing.last[name])
    return {root: _Buffer(first, last, sharing.nbytes[root]) for root, (first, last) in spans.items()}


def _live(buffers: list[_Buffer], steps: int) -> list[int]:
    """Bytes alive at each node."""
    change = [0] * (steps + 1)
    for buffer in buffers:
        change[buffer.first] += align(buffer.nbytes)
        change[buffer.last + 1] -= align(buffer.nbytes)
    return list(accumulate(change[:-1]))


def _early_parts(
    program: Graph, sharing: Sharing, spots: dict[str, Spot], values: dict[str, _Buffer], live: list[int]
) -> set[PartOf]:
    """Parts in place of concats that are alive where most bytes are and run later, if the part is made by then."""
    peak = live.index(max(live)) if live else 0
    early = set()
    for i, parts in sharing.parts.items():
        root = spots[program.nodes[i].output].root
        if i <= peak or root not in values or values[root].first > peak:
            continue
        names = program.nodes[i].inputs[: len(parts)]
        early |= {(i, k) for k, name in enumerate(names) if spots[name].root == root and sharing.first[name] <= peak}
    return early


def _arena(
    spots: dict[str, Spot], values: dict[str, _Buffer], scratch: dict[int, _Buffer], lower_bound_bytes: int
) -> _Arena:
    """The smallest of several greedy arenas; the first one at the lower bound ends the search."""
    buffers = [*values.values(), *scratch.values()]
    nbytes, offsets = -1, [0] * len(buffers)
    for order in _ORDERS:
        tried = _placed_in(sorted(range(len(buffers)), key=lambda k: order(buffers[k])), buffers)
        end = max((align(offset + b.nbytes) for offset, b in zip(tried, buffers, strict=True)), default=0)
        if nbytes < 0 or end < nbytes:
            nbytes, offsets = end, tried
        if nbytes == lower_bound_bytes:
            break
    roots = dict(zip(values, offsets, strict=False))
    places = {i: Place("arena", offsets[len(values) + k], b.nbytes) for k, (i, b) in enumerate(scratch.items())}
    return _Arena(spots, roots, places, nbytes, lower_bound_bytes)


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
    done: list[tuple[int, int, int, int]] = []  # (offset, end, first, last), by offset
    for k in order:
        buffer, offset = buffers[k], 0
        for start, end, first, last in done:
            if last < buffer.first or buffer.last < first:
                continue
            if offset + buffer.nbytes <= start:
                break
            offset = max(offset, end)
        offsets[k] = offset
        insort(done, (offset, align(offset + buffer.nbytes), buffer.first, buffer.last))
    return offsets
