"""From an exported program to a Graph: every call is tried, and all that cannot be carried is reported together."""

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from penjing.core.errors import InvalidGraph, InvalidInput, UnsupportedOp
from penjing.frontends.attention import STRAY_MASK, merge_attention, stray_masks
from penjing.frontends.coverage import Problem
from penjing.frontends.exported.arithmetic import CASTS, Constants, canonical, is_carried
from penjing.frontends.exported.fixed import (
    ALIKE,
    BROADCASTS,
    Fixed,
    Pool,
    alone,
    fold,
    hides,
    identity,
    is_neutral,
    plain_name,
)
from penjing.frontends.exported.metadata import (
    BATCH,
    extent_of,
    is_plain_number,
    is_random,
    longest,
    outputs_read,
    shape_of,
    tensors_in,
    wrong_kinds,
)
from penjing.frontends.exported.norms import whole_norms
from penjing.frontends.exported.places import source_of, stem_of, target_of
from penjing.frontends.exported.trace import FIXED_BATCH_HINT, Trace
from penjing.frontends.exported.writes import bind_writes, live_nodes, stored_writes
from penjing.ir.graph import Graph, Operation
from penjing.ir.lengths import check_any_length
from penjing.ir.types import DType, Names, Shape, Type, bounds, is_length
from penjing.ops import operators
from penjing.ops.embedding import Embedding
from penjing.ops.operator import Operator
from penjing.ops.prefix import Prefix
from penjing.ops.recurrent import Recurrent
from penjing.ops.torch_call import Composed, Ref, TorchCall

UNKNOWN = "no operator of penjing has this name"
OF_BATCH_SIZE = "makes a constant of the batch's size: let it broadcast along the batch instead"
ID_KINDS = ("int64", "int32")


@dataclass(frozen=True)
class Blocked:
    """A value that cannot be carried; the problem that made it so is reported once, where it arose."""


Held = Ref | Fixed | Blocked
BLOCKED = Blocked()


@dataclass
class Reading:
    """What became of an exported program.

    Attributes:
        graph: whole only when there are no problems.
        carried: targets of the calls that were carried, one entry per call.
        problems: what cannot be carried.
        faults: parameters and buffers that the outputs depend on and that are not numbers throughout.
        origins: value name -> (fx node, position in its tuple or None).
    """

    graph: Graph
    carried: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    faults: list[InvalidInput] = field(default_factory=list)
    origins: dict[str, tuple[Any, int | None]] = field(default_factory=dict)


def read(traced: Trace, name: str) -> Reading:
    """The graph of an exported program, in stage `imported`, not verified yet. Rewrites the program's fx graph."""
    reader = _Reader(traced, name)
    reader.read()
    if not reader.reading.problems:
        reader.merge()
    return reader.reading


