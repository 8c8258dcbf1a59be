"""From a file to an `OnnxModel`: the protobuf is parsed, and its structure checked, before anything is made of it.

Nothing is executed. What breaks a rule of the format is InvalidInput; operators are looked at later, all together.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from penjing.core.errors import InvalidInput
from penjing.core.length import Length
from penjing.core.onnx_package import import_onnx
from penjing.frontends.onnx.inputs import Inputs, Shapes
from penjing.frontends.onnx.model import ADVISED_OPSET, NEWEST_OPSET, OLDEST_OPSET, OnnxModel, OnnxNode
from penjing.frontends.onnx.tensors import HALVES, to_array, type_name

_MAX_BYTES = 2**31 - 1  # of the file itself, as protobuf has it; data may lie beside it
_MAX_NODES = 20_000
_STANDARD = ("", "ai.onnx")


def read_model(
    path: Path,
    shapes: Shapes | None = None,
    length: Length | None = None,
    fixed: Mapping[str, float] | None = None,
) -> OnnxModel:
    """The model in a file.

    Args:
        path: of the .onnx file; data outside it may lie beside it or below its folder.
        shapes: input name -> shape without the batch, for inputs of which the file leaves extents open.
        length: which axis of the inputs is the length of a sequence, for a model that takes any.
        fixed: input name -> the number that it is full of.

    Raises:
        InvalidInput: no such file, no ONNX model, or one that is damaged or breaks the rules of the format.
        UnsupportedOp: element types or features that are not carried.
        MissingDependency: the onnx package is not installed.
    """
    proto = _parsed(path)
    try:
        return _Loader(proto, path.parent, Inputs(shapes or {}, length, fixed or {})).load()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name} is damaged: a name in it is no text", where=str(path)) from error
    except InvalidInput as error:
        error.where = f"{path.name}, {error.where}" if error.where else path.name
        raise


def input_names(path: Path) -> list[str]:
    """Names of the inputs that a model is called with."""
    graph = _parsed(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [_text(value.name) for value in graph.input if value.name not in constants]


def _parsed(path: Path) -> Any:
    onnx = import_onnx()
    errors = import_onnx("google.protobuf.message")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InvalidInput(f"{path} has more than {_MAX_BYTES} bytes", hint="keep the data of tensors beside it")
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (errors.DecodeError, RuntimeError, ValueError) as error:
        raise InvalidInput(f"{path} is no ONNX model, or it is damaged", hint="export it again") from error
    if not proto.HasField("graph") or not proto.graph.output:
        raise InvalidInput(f"{path} is no ONNX model: it has no graph with outputs", hint="export it again")
    return proto


def _text(value: object) -> str:
    """A string of the file, which protobuf hands over as bytes where it is no text."""
    if not isinstance(value, str):
        raise InvalidInput("the file is damaged: a name in it is no text", hint="export it again")
    return value


class _Loader:
    def __init__(self, proto: Any, folder: Path, inputs: Inputs) -> None:
        self.proto = proto
        self.graph = proto.graph
        self.folder = folder
        self.inputs = inputs
        self.constants: dict[str, np.ndarray] = {}
        self.half = False

    def load(self) -> OnnxModel:
        opset = self._opset()
        if len(self.graph.node) > _MAX_NODES:
            raise InvalidInput(f"{len(self.graph.node)} nodes, more than {_MAX_NODES}")
        if self.proto.functions or self.graph.sparse_initializer:
            what = "functions of its own" if self.proto.functions else "sparse tensors"
            raise InvalidInput(f"the model has {what}, which are not read", hint="export it without them")
        for tensor in self.graph.initializer:
            if not _text(tensor.name) or tensor.name in self.constants:
                raise InvalidInput(f"the constant {tensor.name!r} occurs twice, or has no name")
            self.half |= type_name(tensor.data_type) in HALVES
            self.constants[tensor.name] = to_array(tensor, self.folder)
        # old files list constants among the inputs
        values = [value for value in self.graph.input if _text(value.name) not in self.constants]
        found = self.inputs
        found.read(values)
        nodes = self._nodes({*found.samples, *found.fills})
        outputs = tuple(_text(value.name) for value in self.graph.output)
        known = {*found.samples, *found.fills, *self.constants, *(name for node in nodes for name in node.outputs)}
        for name in outputs:
            if name not in known:
                raise InvalidInput(f"the output {name!r} is never computed")
        name = _text(self.graph.name) or "model"
        return OnnxModel(
            name,
            opset,
            found.batch,
            found.samples,
            outputs,
            self.constants,
            nodes,
            self.proto,
            self.half or found.half,
            frozenset(found.ids),
            found.longest,
            found.fills,
        )

    def _opset(self) -> int:
        versions = {_text(entry.domain): entry.version for entry in self.proto.opset_import}
        standard = [versions[domain] for domain in _STANDARD if domain in versions]
        if not standard:
            raise InvalidInput("the model does not say which opset it uses")
        if not OLDEST_OPSET <= standard[0] <= NEWEST_OPSET:
            raise InvalidInput(
                f"the model uses opset {standard[0]}; penjing reads {OLDEST_OPSET} to {NEWEST_OPSET}",
                hint=f"export it with opset_version={ADVISED_OPSET}, or convert it with onnx.version_converter",
            )
        return int(standard[0])

    def _nodes(self, inputs: set[str]) -> list[OnnxNode]:
        """In the order of the file, in which every value is made once and before it is read."""
        makers = {name for node in self.graph.node for name in node.output}
        defined = {*inputs, *self.constants}
        nodes = []
        for proto in self.graph.node:
            node = self._node(proto)
            for name in node.inputs:
                if name and name not in defined:
                    raise InvalidInput(
                        f"it reads {name!r}, which "
                        + ("is made later: a cycle, or nodes out of order" if name in makers else "nothing makes"),
                        where=f"node {node.name} ({node.target})",
                    )
            made = [name for name in node.outputs if name]
            if defined.intersection(made) or len(set(made)) < len(made) or not made:
                said = "it makes nothing" if not made else f"it makes {made[0]!r}, which exists already"
                raise InvalidInput(said, where=f"node {node.name} ({node.target})")
            defined.update(made)
            if node.op == "Constant" and not node.domain and self._is_constant(node):
                continue
            nodes.append(node)
        return nodes

    def _is_constant(self, node: OnnxNode) -> bool:
        """Whether the value of a `Constant` node could be kept."""
        if len(node.attributes) != 1:
            return False
        ((key, value),) = node.attributes.items()
        dtypes = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
        if key == "value" and isinstance(value, np.ndarray):
            self.constants[node.outputs[0]] = value
        elif key in dtypes:
            self.constants[node.outputs[0]] = np.asarray(value, dtypes[key])
        else:
            return False
        return True

    def _node(self, proto: Any) -> OnnxNode:
        domain = "" if proto.domain in _STANDARD else _text(proto.domain)
        inputs, outputs = tuple(map(_text, proto.input)), tuple(map(_text, proto.output))
        name = _text(proto.name) or next((name for name in outputs if name), "(unnamed)")
        attributes: dict[str, object] = {}
        graphs = []
        for attribute in proto.attribute:
            if _text(attribute.name) in attributes:
                raise InvalidInput(f"the attribute {attribute.name!r} occurs twice", where=f"node {name}")
            value = self._attribute(attribute)
            if value is None:
                graphs.append(attribute.name)
            else:
                attributes[attribute.name] = value
        return OnnxNode(_text(proto.op_type), domain, name, inputs, outputs, attributes, tuple(graphs), proto)

    def _attribute(self, attribute: Any) -> object:
        """int, float, str, tuple or array; None for graphs and the like."""
        kinds = import_onnx().AttributeProto
        kind = attribute.type
        if kind == kinds.INT:
            return int(attribute.i)
        if kind == kinds.FLOAT:
            return float(attribute.f)
        if kind == kinds.STRING:
            return bytes(attribute.s).decode()
        if kind == kinds.INTS:
            return tuple(int(i) for i in attribute.ints)
        if kind == kinds.FLOATS:
            return tuple(float(f) for f in attribute.floats)
        if kind == kinds.STRINGS:
            return tuple(bytes(s).decode() for s in attribute.strings)
        if kind == kinds.TENSOR:
            self.half |= type_name(attribute.t.data_type) in HALVES
            return to_array(attribute.t, self.folder)
        return None
