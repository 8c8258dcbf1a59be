"""A network that reads whole sequences, as one that reads them in pieces of some steps and goes on where it was.

It stands behind quantization, so that both have the same codes, and every byte of the one is a byte of the other:

    y[0:T]  of x[0:T]   =   y of x[0:n], then y of x[n:2n], ...                  joined along time, for causal networks

What a step reads of those before it becomes a state. For a recurrent layer that is what it carries, in the codes in
which it carries it; for a convolution, the last (kernel - 1) * dilation steps of its input, at first those zeros that
the padding before a sequence holds. For a causal attention, it is the keys and values of all steps so far, with room
for those of a whole sequence, and their number: a position, which also says where in tables of positions a piece is.
Every other operator takes its steps one by one (`ops/along_time.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from penjing.core.errors import InvalidGraph, InvalidInput, UnsupportedOp
from penjing.ir.graph import Graph, Node
from penjing.ir.lengths import length_bound
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import DType, Names, Quant, State, Type, bound
from penjing.ops.advance import Advance
from penjing.ops.along_time import along_time
from penjing.ops.append import Append
from penjing.ops.concat import Concat
from penjing.ops.floats import float_reads
from penjing.ops.fusion import between_roundings
from penjing.ops.lowering import channels_last
from penjing.ops.matmul import transposed_last
from penjing.ops.operator import Carried, Operator
from penjing.ops.permute import Permute
from penjing.ops.recurrent import Recurrent, state_codes
from penjing.ops.slice import Select, Slice
from penjing.ops.take_steps import TakeSteps
from penjing.ops.track import Moment, Reading, Scores, Steps, Streamed, Track


@dataclass(frozen=True)
class StreamSteps(Pass):
    """Cut the time of a quantized network to a few steps and make states of what it has to know of earlier ones.

    Attributes:
        axes: input -> its axis of time; other inputs have none and come anew with every piece.
        steps: of a piece.
    """

    name = "stream-steps"

    axes: Mapping[str, int]
    steps: int = 1

    def run(self, graph: Graph) -> PassResult:
        """The network for pieces, with states.

        Raises:
            InvalidInput: axes that are none, or differ in extent; no steps, or more than caches have room for.
            InvalidGraph: the graph is not quantized, or has states already.
            UnsupportedOp: a node needs steps that come later, or all of them at once.
        """
        whole = _whole(graph, self.axes)
        if self.steps < 1:
            raise InvalidInput(f"a piece of {self.steps} steps", where="steps", hint="1 or more")
        builder = _Builder(graph, self.axes, whole, self.steps)
        for node in graph.nodes:
            builder.add(node)
        return PassResult(builder.done(), tuple(builder.remarks))


def _whole(graph: Graph, axes: Mapping[str, int]) -> int:
    """The steps of a sequence."""
    where = f"graph {graph.name}"
    if graph.stage != "compressed":
        what = f"only a compressed graph can be streamed, not {graph.stage}"
        raise InvalidGraph(what, where=where, hint="quantize it first")
    if length_bound(graph) is not None:
        what = "a network for sequences of any length cannot be streamed"
        raise InvalidInput(what, where=where, hint="capture it without a length, for sequences of one")
    if graph.states:
        raise InvalidGraph(f"it streams already: {', '.join(graph.states)} go from call to call", where=where)
    found = set()
    for name, axis in axes.items():
        if name not in graph.inputs:
            raise InvalidInput(f"there is no input {name}", where=where, hint=f"inputs: {', '.join(graph.inputs)}")
        shape = graph.types[name].shape
        extent = shape[axis] if 1 <= axis < len(shape) else None
        if not isinstance(extent, int):
            raise InvalidInput(
                f"axis {axis} of input {name} {graph.types[name].bounds} is not one of time", where=where
            )
        found.add(extent)
    if len(found) != 1:
        raise InvalidInput(f"sequences of {sorted(found) or 'no'} steps", where=where, hint="name each axis of time")
    return found.pop()


class _Builder:
    def __init__(self, graph: Graph, axes: Mapping[str, int], whole: int, steps: int) -> None:
        self.old = graph
        self.new = Graph(graph.name, graph.stage, outputs=graph.outputs)
        self.whole, self.steps = whole, steps
        self.remarks: list[Remark] = []
        self._names = Names(set(graph.types))
        self._joined: dict[tuple[str, int, int], str] = {}
        self._cached: dict[tuple[str, int], str] = {}
        self._cut_tables: dict[tuple[str, int, int], str] = {}
        self._counter = ""
        self._tracks: dict[str, Track] = {}
        for name in graph.inputs:
            type_, axis = graph.types[name], axes.get(name)
            self._tracks[name] = Moment.ALWAYS if axis is None else Steps(axis)
            self.new.add_input(name, type_ if axis is None else _cut(type_, axis, steps))
        for name, constant in graph.constants.items():
            self.new.add_constant(name, constant)

    def add(self, node: Node) -> None:
        """A node of the old graph, with what it has to remember."""
        assert isinstance(node.op, Operator)
        tracks = tuple(self._tracks.get(name, Moment.ALWAYS) for name in node.inputs)
        if not any(isinstance(track, Steps | Scores) for track in tracks):
            last = Moment.LAST if Moment.LAST in tracks else Moment.ALWAYS
            self._tracks |= dict.fromkeys(node.outputs, last)
            self._emit(node, [self.old.types[name].quant for name in node.outputs])
            return
        inputs = tuple(self.old.types[name] if name else None for name in node.inputs)
        known = tuple(name in self.old.constants for name in node.inputs)
        reading = Reading(node, inputs, self.old.output_types(node), tracks, known, self.whole, self.steps)
        streamed = along_time(reading)
        self._tracks |= dict(zip(node.outputs, streamed.tracks, strict=True))
        if streamed.reach:
            x = self._remembered(node.inputs[0], reading.at.axis, streamed.reach, node)
            node = replace(node, inputs=(x, *node.inputs[1:]))
        if streamed.has_end:
            node = replace(node, inputs=self._up_to_now(node, streamed))
        node = replace(node, op=streamed.op)
        if isinstance(node.op, Recurrent):
            self._recurrent(node)
        else:
            self._emit(node, [self.old.types[name].quant for name in node.outputs])

    def done(self) -> Graph:
        """The new graph, whose values are rounded where those of the old one are."""
        for name in self.old.outputs:
            track = self._tracks[name]
            if isinstance(track, Steps) and (track.before or track.after):
                raise UnsupportedOp(
                    f"output {name} has {track.before + track.after} steps more than the sequence",
                    where=f"graph {self.old.name}",
                    hint="cut off those behind its end",
                )
        known = set(self.old.types)
        same = between_roundings(self.old) == between_roundings(self.new) & known
        if not same or float_reads(self.old) != float_reads(self.new):  # states hold codes
            raise UnsupportedOp(
                "in pieces of so many steps it would be rounded elsewhere than as a whole",
                where=f"graph {self.old.name}",
                hint="take another number of steps, or keep fewer layers in float32 side by side",
            )
        self.new.drop_unused_constants()
        return self.new

    def _emit(self, node: Node, quants: list[Quant | None]) -> None:
        self.new.add_node(node.op, node.inputs, node.outputs, node.source)
        for name, quant in zip(node.outputs, quants, strict=True):
            self.new.types[name] = self.new.types[name].with_quant(quant)

    def _moved(self, op: Operator, inputs: tuple[str, ...], stem: str, node: Node) -> str:
        """A new value, whose codes are those of its inputs."""
        name = self._names.fresh(stem)
        self._emit(Node(op, inputs, (name,), node.source), [self.new.types[inputs[-1]].quant])
        return name

    def _state(self, stem: str, type_: Type, node: Node) -> str:
        """A state that begins with zeros, whose update is still to be named."""
        name = self._names.fresh(stem)
        self.new.types[name] = type_
        self.new.states[name] = State(type_, "")
        self.remarks.append(Remark(str(node), f"carries %{name}, {type_.elements} codes"))
        return name

    def _update(self, state: str, value: str) -> None:
        self.new.states[state] = replace(self.new.states[state], update=value)

    def _remembered(self, x: str, axis: int, reach: int, node: Node) -> str:
        """`x` behind the `reach` steps before it, which are kept channels last, as convolutions read them."""
        if (x, axis, reach) in self._joined:
            return self._joined[x, axis, reach]
        type_ = self.new.types[x]
        order = channels_last(type_.rank)
        inverse = tuple(order.index(k) for k in range(type_.rank))
        shape = _cut(type_, axis, reach).shape
        kept = self._state(f"{x}.before", type_.with_shape(tuple(shape[k] for k in order)), node)
        before = self._moved(Permute(inverse), (kept,), f"{kept}.steps", node)
        joined = self._joined[x, axis, reach] = self._moved(Concat(axis), (before, x), f"{x}.joined", node)
        last = self._moved(Slice(axis, self.steps, self.steps + reach), (joined,), f"{x}.last", node)
        self._update(kept, self._moved(Permute(order), (last,), f"{kept}.next", node))
        return joined

    def _up_to_now(self, node: Node, streamed: Streamed) -> tuple[str, ...]:
        """The inputs of a node that reads all steps so far, or knows which these are."""
        inputs, position = list(node.inputs), self._position(node)
        for i, axis in streamed.caches.items():
            inputs[i] = self._all_so_far(inputs[i], axis, node)
        for i, axis in streamed.tables.items():
            inputs[i] = self._steps_of_table(inputs[i], axis, self.old.types[node.output].rank, node)
        return (*inputs, position) if streamed.counted else tuple(inputs)

    def _position(self, node: Node) -> str:
        """The state that counts steps; what counts them comes first of all nodes."""
        if self._counter:
            return self._counter
        if self.steps > self.whole:
            what = f"a piece of {self.steps} steps, of sequences of {self.whole}"
            raise InvalidInput(what, where="steps", hint="take pieces of fewer steps, or quantize longer sequences")
        batch = self.old.types[self.old.inputs[0]].shape[0]
        if bound(batch) != 1:
            what = f"this cannot be streamed: it keeps the steps of one sample, not of a batch of {bound(batch)}"
            raise UnsupportedOp(what, where=str(node), hint="capture it for any batch, or for a batch of one")
        name = self._counter = self._state("position", Type((batch, 1), DType.S32), node)
        after = self._names.fresh(f"{name}.next")
        self._emit(Node(Advance(self.steps, self.whole), (name,), (after,), node.source), [None])
        self.new.nodes.insert(0, self.new.nodes.pop())
        self._update(name, after)
        return name

    def _all_so_far(self, x: str, axis: int, node: Node) -> str:
        """`x` with all steps so far, in a cache that keeps them as `matmul` and `attend` read their right operands."""
        if (x, axis) in self._cached:
            return self._cached[x, axis]
        type_ = self.new.types[x]
        order = transposed_last(type_.rank)
        whole = _cut(type_, axis, self.whole).shape
        kept = self._state(f"{x}.cache", type_.with_shape(tuple(whole[k] for k in order)), node)
        rows = self._moved(Permute(order), (x,), f"{x}.rows", node)
        after = self._names.fresh(f"{kept}.next")
        append = Node(Append(order.index(axis)), (kept, rows, self._counter), (after,), node.source)
        self._emit(append, [type_.quant])
        self._update(kept, after)
        self._cached[x, axis] = self._moved(Permute(order), (after,), f"{x}.all", node)
        return self._cached[x, axis]

    def _steps_of_table(self, table: str, axis: int, rank: int, node: Node) -> str:
        """The rows of a constant that belong to the steps of a piece."""
        if (table, axis, rank) in self._cut_tables:
            return self._cut_tables[table, axis, rank]
        constant = self.old.constants[table]
        lead = rank - constant.array.ndim
        every = constant.array.reshape((1,) * lead + constant.array.shape)
        whole = self.new.add_constant(self._names.fresh(f"{table}.all"), replace(constant, array=every))
        cut = self._names.fresh(f"{table}.steps")
        take = Node(TakeSteps(axis + lead, self.steps), (whole, self._counter), (cut,), node.source)
        self._emit(take, [constant.quant])
        self._cut_tables[table, axis, rank] = cut
        return cut

    def _recurrent(self, node: Node) -> None:
        """A recurrent layer that goes on from what it carries."""
        assert isinstance(node.op, Recurrent)
        y = node.outputs[0]
        inputs, outputs, ends = [*node.inputs], [*node.outputs], {}
        quants = [self.old.types[name].quant for name in outputs]
        for carried in node.op.carried:
            inputs += [""] * (1 + carried.place - len(inputs))
            state = self._state(f"{y}.carried", self._carried(node, carried), node)
            self._begin(state, inputs[carried.place], node)
            inputs[carried.place] = state
            if carried.fine is not None:
                ends[state] = self._names.fresh(f"{state}.next")
                outputs.append(ends[state])
                quants.append(carried.fine)
        self._emit(Node(node.op, tuple(inputs), tuple(outputs), node.source), quants)
        for state in inputs[min(c.place for c in node.op.carried) :]:
            end = ends.get(state) or self._moved(Select(1, self.steps - 1), (y,), f"{state}.next", node)
            self._update(state, end)

    def _carried(self, node: Node, carried: Carried) -> Type:
        """The type of what a recurrent layer carries."""
        y, *last = (self.old.types[name] for name in node.outputs)
        if carried.fine is not None:
            return Type(last[0].shape, DType.S16, carried.fine)
        return Type((y.shape[0], *y.shape[2:]), DType.F32, y.quant)

    def _begin(self, state: str, given: str, node: Node) -> None:
        """Let a state begin as the layer does: with the codes of a constant, which is the same for all samples."""
        if not given:
            return
        known, type_ = self.old.constants.get(given), self.new.types[state]
        if known is None or len(known.array) != 1:
            raise UnsupportedOp(
                f"this cannot be streamed: its first state, %{given}, is no constant of one row",
                where=str(node),
                hint="let the layer begin with a parameter, or with zeros",
            )
        assert type_.quant is not None
        codes = state_codes(known.array, type_.quant, wide=type_.dtype is DType.S16).astype(np.float64)
        real = float(type_.quant.scale) * (codes - type_.quant.zero_point)
        self.new.states[state] = replace(self.new.states[state], initial=tuple(map(float, real.reshape(-1))))


def _cut(type_: Type, axis: int, extent: int) -> Type:
    """The type with another extent of one axis."""
    return type_.with_shape((*type_.shape[:axis], extent, *type_.shape[axis + 1 :]))