class _Reader:
    def __init__(self, traced: Trace, name: str) -> None:
        self.traced = traced
        self.fx = traced.program.graph_module.graph
        self.reading = Reading(Graph(name))
        self.graph = self.reading.graph
        self.names = Names()
        self.held: dict[Any, Held | tuple[Held, ...]] = {}
        self.pool = Pool(self.graph, self.names, self.reading.faults)
        self.table = _table()
        self.live: set[Any] = set()
        self.parts: dict[Fixed, Ref] = {}
        self.alone: dict[Fixed, Fixed] = {}

    def read(self) -> None:
        refused = bind_writes(self.fx)
        whole_norms(self.fx)
        live = self.live = live_nodes(self.fx)
        stored = self._placeholders()
        for node, reason in refused + stored_writes(self.fx, stored, live):
            self._problem(node, reason)
        refusals = {node for node, _ in refused}
        for node in self.fx.nodes:
            if node in live and node.op in ("call_function", "get_attr"):
                self.held[node] = BLOCKED if node in refusals else self._node(node, live)
        self._outputs()
        self.graph.drop_unused_constants()

    def merge(self) -> None:
        """Make attention whole; masks that are left over are problems."""
        for name in merge_attention(self.graph)[0]:
            self.reading.origins.pop(name, None)
        for node in stray_masks(self.graph):
            self._problem(self.reading.origins[node.output][0], STRAY_MASK)

    def _placeholders(self) -> dict[Any, str]:
        """Inputs become graph inputs, everything else a Fixed; returns the latter with their names in the module."""
        program = self.traced.program
        targets = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target}
        first = {identity(tensor): name for name, tensor in reversed(program.state_dict.items())}
        shared: dict[tuple[object, ...], Fixed] = {}
        stored: dict[Any, str] = {}
        for node in self.fx.nodes:
            if node.op != "placeholder":
                continue
            target = targets.get(node.name)
            if target is None:
                shape = shape_of(node.meta["val"], self.traced.dims)
                assert shape is not None
                self.held[node] = self._input(node, shape)
                continue
            tensor = program.state_dict[target] if target in program.state_dict else program.constants[target]
            key = identity(tensor)
            self.held[node] = shared.setdefault(key, Fixed(tensor.detach(), first.get(key, target)))
            stored[node] = target
        return stored

    def _input(self, node: Any, shape: Shape) -> Ref:
        dtype = DType.F32 if node.meta["val"].is_floating_point() else DType.S32
        name = self.graph.add_input(self.names.fresh(node.name), Type((BATCH, *shape[1:]), dtype))
        self.reading.origins[name] = (node, None)
        return Ref(name, self.graph.types[name])

    def _node(self, node: Any, live: set[Any]) -> Held | tuple[Held, ...]:
        if node.op == "get_attr" or not tensors_in(node.meta.get("val")):
            return BLOCKED  # a number: readers take it from the metadata of the node
        if target_of(node) == "getitem":
            return self._item(node)
        if not hasattr(node.target, "_schema"):
            return self._refused(node, "a region with its own rules (control flow, autocast) cannot be carried")
        return self._call(node, live)

    def _item(self, node: Any) -> Held:
        source, index = node.args
        parts = self.held[source]
        if isinstance(parts, tuple):
            if index < len(parts) and parts[index] is not BLOCKED:
                return cast(Held, parts[index])
            self._problem(source, f"output {index} is read, but only output 0 is carried")
        return BLOCKED if index or isinstance(parts, tuple) else parts

    def _call(self, node: Any, live: set[Any]) -> Held | tuple[Held, ...]:
        tensors = [n for n in node.all_input_nodes if tensors_in(n.meta.get("val"))]
        held = [self.held[n] for n in tensors]
        if all(isinstance(h, Fixed) for h in held) and not is_random(node):
            return self._folded(node, [n.meta.get("val") for n in node.all_input_nodes if n not in tensors])
        shapes = tuple(shape_of(val, self.traced.dims) for val in tensors_in(node.meta["val"]))
        if any(h is BLOCKED for h in held):
            return self._refused(node, None if is_carried(target_of(node), self.table) else UNKNOWN)
        if any(shape is None for shape in shapes):
            hint = f"keep the batch an axis of its own: {FIXED_BATCH_HINT.partition(': ')[2]}"
            what = "the batch or the length" if self.traced.length else "the batch"
            return self._refused(node, f"mixes {what} with another axis", hint)
        try:
            if target_of(node) in CASTS and wrong_kinds(node, live) in ID_KINDS and self._is_of_ids(held[0]):
                return held[0]
            kinds = wrong_kinds(node, live)
            if kinds:
                raise UnsupportedOp(f"makes {kinds}, and activations are floats")
            held_now = self._carried(node, tuple(shape for shape in shapes if shape is not None))
        except TypeError:
            if self.traced.length is None:
                raise
            return self._refused(node, "cannot take sequences of any length")
        except (UnsupportedOp, InvalidGraph) as error:
            reason = error.what.removeprefix(target_of(node)).lstrip(": ")
            return self._refused(node, reason, error.hint, tuple(shape for shape in shapes if shape is not None))
        self.reading.carried.append(target_of(node))
        return held_now

    def _is_of_ids(self, value: object) -> bool:
        return isinstance(value, Ref) and value.type.dtype is DType.S32

    def _folded(self, node: Any, numbers: list[Any]) -> Held | tuple[Held, ...]:
        """The value of a call whose tensors are all known, and that takes `numbers` from elsewhere."""
        dims = self.traced.dims
        fits = all(longest(number, dims) is not None for number in numbers)
        shapes = [shape_of(val, dims) for val in tensors_in(node.meta["val"])]
        given = [held for held in map(self.held.get, node.all_input_nodes) if isinstance(held, Fixed)]
        keeps = all(shape is not None and BATCH in shape for shape in shapes)
        if not fits and not self._makes_states(node) and not (keeps and plain_name(target_of(node)) in ALIKE):
            return self._refused(node, OF_BATCH_SIZE)
        if any(held.batched for held in given) and not keeps:
            return self._refused(node, "joins the samples of a constant of the batch's size")
        follows = any(held.axes for held in given)
        if follows or not all(map(is_plain_number, numbers)):
            own = all(shape is not None and any(map(is_length, shape)) for shape in shapes)
            if fits and not own:
                return self._refused(node, "makes a constant that follows the length, but not by its first elements")
        return fold(node, self.held, dims)

    def _makes_states(self, node: Any) -> bool:
        """Whether only recurrent layers read a constant of the batch's size: one row will do for all samples."""
        readers = [self.table.get(target_of(user)) for user in node.users]
        return all(reader is not None and issubclass(reader, Recurrent) for reader in readers)

    def _unchanged(self, node: Any, shapes: tuple[Shape, ...]) -> Ref | None:
        """The operand that a call gives back as it is; None where it computes something."""
        held = [self.held.get(value) if hasattr(value, "all_input_nodes") else None for value in node.args]
        if len(held) != 2 or node.kwargs:
            return None
        for position, (known, x) in enumerate((held, held[::-1])):
            if isinstance(x, Ref) and isinstance(known, Fixed) and shapes == (x.type.shape,):
                return x if is_neutral(known, target_of(node), position) else None
        return None

    def _check_batched(self, node: Any) -> None:
        """Raise UnsupportedOp where a call takes a constant of the batch's size, and one sample of it will not do."""
        target = target_of(node)
        reader = self.table.get(target)
        if plain_name(target) in BROADCASTS or (reader is not None and issubclass(reader, Recurrent)):
            return
        for held in map(self.held.get, node.all_input_nodes):
            if isinstance(held, Fixed) and held.batched:
                raise UnsupportedOp(f"takes %{held.stem}, which {OF_BATCH_SIZE}")

    def _carried(self, node: Any, shapes: tuple[Shape, ...]) -> Held | tuple[Held, ...]:
        """Append the operator for a call; the values it makes."""
        same = self._unchanged(node, shapes)
        if same is not None:
            return same
        self._check_batched(node)
        call = TorchCall(target_of(node), self._arguments(node), shapes)
        if call.target not in Embedding.torch and any(map(self._is_of_ids, call.arguments.values())):
            raise UnsupportedOp("computes with ids: only an embedding reads an input of integers")
        if call.target in CASTS:
            return call.ref("self" if "self" in call.arguments else "input")
        constants = Constants(self.pool.value, lambda array: self.pool.constant(f"{stem_of(node)}.constant", array))
        call = canonical(call, self.table, constants)
        if call.target not in self.table:
            raise UnsupportedOp(UNKNOWN)
        imported = self.table[call.target].from_torch(call)
        if isinstance(imported, Composed):
            return self._composed(node, imported, shapes)
        if imported.op is None:
            name = imported.inputs[0]
            return self.pool.origin(name) or Ref(name, self.graph.types[name])
        assert isinstance(imported.op, Operator)
        self._check_weights(imported.op, imported.inputs)
        types = self._infer(imported.op, imported.inputs)
        self._check_shapes(types, shapes)
        stem, many = stem_of(node), isinstance(node.meta["val"], tuple | list)
        outputs = tuple(self.names.fresh(f"{stem}.{i}" if len(types) > 1 else stem) for i in range(len(types)))
        self.graph.add_node(imported.op, imported.inputs, outputs, source_of(node))
        for i, name in enumerate(outputs):
            self.reading.origins[name] = (node, i if many else None)
        refs = tuple(Ref(name, self.graph.types[name]) for name in outputs)
        return (*refs, *[BLOCKED] * (len(shapes) - len(refs))) if many else refs[0]

    def _composed(self, node: Any, composed: Composed, shapes: tuple[Shape, ...]) -> Held | tuple[Held, ...]:
        """Append the nodes of a call; outputs that nothing reads are not made."""
        made = composed.build(_Composition(self, node), outputs_read(node, self.live))
        types = tuple(self.graph.types[made[i]] for i in sorted(made))
        self._check_shapes(types, tuple(shapes[i] for i in sorted(made)))
        many = isinstance(node.meta["val"], tuple | list)
        for i, name in made.items():
            self.reading.origins[name] = (node, i if many else None)
        held = tuple(Ref(made[i], self.graph.types[made[i]]) if i in made else BLOCKED for i in range(len(shapes)))
        return held if many else held[0]

    def append(self, node: Any, op: Operator, inputs: tuple[str, ...]) -> tuple[str, ...]:
        """One of the nodes of a call; names of its outputs."""
        self._check_weights(op, inputs)
        count = len(self._infer(op, inputs))
        outputs = tuple(self.names.fresh(f"{stem_of(node)}.{op.name}") for _ in range(count))
        return self.graph.add_node(op, inputs, outputs, source_of(node)).outputs

    def _infer(self, op: Operator, inputs: tuple[str, ...]) -> tuple[Type, ...]:
        """Types of the outputs, at every length of sequences."""
        given = tuple(self.graph.types[name] for name in inputs if name)
        types = op.infer(*given)
        check_any_length(op, given, types)
        return types

    def _check_weights(self, op: Operator, inputs: tuple[str, ...]) -> None:
        places = [place for weight in op.weight_inputs() for place in (weight.weight, weight.bias)]
        for position in places:
            name = inputs[position] if position is not None and position < len(inputs) else ""
            if name and name not in self.graph.constants:
                raise UnsupportedOp(f"with its weight %{name} computed from the input")

    def _check_shapes(self, types: tuple[Type, ...], shapes: tuple[Shape, ...]) -> None:
        for type_, shape in zip(types, shapes, strict=False):
            # in an export for a batch of one, the symbolic axis is known from the shape rules, not from torch
            same = type_.shape == shape if self.traced.batch else type_.bounds == bounds(shape)
            if not same:
                said = ", ".join(map(str, type_.shape))
                raise UnsupportedOp(f"has shape ({', '.join(map(str, shape))}) in torch and ({said}) here")
        if len(types) > len(shapes):
            raise UnsupportedOp(f"gives {len(shapes)} outputs in torch and {len(types)} here")

    def _arguments(self, node: Any) -> dict[str, object]:
        arguments: dict[str, object] = {}
        for position, argument in enumerate(node.target._schema.arguments):
            if position < len(node.args):
                value = node.args[position]
            elif argument.name in node.kwargs:
                value = node.kwargs[argument.name]
            else:
                value = argument.default_value
            held = self.held.get(value) if hasattr(value, "all_input_nodes") else None
            if isinstance(held, Fixed) and (argument.name == "attn_mask" or hides(held, target_of(node))):
                arguments[argument.name] = self.pool.mask(held)
            elif isinstance(held, Fixed) and held.axes and plain_name(target_of(node)) in BROADCASTS:
                arguments[argument.name] = self._constant(self.alone.setdefault(held, alone(held)))
            else:
                arguments[argument.name] = self._argument(value)
        return arguments

    def _argument(self, value: Any) -> object:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list | tuple):
            return [self._argument(item) for item in value]
        if not hasattr(value, "all_input_nodes"):
            return str(value)  # dtype, layout, device, memory format
        held = self.held.get(value, BLOCKED)
        if isinstance(held, Ref):
            return held
        if isinstance(held, Fixed):
            return self._constant(held)
        extent = extent_of(value.meta.get("val"), self.traced.dims)
        if extent is None:
            raise UnsupportedOp(f"takes {value.name}, a number that is computed from the batch or the data")
        return extent

    def _constant(self, fixed: Fixed) -> Ref:
        """The constant of a known tensor, as much of it as a sequence has steps where it follows the length."""
        if not fixed.axes:
            return self.pool.made(fixed)
        if len(fixed.axes) > 1:
            what = f"takes %{fixed.stem}, a constant that follows the length along {len(fixed.axes)} axes"
            raise UnsupportedOp(what, hint="of these, only a causal mask can be carried")
        if fixed not in self.parts:
            assert self.traced.length is not None
            place, like = self.traced.length.first()
            inputs = (self.pool.made(fixed).name, self.graph.inputs[place])
            name = self.names.fresh(f"{fixed.stem}.part")
            self.graph.add_node(Prefix(fixed.axes[0], like), inputs, (name,))
            self.parts[fixed] = Ref(name, self.graph.types[name])
        return self.parts[fixed]

    def _outputs(self) -> None:
        """The flat outputs of the program; each must be an activation."""
        (node,) = [n for n in self.fx.nodes if n.op == "output"]
        if not node.args[0]:
            self._problem(node, "the model returns nothing")
        for i, value in enumerate(node.args[0]):
            held = self.held.get(value, BLOCKED) if hasattr(value, "all_input_nodes") else None
            if isinstance(held, Ref):
                self.graph.outputs = (*self.graph.outputs, held.name)
            elif isinstance(held, Fixed):
                self._problem(node, f"output {i} does not depend on the input")
            elif held is None or not tensors_in(value.meta.get("val")):
                self._problem(node, f"output {i} is {value}, not a tensor", "return tensors only, alone or in a tuple")
            elif not self.reading.problems:
                self._problem(node, f"output {i} cannot be carried")

    def _problem(self, node: Any, reason: str, hint: str | None = None) -> None:
        name = "" if node.op == "output" else stem_of(node)
        if hint is None and not self.traced.batch and reason != UNKNOWN:
            hint = f"{FIXED_BATCH_HINT} (torch: {self.traced.fixed_because})"
        self.reading.problems.append(Problem(target_of(node), name, source_of(node), reason, hint))

    def _refused(
        self, node: Any, reason: str | None, hint: str | None = None, shapes: tuple[Shape, ...] = ()
    ) -> Held | tuple[Held, ...]:
        """Report a call (unless `reason` is None) and stand in for its values, so that later calls are tried too."""
        if reason is not None:
            self._problem(node, reason, hint)
        if not shapes:
            return BLOCKED
        refs = []
        for shape in shapes:
            name = self.names.fresh(stem_of(node))
            self.graph.types[name] = Type(shape)
            refs.append(Ref(name, Type(shape)))
        return tuple(refs) if isinstance(node.meta["val"], tuple | list) else refs[0]


@dataclass(frozen=True)
class _Composition:
    """What a call that becomes several nodes may do to the graph."""

    reader: _Reader
    node: Any

    def add(self, op: Operation, *inputs: str) -> tuple[str, ...]:
        assert isinstance(op, Operator)
        return self.reader.append(self.node, op, inputs)

    def constant(self, stem: str, array: np.ndarray) -> str:
        return self.reader.pool.constant(stem, array).name

    def value(self, name: str) -> np.ndarray | None:
        return self.reader.pool.value(name)

    def type(self, name: str) -> Type:
        return self.reader.graph.types[name]


def _table() -> dict[str, type[Operator]]:
    table: dict[str, type[Operator]] = {}
    for cls in operators().values():
        for target in cls.torch:
            if target in table:
                raise RuntimeError(f"{table[target].name} and {cls.name} both read {target}")
            table[target] = cls
    return table
