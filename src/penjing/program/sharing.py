"""Which values of a program share bytes: aliases, operators that work in place, and parts of a concat that are computed
where the concat wants them.

The parts of a concat lie in one piece each where no axis before the concat's is longer than 1. Elsewhere, as in a
concat of channels that lie innermost, a part is a row of pieces; only the kernel that makes it has to know, as long as
nothing but the concat reads it.
"""

from collections.abc import Collection
from dataclasses import dataclass

from penjing.ir.graph import Graph, Node
from penjing.ir.types import Type
from penjing.ops.operator import IntegerOperator, Part, Pieces

PartOf = tuple[int, int]
"""An input of a concat: the index of its node, and the position."""


@dataclass(frozen=True)
class Spot:
    """Where a value lies in the bytes of another, its root: from `offset` on, whole or in pieces."""

    root: str
    offset: int = 0
    pieces: Pieces | None = None

    def inside(self, around: "Spot") -> "Spot | None":
        """The same spot once its root lies at `around`; None for what would have to be cut into pieces twice."""
        if around.pieces is None:
            return Spot(around.root, around.offset + self.offset, self.pieces)
        if self == Spot(self.root):
            return around
        if self.pieces is None or self.pieces.step != around.pieces.nbytes:
            return None
        return Spot(around.root, around.offset + self.offset, Pieces(self.pieces.nbytes, around.pieces.step))


def spot_of_part(part: Part, target: Spot, nbytes: int) -> Spot | None:
    """Where an input of `nbytes` bytes lies in an output at `target`; None where it would be cut into pieces twice."""
    if part.pieces.nbytes == nbytes:
        return None if target.pieces else Spot(target.root, target.offset + part.offset)
    return Spot("", part.offset, part.pieces).inside(target)


class Sharing:
    """Decides which values of a program share bytes, in one walk, so that a decision knows all those before it.

    Attributes:
        nbytes: of every value.
        first, last: indices of the nodes that make a value and that read it last; of an input or a constant, -1 and the
            last reader; of a value that nothing reads, twice its maker.
        parts: of the nodes that join their inputs, by index; not where places within the output follow the length of a
            sequence.
    """

    def __init__(self, program: Graph) -> None:
        self._program = program
        self._fixed = {*program.inputs, *program.constants, *program.states, *program.sinks()}
        self._producers = program.producers()
        self._readers = dict.fromkeys(program.types, 0)
        self.nbytes = {name: type_.nbytes for name, type_ in program.types.items()}
        self.first = dict.fromkeys(program.types, -1)
        self.last = dict.fromkeys(program.types, -1)
        self.parts: dict[int, tuple[Part, ...]] = {}
        for i, node in enumerate(program.nodes):
            assert isinstance(node.op, IntegerOperator)
            for name in node.inputs:
                self._readers[name] += 1
                self.last[name] = i
            for name in node.outputs:
                self.first[name] = self.last[name] = i
            parts = node.op.parts(*self._types(node))
            if parts and parts == node.op.parts(*self._types(node, shortest=True)):
                self.parts[i] = parts
        self._spots: dict[str, Spot] = {}
        self._members: dict[str, list[str]] = {}

    def decide(self, apart: Collection[PartOf] = ()) -> dict[str, Spot]:
        """Every value -> where it lies; one with bytes of its own is its own root.

        A program output and the update of a state keep bytes of their own, and an alias of an input stays in the input.
        Inputs of concats that are listed in `apart` are not computed in place.
        """
        self._spots = {name: Spot(name) for name in self._program.types}
        self._members = {name: [name] for name in self._program.types}
        for i, node in enumerate(self._program.nodes):
            assert isinstance(node.op, IntegerOperator)
            same = self.nbytes[node.inputs[0]] == self.nbytes[node.outputs[0]]  # a norm may read 16 bits and write 8
            if (node.op.alias or (node.op.in_place and same)) and node.output not in self._fixed:
                self._follow(i, node, alias=node.op.alias)
            for k, part in enumerate(self.parts.get(i, ())):
                if (i, k) not in apart:
                    self._lay_inside(node.inputs[k], node.output, part)
        return self._spots

    def _types(self, node: Node, *, shortest: bool = False) -> tuple[tuple[Type, ...], tuple[Type, ...]]:
        inputs, outputs = self._program.input_types(node), self._program.output_types(node)
        if not shortest:
            return inputs, outputs
        return tuple(t.at_length(1) for t in inputs), tuple(t.at_length(1) for t in outputs)

    def _follow(self, i: int, node: Node, *, alias: bool) -> None:
        """Let an alias, or an output that is computed in place, lie where the first input lies."""
        source = node.inputs[0]
        spot = self._spots[source]
        takes_over = spot.root not in self._fixed and self._last_use(spot.root) == i
        if self.nbytes[node.output] == self.nbytes[source] and (alias or takes_over):
            self._spots[node.output] = spot
            self._members[spot.root].append(node.output)

    def _last_use(self, root: str) -> int:
        return max(self.last[name] for name in self._members[root])

    def _lay_inside(self, name: str, whole: str, part: Part) -> None:
        """Move everything that shares bytes with part `name` of a concat into the concat, where that is possible."""
        target = spot_of_part(part, self._spots[whole], self.nbytes[name])
        assert target is not None  # the concat is still where it was made
        if target.pieces:
            self._leave(name, part)
        spot = self._spots[name]
        if spot.root in self._fixed or spot != Spot(spot.root) or self.nbytes[spot.root] != self.nbytes[name]:
            return
        if target.pieces and not (spot.root == name and self._can_be_cut(name, part)):
            return
        moved = {member: self._spots[member].inside(target) for member in self._members[spot.root]}
        if None in moved.values():
            return
        self._spots |= {member: place for member, place in moved.items() if place}
        self._members[target.root] += self._members.pop(spot.root)

    def _can_be_cut(self, name: str, part: Part) -> bool:
        """Whether `name` can be made in pieces: its kernel can, and nothing but the concat reads it."""
        maker = self._producers.get(name)
        if maker is None or self._readers[name] != 1:
            return False
        assert isinstance(maker.op, IntegerOperator)
        return maker.op.writes_pieces(*self._types(maker), part.pieces.nbytes)

    def _leave(self, name: str, part: Part) -> None:
        """Let a value that was to be computed in place be made in pieces instead, which saves the concat a copy."""
        root = self._spots[name].root
        if root == name or self._members[root][-1] != name or not self._can_be_cut(name, part):
            return
        self._members[root].remove(name)
        self._spots[name] = Spot(name)
        self._members[name] = [name]
