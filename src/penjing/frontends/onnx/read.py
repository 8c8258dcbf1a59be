"""From an `OnnxModel` to a Graph: every node is tried, and all that cannot be carried is reported together."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from penjing.core.errors import InvalidGraph, InvalidInput, PenjingError, UnsupportedOp
from penjing.frontends.attention import STRAY_MASK, merge_attention, stray_masks
from penjing.frontends.coverage import Problem
from penjing.frontends.onnx.codes import Coded, Codes
from penjing.frontends.onnx.fold import fold, shape_of
from penjing.frontends.onnx.joined import Joined, at_probes
from penjing.frontends.onnx.joined_reader import JoinedReader
from penjing.frontends.onnx.meeting import BROADCASTS, Met, fits, is_causal_at_any_length, mask_of, met_by, unchanged
from penjing.frontends.onnx.model import OnnxModel, OnnxNode, plain
from penjing.frontends.onnx.places import check_made, check_reader, undone
from penjing.frontends.onnx.reasons import NO_MEANING, PARTS, reason_for
from penjing.ir.graph import Graph, Node, Operation
from penjing.ir.lengths import check_any_length, length_axes
from penjing.ir.types import Constant, DType, Names, Source, Type
from penjing.ops import operators
from penjing.ops.add import Add
from penjing.ops.onnx_call import BATCH, Imported, Known, OnnxCall, Ref, at_probe
from penjing.ops.operator import Operator
from penjing.ops.prefix import Prefix
from penjing.ops.torch_call import Composed

MAX_ACTIVATION = 2**26  # elements of one sample
# what a shape rule may run into before it can say what is wrong
_RULE_FAULTS = (ArithmeticError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Blocked:
    """A value that cannot be carried; the problem that made it so is reported once, where it arose."""


Held = Ref | Known | Coded | Joined | Blocked
BLOCKED = Blocked()


@dataclass
class Reading:
    """What became of a model.

    Attributes:
        graph: whole only when there are no problems.
        carried: targets of the nodes that were carried or evaluated, one entry per node.
        problems: what cannot be carried.
        origins: value name -> name in the ONNX model.
        codes: what quantization the model has.
    """

    graph: Graph
    carried: list[str]
    problems: list[Problem]
    origins: dict[str, str]
    codes: Codes


@dataclass
class _Reader:
    model: OnnxModel
    graph: Graph
    names: Names = field(default_factory=Names)
    carried: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    made: dict[tuple[object, ...], Ref] = field(default_factory=dict)
    makers: dict[str, Node] = field(default_factory=dict)
    parts: dict[str, Ref] = field(default_factory=dict)
    causal: dict[str, OnnxNode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.table = _table()
        self.codes = Codes(self.graph, self.append)
        self.joined = JoinedReader(self.append, self._carried, self.origins, self.model.batch)
        self.users = self.model.users()

    def read(self) -> None:
        for name, shape in self.model.inputs.items():
            dtype = DType.S32 if name in self.model.ids else DType.F32
            fresh = self.graph.add_input(self.names.fresh(plain(name)), Type((BATCH, *shape), dtype))
            self.origins[fresh] = name
            self.held[name] = Ref(fresh, self.graph.types[fresh])
        for name, fill in self.model.fixed.items():
            first, second = (fill.array(at_probe(fill.shape, probe)) for probe in (0, 1))
            self.held[name] = Known(name, first, second)
        for name, array in self.model.constants.items():
            self.held[name] = Known(name, array, array)
        for node in self.model.live():  # without what patterns have replaced
            results = self._node(node)
            for name, value in zip(node.outputs, results, strict=False):
                self.held[name] = value
        self._outputs()
        self.graph.remove_unread_nodes()
        self.graph.drop_unused_constants()

    def append(self, op: Operator, inputs: tuple[str, ...], stem: str, source: Source) -> list[Ref]:
        """Add a node to the graph."""
        came_from = undone(self.graph, op, inputs[0], self.makers)
        if came_from is not None:
            return [Ref(came_from, self.graph.types[came_from])]
        given = tuple(self.graph.types[name] for name in inputs if name)
        types = op.infer(*given)
        check_any_length(op, given, types)
        for type_ in types:
            check_made(type_)
            if type_.elements > MAX_ACTIVATION:
                raise UnsupportedOp(f"makes {type_.elements} elements, more than {MAX_ACTIVATION}")
        outputs = tuple(self.names.fresh(f"{stem}.{i}" if len(types) > 1 else stem) for i in range(len(types)))
        self.makers.update(dict.fromkeys(outputs, self.graph.add_node(op, inputs, outputs, source)))
        return [Ref(name, self.graph.types[name]) for name in outputs]

    def _node(self, node: OnnxNode) -> list[Held]:
        held = [self.held.get(name, BLOCKED) if name else None for name in node.inputs]
        blocked: list[Held] = [BLOCKED] * len(node.outputs)
        reason = reason_for(node, self.table)
        if reason is not None:
            return self._refused(node, reason)
        if any(value is BLOCKED for value in held):
            return blocked
        try:
            results = self._made(node, [value for value in held if not isinstance(value, Blocked)])
        except (UnsupportedOp, InvalidGraph) as error:
            return self._refused_by(node, error)
        except _RULE_FAULTS as error:
            return self._refused(node, f"its inputs do not fit: {error}")
        if results is None:
            return blocked
        self.carried.append(node.target)
        return results

    def _made(self, node: OnnxNode, held: list[Ref | Known | Coded | Joined | None]) -> list[Held] | None:
        """What a node makes; None where it reads joined axes, which is told of the node that joined them."""
        values = [value for value in held if not isinstance(value, Joined)]
        if len(values) < len(held):
            joined = next(value for value in held if isinstance(value, Joined))
            made = self.joined.read(node, joined, held)
            if made is None:
                self._never_apart(joined)
            return None if made is None else [made]
        try:
            return self._carried(node, values)
        except (UnsupportedOp, InvalidGraph) as error:
            made = self.joined.begun(node, values, error)
            if made is None:
                raise
            return [made]

    def _carried(self, node: OnnxNode, held: list[Ref | Known | Coded | None]) -> list[Held]:
        if node.op == "Shape" and isinstance(held[0], Ref | Coded):
            return [shape_of(node, at_probes((held[0] if isinstance(held[0], Ref) else held[0].ref).type.shape))]
        quantized = self.codes.read(node, held, self._call, node.source)
        if quantized is not None:
            return list(quantized)
        operands = [value for value in held if not isinstance(value, Coded)]
        if len(operands) < len(held):
            raise UnsupportedOp("computes with codes: only DequantizeLinear and what moves codes can read them")
        known = [value for value in operands if not isinstance(value, Ref)]
        if len(known) == len(operands):
            return list(fold(node, known, self.model.opset, self.model.batch))
        same = unchanged(node, operands, self.model.longest)
        if same is not None:
            return [same]
        hidden = mask_of(node, operands, self.model.longest)
        if hidden is not None:
            return [self._masked(node, *hidden)]
        imported = self._imported(node, operands)
        if isinstance(imported, Composed):
            return self._composed(node, imported)
        return list(self._appended(node, imported))

    def _never_apart(self, joined: Joined) -> None:
        """Tell of the node that joined axes, once."""
        told = {(problem.target, problem.name) for problem in self.problems}
        if (joined.maker.target, joined.maker.name) not in told:
            self.carried.remove(joined.maker.target)
            self._refused_by(joined.maker, joined.error)

    def _call(self, node: OnnxNode, operands: list[Ref | Known | None]) -> list[Ref]:
        """Append the operators for a node that is not composed; the values that it makes."""
        imported = self._imported(node, operands)
        assert isinstance(imported, Imported)
        return self._appended(node, imported)

    def _imported(self, node: OnnxNode, operands: list[Ref | Known | None]) -> Imported | Composed:
        """What a node becomes."""
        first = next((value for value in operands if isinstance(value, Ref)), None)
        rank = first.type.rank if first is not None else 0
        if node.op not in self.table:
            raise UnsupportedOp(PARTS.get(node.op, NO_MEANING))
        readers = self.table[node.op]
        found = [cls for cls in readers if cls.onnx_rank in (None, rank)]
        if not found:
            ranks = " and ".join(str(cls.onnx_rank) for cls in readers)
            raise UnsupportedOp(f"on an input of rank {rank}; it is carried for rank {ranks}")
        for place, value in enumerate(operands):
            if isinstance(value, Ref):
                check_reader(node, place, value)
        if node.op in BROADCASTS:
            refs = [value for value in operands if isinstance(value, Ref)]
            operands = [self._met(node, value, refs) if isinstance(value, Known) else value for value in operands]
        used = 1 + max(i for i, name in enumerate(node.outputs) if i == 0 or self.users.get(name, 0))
        call = OnnxCall(
            node.op,
            self.model.opset,
            tuple(operands),
            node.attributes,
            used,
            self.model.batch,
            self.add_constant,
            self.model.longest,
        )
        return found[0].from_onnx(call)

    def _met(self, node: OnnxNode, known: Known, refs: list[Ref]) -> Ref | Known:
        found = met_by(node, known, refs, self.model.longest)
        return self._part(known.name, found) if isinstance(found, Met) else found

    def _part(self, name: str, found: Met) -> Ref:
        """The first elements of a constant, as many as a sequence has steps."""
        if name not in self.parts:
            like = next(name for name in self.graph.inputs if self.graph.types[name].follows_length)
            table = self.add_constant(name, Constant(found.array.astype(np.float32)))
            output = self.names.fresh(f"{table.name}.part")
            self.graph.add_node(
                Prefix(found.axes[0], length_axes(self.graph.types[like])[0]), (table.name, like), (output,)
            )
            self.parts[name] = Ref(output, self.graph.types[output])
        return self.parts[name]

    def _masked(self, node: OnnxNode, x: Ref, mask: Met) -> Ref:
        """Scores of which some are hidden: a sum, which attention takes in, or a note that it is causal."""
        if not fits(x.type, mask.shape):
            raise UnsupportedOp(f"a mask of shape {mask.array.shape} for scores of {x.type.bounds}")
        if is_causal_at_any_length(mask, x.type):
            self.causal[x.name] = node
            return x
        if mask.axes:
            raise UnsupportedOp("a mask that follows the length and is not causal")
        constant = self.add_constant(f"{node.outputs[0]}.mask", Constant(mask.array))
        (ref,) = self.append(Add(), (x.name, constant.name), node.stem, node.source)
        return ref

    def _composed(self, node: OnnxNode, composed: Composed) -> list[Held]:
        """Append the nodes of one that becomes several; outputs that nothing reads are not made."""
        read = [i for i, name in enumerate(node.outputs) if self.users.get(name, 0)]
        made = composed.build(_Composition(self, node), read)
        for i, name in made.items():
            self.origins[name] = node.outputs[i]
        return [Ref(made[i], self.graph.types[made[i]]) if i in made else BLOCKED for i in range(len(node.outputs))]

    def _appended(self, node: OnnxNode, imported: Imported) -> list[Ref]:
        if imported.op is None:
            name = imported.inputs[0]
            return [Ref(name, self.graph.types[name])]
        source = node.source
        self._check_weights(imported.op, imported.inputs)
        inputs = imported.inputs
        stem = node.stem
        for i, op in enumerate((imported.op, *imported.then)):
            assert isinstance(op, Operator)
            is_last = i == len(imported.then)
            refs = self.append(op, inputs, stem if is_last else f"{stem}.part{i}", source)
            inputs = (refs[0].name,)
        for ref, name in zip(refs, node.outputs, strict=False):
            self.origins[ref.name] = name
        return refs

    def _check_weights(self, op: object, inputs: tuple[str, ...]) -> None:
        assert isinstance(op, Operator)
        places = [place for weight in op.weight_inputs() for place in (weight.weight, weight.bias)]
        for position in places:
            name = inputs[position] if position is not None and position < len(inputs) else ""
            if name and name not in self.graph.constants:
                raise UnsupportedOp(f"with its weight %{name} computed from the input")

    def add_constant(self, stem: str, constant: Constant) -> Ref:
        """A constant of the graph; the same numbers under the same name become one."""
        key = (stem, constant.array.shape, constant.quant, sha256(constant.array.data).digest())
        if key not in self.made:
            if not np.isfinite(constant.array).all():
                raise InvalidInput(
                    f"the constant {stem} holds NaN or infinity, or does so in float32",
                    hint="the training run that made it diverged: start from an earlier checkpoint",
                )
            if constant.array.size == 0:
                raise UnsupportedOp(f"takes the constant {stem}, which has no elements")
            name = self.graph.add_constant(self.names.fresh(plain(stem)), constant)
            self.made[key] = Ref(name, self.graph.types[name])
        return self.made[key]

    def merge(self) -> None:
        """Make attention whole; masks that are left over are problems."""
        changed, left = merge_attention(self.graph, self.causal)
        for name in changed:
            self.origins.pop(name, None)
        self.report_masks(left)
        for node in stray_masks(self.graph):
            self.problems.append(Problem("Add", node.output, node.source, STRAY_MASK, None))

    def report_masks(self, scores: Iterable[str]) -> None:
        """Causal masks of scores that no attention has taken in."""
        for name in scores:
            node = self.causal[name]
            self.problems.append(Problem(node.target, node.name, node.source, STRAY_MASK))

    def _outputs(self) -> None:
        for name in self.model.outputs:
            held = self.held.get(name, BLOCKED)
            if isinstance(held, Ref):
                self.graph.outputs = (*self.graph.outputs, held.name)
            elif isinstance(held, Known):
                self._output_problem(name, "it does not depend on the data")
            elif isinstance(held, Joined):
                self._never_apart(held)
            elif isinstance(held, Coded):
                self._output_problem(name, "it holds codes: let DequantizeLinear follow")
            elif not self.problems:
                self._output_problem(name, "it cannot be carried")

    def _output_problem(self, name: str, reason: str) -> None:
        self.problems.append(Problem("output", name, Source(), reason))

    def _refused_by(self, node: OnnxNode, error: PenjingError) -> list[Held]:
        return self._refused(node, error.what.removeprefix(node.op).lstrip(": "), error.hint)

    def _refused(self, node: OnnxNode, reason: str, hint: str | None = None) -> list[Held]:
        self.problems.append(Problem(node.target, node.name, Source(), reason, hint))
        return [BLOCKED] * len(node.outputs)


@dataclass(frozen=True)
class _Composition:
    """What a node that becomes several may do to the graph."""

    reader: _Reader
    node: OnnxNode

    def add(self, op: Operation, *inputs: str) -> tuple[str, ...]:
        assert isinstance(op, Operator)
        stem = f"{plain(self.node.outputs[0] or self.node.name)}.{op.name}"
        return tuple(ref.name for ref in self.reader.append(op, inputs, stem, self.node.source))

    def constant(self, stem: str, array: np.ndarray) -> str:
        return self.reader.add_constant(stem, Constant(np.asarray(array, np.float32))).name

    def value(self, name: str) -> np.ndarray | None:
        constant = self.reader.graph.constants.get(name)
        return None if constant is None else constant.array

    def type(self, name: str) -> Type:
        return self.reader.graph.types[name]


def read(model: OnnxModel, name: str) -> Reading:
    """The graph of a model, in stage `imported`, not verified yet."""
    reader = _Reader(model, Graph(name))
    reader.read()
    if reader.codes.found:  # a quantized model's own ranges are of the nodes as they are
        reader.report_masks(reader.causal)
    elif not reader.problems:
        reader.merge()
    return Reading(reader.graph, reader.carried, reader.problems, reader.origins, reader.codes)


def _table() -> dict[str, list[type[Operator]]]:
    table: dict[str, list[type[Operator]]] = {}
    for cls in operators().values():
        for target in cls.onnx:
            table.setdefault(target, []).append(cls)
    return table
