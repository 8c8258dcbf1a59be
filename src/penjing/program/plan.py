"""The static memory plan: where every value of a program lies in one arena that the caller owns.

Values are placed largest first at the lowest offset where no value that is alive at the same time lies (greedy by size,
as in Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020, section 5). An alias
operator shares its input's bytes; an in-place operator takes over its first input's bytes when nothing else reads them.
"""

from bisect import insort
from dataclasses import dataclass

from penjing.ir.graph import Graph, Node
from penjing.ops.operator import IntegerOperator

ALIGNMENT = 64


def align(nbytes: int) -> int:
    """`nbytes` rounded up to the alignment of every buffer."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Place:
    """Where a value lies: `base` is 'in', 'out', 'arena' or 'weights'."""

    base: str
    offset: int
    nbytes: int


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


def plan(program: Graph, threads: int = 1) -> Plan:
    """Place every value. Program inputs lie one after another in `in`, outputs in `out`, constants in `weights`."""
    places, weights_bytes = _stack("weights", program, tuple(program.constants))
    inputs, input_bytes = _stack("in", program, program.inputs)
    outputs, output_bytes = _stack("out", program, program.outputs)
    places |= inputs
    roots = _roots(program)
    places |= {name: place for name, place in outputs.items() if name not in inputs}
    buffers = _buffers(program, roots, places)
    scratch = {
        i: _Buffer(i, i, n) for i, node in enumerate(program.nodes) if (n := _scratch_bytes(program, node, threads))
    }
    _assign([*buffers.values(), *scratch.values()])
    everything = [*buffers.values(), *scratch.values()]
    for name in program.types:
        root = roots.get(name, name)
        if name not in places and root in buffers:
            places[name] = Place("arena", buffers[root].offset, program.types[name].nbytes)
        elif name not in places:
            places[name] = Place(places[root].base, places[root].offset, program.types[name].nbytes)
    return Plan(
        places,
        {i: Place("arena", b.offset, b.nbytes) for i, b in scratch.items()},
        arena_bytes=max((align(b.offset + b.nbytes) for b in everything), default=0),
        weights_bytes=weights_bytes,
        input_bytes=input_bytes,
        output_bytes=output_bytes,
        lower_bound_bytes=_lower_bound(everything, len(program.nodes)),
    )


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


def _roots(program: Graph) -> dict[str, str]:
    """Value -> the value whose bytes it shares.

    A program output keeps bytes of its own, and an alias of an input stays in the input.
    """
    last = {name: i for i, node in enumerate(program.nodes) for name in node.inputs}
    fixed = {*program.inputs, *program.constants, *program.outputs}
    roots = {name: name for name in program.types}
    last_of_root: dict[str, int] = {}
    for name, root in roots.items():
        last_of_root[root] = max(last_of_root.get(root, -1), last.get(name, -1))
    for i, node in enumerate(program.nodes):
        assert isinstance(node.op, IntegerOperator)
        if not (node.op.alias or node.op.in_place) or node.output in program.outputs:
            continue
        root = roots[node.inputs[0]]
        takes_over = node.op.in_place and root not in fixed and last_of_root[root] == i
        fits = program.types[node.output].nbytes == program.types[node.inputs[0]].nbytes
        if fits and (node.op.alias or takes_over):
            roots[node.output] = root
            last_of_root[root] = max(last_of_root[root], last.get(node.output, i))
    return roots


def _buffers(program: Graph, roots: dict[str, str], placed: dict[str, Place]) -> dict[str, _Buffer]:
    buffers: dict[str, _Buffer] = {}
    for i, node in enumerate(program.nodes):
        for name in (*node.outputs, *node.inputs):
            root = roots[name]
            if root in placed:
                continue
            nbytes = program.types[root].nbytes
            buffer = buffers.setdefault(root, _Buffer(i, i, nbytes))
            buffer.last = i
    return buffers


def _assign(buffers: list[_Buffer]) -> None:
    done: list[_Buffer] = []
    for buffer in sorted(buffers, key=lambda b: (-b.nbytes, b.first)):
        offset = 0
        for other in done:
            if other.last < buffer.first or buffer.last < other.first:
                continue
            if offset + buffer.nbytes <= other.offset:
                break
            offset = max(offset, align(other.offset + other.nbytes))
        buffer.offset = offset
        insort(done, buffer, key=lambda b: b.offset)


def _lower_bound(buffers: list[_Buffer], steps: int) -> int:
    live = [sum(align(b.nbytes) for b in buffers if b.first <= i <= b.last) for i in range(steps)]
    return max(live, default=0)
