"""Rotary position embeddings, however a network spells them, as the one operator that rounds once (`ops/rotary.py`).

What lies between the features before and after a rotation is linear: parts cut and joined, products with constants,
sums. So every element behind it is a sum of constants times elements before it, and these constants are found by
carrying them through the operators, along with the places they belong to. It is a rotation if each element depends on
itself and on its partner alone, by constants that differ from step to step and feature to feature only.
"""

from dataclasses import dataclass

import numpy as np

from penjing.ir.graph import Graph, Node
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import Constant, Names
from penjing.ops.add import Add, Sub
from penjing.ops.concat import Concat
from penjing.ops.identity import Identity
from penjing.ops.mul import Mul
from penjing.ops.operator import Operator
from penjing.ops.permute import Permute
from penjing.ops.reshape import Reshape
from penjing.ops.rotary import Rotary, partners
from penjing.ops.slice import Select, Slice
from penjing.ops.split import Split

_MOVES = (Identity, Permute, Reshape, Select, Slice, Split)
_ENDS = (Add, Concat, Reshape, Sub)  # what may be the last step of a rotation
_MOST_TERMS = 4  # of an element, on the way


@dataclass(frozen=True)
class FoldRotary(Pass):
    """Let one `rotary` stand for the products, parts and sums that turn pairs of features."""

    name = "fold-rotary"

    def run(self, graph: Graph) -> PassResult:
        """A graph of the same meaning; what another reader needs of the old nodes stays."""
        graph = graph.copy()
        changed = []
        # the last first: a part of a rotation may look like one
        for end in [node.output for node in reversed(graph.nodes) if isinstance(node.op, _ENDS)]:
            producers = graph.producers()
            node = producers.get(end)
            found = None if node is None else _rotation(graph, producers, node)
            if node is None or found is None:
                continue
            names = Names(set(graph.types))
            angles = [
                graph.add_constant(names.fresh(f"{end}.{kind}"), Constant(table.astype(np.float32)))
                for kind, table in (("cos", found.cos), ("sin", found.sin))
            ]
            graph.replace_node(node, Node(found.op, (found.x, *angles), node.outputs, node.source))
            gone = graph.remove_unread_nodes()
            changed.append(Remark(str(node), f"a rotation of %{found.x} in the place of {len(gone) + 1} nodes"))
        graph.drop_unused_constants()
        return PassResult(graph, tuple(changed))


@dataclass(frozen=True, eq=False)
class _Rotation:
    op: Rotary
    x: str
    cos: np.ndarray
    sin: np.ndarray


@dataclass(frozen=True, eq=False)
class _Sum:
    """Elements as sums of `factors` times elements at `places` of the value before: pairs of arrays, in one's shape."""

    terms: tuple[tuple[np.ndarray, np.ndarray], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.terms[0][0].shape


def _rotation(graph: Graph, producers: dict[str, Node], end: Node) -> _Rotation | None:
    """What `end` computes, if that is a rotation of a value before it."""
    shape = graph.types[end.output].shape
    if len(shape) < 3 or not isinstance(shape[-1], int) or shape[-1] % 2:
        return None
    before = _linear_ancestors(graph, producers, end)
    for x in reversed(before):
        if graph.types[x].shape != shape:
            continue
        sums = _Sums(graph, producers, x).of(end.output)
        found = None if sums is None else _as_rotation(sums, x)
        if found is not None:
            return found
    return None


def _linear_ancestors(graph: Graph, producers: dict[str, Node], end: Node) -> list[str]:
    """Values that `end` depends on by linear operators alone, in order."""
    found: set[str] = set()
    pending = [*end.inputs]
    while pending:
        name = pending.pop()
        if name in found or name in graph.constants:
            continue
        found.add(name)
        node = producers.get(name)
        if node is not None and isinstance(node.op, (*_MOVES, *_ENDS, Mul)):
            pending += node.inputs
    return [name for name in graph.activations() if name in found]


class _Sums:
    """The values behind `x` as sums of its elements."""

    def __init__(self, graph: Graph, producers: dict[str, Node], x: str) -> None:
        self._graph = graph
        self._producers = producers
        shape = (1, *graph.types[x].bounds[1:])
        places = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
        self._known: dict[str, _Sum | None] = {x: _Sum(((np.ones(shape), places),))}

    def of(self, name: str) -> _Sum | None:
        """None for what is not linear in `x` alone, or has too many terms."""
        if name not in self._known:
            node = self._producers.get(name)
            self._known[name] = None if node is None else self._made(node, name)
        return self._known[name]

    def _made(self, node: Node, name: str) -> _Sum | None:
        assert isinstance(node.op, Operator)
        constants = [self._graph.constants[n].array for n in node.inputs if n in self._graph.constants]
        sums = [self.of(n) for n in node.inputs if n not in self._graph.constants]
        inputs = [s for s in sums if s is not None]
        if not inputs or len(inputs) < len(sums):
            return None
        shape = (1, *self._graph.types[name].bounds[1:])
        if isinstance(node.op, Mul) and len(inputs) == len(constants) == 1:
            if shape != inputs[0].shape:
                return None
            return _Sum(tuple((factors * constants[0], places) for factors, places in inputs[0].terms))
        if constants or not isinstance(node.op, (*_MOVES, *_ENDS)):
            return None
        if isinstance(node.op, Concat):
            return _joined(node.op, inputs)
        if isinstance(node.op, Add | Sub):
            signs = (1, -1 if isinstance(node.op, Sub) else 1)
            terms = [(sign * f, p) for s, sign in zip(inputs, signs, strict=True) for f, p in s.terms]
            same = all(s.shape == shape for s in inputs) and len(terms) <= _MOST_TERMS
            return _Sum(tuple(terms)) if same else None
        at, op = node.outputs.index(name), node.op
        moved = [(op.float_reference(f)[at], op.float_reference(p)[at]) for f, p in inputs[0].terms]
        return _Sum(tuple(moved))


def _joined(op: Concat, parts: list[_Sum]) -> _Sum:
    """Terms side by side; a part that has fewer gets some of factor 0."""
    most = max(len(part.terms) for part in parts)
    rows = [(*part.terms, *[(np.zeros(part.shape), part.terms[0][1])] * (most - len(part.terms))) for part in parts]
    return _Sum(
        tuple(
            (op.float_reference(*(f for f, _ in terms))[0], op.float_reference(*(p for _, p in terms))[0])
            for terms in zip(*rows, strict=True)
        )
    )


def _as_rotation(sums: _Sum, x: str) -> _Rotation | None:
    shape = sums.shape
    own = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    for interleaved in (False, True):
        partner = own[..., partners(shape[-1], interleaved)]
        cos = sum(np.where(places == own, factors, 0.0) for factors, places in sums.terms)
        sin = sum(np.where(places == partner, factors, 0.0) for factors, places in sums.terms)
        others = [factors[(places != own) & (places != partner)] for factors, places in sums.terms]
        if any(o.any() for o in others):
            continue
        axis = _axis_of_steps(np.stack([cos, sin]))
        if axis is None or not (np.any(cos) and np.any(sin)):  # halves that change places are only moved
            return None
        rows = tuple(slice(None) if k in (axis, len(shape) - 1) else 0 for k in range(len(shape)))
        return _Rotation(Rotary(axis, interleaved), x, np.asarray(cos)[rows], np.asarray(sin)[rows])
    return None


def _axis_of_steps(angles: np.ndarray) -> int | None:
    """The axis, neither the batch nor the features, along which (2, 1, ..., D) differ; None for several."""
    axes = range(2, angles.ndim - 1)
    differ = [axis for axis in axes if (angles != np.take(angles, [0], axis=axis)).any()]
    if len(differ) > 1 or not axes:
        return None
    return (differ[0] if differ else axes[0]) - 1
