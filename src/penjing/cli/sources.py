"""What the command line takes as a model: a zoo name, a Python factory, an exported program, ONNX, or a graph."""

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penjing import api
from penjing.api import Port
from penjing.cli.arguments import MODEL_KINDS
from penjing.cli.arrays import require_file
from penjing.cli.user_code import call_factory
from penjing.core.errors import InvalidInput, MissingDependency
from penjing.ir.graph import Graph
from penjing.ir.lengths import length_axes
from penjing.recipe.graph_file import SUFFIX, SavedGraph, load_graph

if TYPE_CHECKING:
    from penjing.frontends.onnx.capture import Captured

IDS = "ids:"


@dataclass(frozen=True)
class ModelSource:
    """A torch module, an ONNX model or a graph, with what is known about its input.

    Attributes:
        name: for the tray and the C functions.
        module: the model; capturing it reads it in evaluation mode. None for the other kinds.
        examples: one float32 array (1, ...) per input, for tracing.
        port: how the first input is prepared.
        labels: names of the classes, where known.
        origin: for the model card.
        trained: False when its weights are known to be random.
        saved: the graph, where the model is one.
        captured: what became of an ONNX model.
        length: which axis of the inputs is the length of a sequence, where they may have any.
    """

    name: str
    module: Any
    examples: tuple[np.ndarray, ...]
    port: Port
    labels: tuple[str, ...] | None
    origin: str
    trained: bool = True
    saved: SavedGraph | None = None
    captured: "Captured | None" = None
    length: api.Length | None = None

    def graph(self, name: str) -> Graph:
        """The graph under this name, imported where the model is a torch module.

        Raises:
            PenjingError: it cannot be imported.
        """
        held = self.saved or self.captured
        if held is None:
            return api.capture(self.module, self.examples, name=name, length=self.length)
        graph = held.graph.copy()
        graph.name = name
        return graph

    @property
    def ranges(self) -> dict[str, tuple[float, float]] | None:
        """Of the activations of a quantized ONNX model."""
        return self.captured.ranges if self.captured is not None else None

    @property
    def needs_calibration(self) -> bool:
        """Whether quantizing it needs typical inputs."""
        return self.captured.needs_calibration if self.captured is not None else not self.is_quantized

    @property
    def is_quantized(self) -> bool:
        """Whether it is a graph of integers."""
        return self.saved is not None and self.saved.graph.stage == "compressed"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first input, without the batch; of the longest sequence."""
        return self.examples[0].shape[1:]

    @property
    def takes_ids(self) -> bool:
        """Whether its input is of integers that embeddings look up."""
        return self.examples[0].dtype.kind == "i"

    @property
    def length_axes(self) -> tuple[int, ...]:
        """The axes of `shape` along which samples may be shorter."""
        held = self.saved or self.captured
        if held is not None:
            return tuple(axis - 1 for axis in length_axes(held.graph.types[held.graph.inputs[0]]))
        return (self.length.axis - 1,) if self.length is not None and isinstance(self.length.axis, int) else ()


def require_torch() -> None:
    """Raise MissingDependency unless torch is installed."""
    if importlib.util.find_spec("torch") is None:
        raise MissingDependency(
            "reading and training models needs torch, which is not installed",
            hint="pip install 'penjing[compress]'",
        )


def load_model(
    spec: str, *, weights: Path | None = None, input_shape: str | None = None, fix: Sequence[str] | None = None
) -> ModelSource:
    """The model that `spec` names, with `weights` loaded into it.

    Args:
        spec: see MODEL_KINDS.
        weights: .npz with the names of the state dict, or a .pt / .pth state dict.
        input_shape: such as 3x32x32 (without batch), needed for factories; 1..128x384 for sequences of any length;
            ids:32 for integers.
        fix: such as attention_mask=1, inputs of an ONNX model that are full of a number.

    Raises:
        InvalidInput: no such model, or weights that do not fit.
        MissingDependency: torch is not installed.
    """
    if is_onnx(spec):
        return _from_onnx(Path(spec), weights, input_shape, fix)
    if fix:
        raise InvalidInput("only inputs of an ONNX model can be fixed", where="--fix", hint="leave it out")
    if is_graph(spec):
        return _from_graph(Path(spec), weights)
    require_torch()
    if weights is not None:
        require_file(weights, hint="--weights takes an .npz, .pt or .pth file")
    if spec.startswith("zoo:"):
        source = _from_zoo(spec.removeprefix("zoo:"))
    elif spec.endswith(".pt2"):
        source = _from_exported(Path(spec))
    elif ":" in spec:
        source = _from_factory(spec, input_shape)
    else:
        raise InvalidInput(f"{spec!r} is no model", where="MODEL", hint=f"give {MODEL_KINDS}")
    if weights is None:
        return source
    _load_weights(source.module, weights)
    return replace(source, origin=f"{source.origin} with {weights.name}", trained=True)


def is_graph(spec: str) -> bool:
    """Whether `spec` names a graph file, which needs no torch."""
    return spec.endswith(SUFFIX)


def is_onnx(spec: str) -> bool:
    """Whether `spec` names an ONNX file, which needs no torch."""
    return spec.lower().endswith(".onnx")


def needs_torch(spec: str) -> bool:
    """Whether only torch can read what `spec` names."""
    return not (is_graph(spec) or is_onnx(spec))


def onnx_inputs(
    path: Path, input_shape: str | None, fix: Sequence[str] | None
) -> tuple[dict[str, tuple[int, ...]] | None, api.Length | None, dict[str, float]]:
    """Shapes, length and what is fixed of an ONNX model. --input-shape is that of all inputs that --fix leaves."""
    from penjing.frontends.onnx.file import input_names

    fixed = dict(map(_parse_fixed, fix or ()))
    if input_shape is None:
        return None, None, fixed
    shape, length = parse_lengths(input_shape)
    return {name: shape for name in input_names(path) if name not in fixed}, length, fixed


def _parse_fixed(text: str) -> tuple[str, float]:
    """'attention_mask=1' -> ('attention_mask', 1.0)."""
    name, _, number = text.rpartition("=")
    try:
        return name, float(number)
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} does not fix an input", where="--fix", hint="write it like attention_mask=1"
        ) from error


def parse_lengths(text: str) -> tuple[tuple[int, ...], api.Length | None]:
    """'1..128x384' -> (128, 384), and that the first of them is a length of up to 128; a plain shape has none."""
    parts = text.lower().split("x")
    ranges = [axis for axis, part in enumerate(parts) if part.startswith("1..")]
    shape = parse_shape("x".join(part.removeprefix("1..") for part in parts))
    if not ranges:
        return shape, None
    if len(ranges) > 1:
        what = f"{text!r} has {len(ranges)} lengths"
        raise InvalidInput(what, where="--input-shape", hint="one axis may be 1..N; all inputs share it")
    return shape, api.Length(shape[ranges[0]], ranges[0] + 1)


def parse_shape(text: str) -> tuple[int, ...]:
    """'3x32x32' -> (3, 32, 32)."""
    parts = text.lower().split("x")
    shape = tuple(int(part) for part in parts if part.isascii() and part.isdigit())
    if len(shape) != len(parts) or min(shape) < 1:
        raise InvalidInput(
            f"{text!r} is no shape", where="--input-shape", hint="write it like 3x32x32, without the batch"
        )
    return shape


def _from_zoo(name: str) -> ModelSource:
    from penjing.zoo import catalog

    entry = catalog.find(name)
    kind = entry.input
    color: Any = kind.color if kind.color in ("gray", "rgb") else None
    # A tray states one value per channel; where there is nothing to subtract or divide by, it states nothing.
    mean = tuple(kind.mean) if any(kind.mean) else None
    std = tuple(kind.std) if any(value != 1 for value in kind.std) else None
    port = Port(mean, std, kind.value_range, color)
    origin = f"penjing zoo {name}"
    return ModelSource(name, catalog.create(name), (entry.random_inputs(1),), port, entry.labels, origin, False)


def _from_factory(spec: str, input_shape: str | None) -> ModelSource:
    from penjing.frontends.torch_files import check_module

    if input_shape is None:
        raise InvalidInput(
            "a factory does not say what its input looks like", where=spec, hint="add --input-shape, such as 3x32x32"
        )
    shape, length = parse_lengths(input_shape.removeprefix(IDS))
    attribute = spec.rpartition(":")[2]
    module = call_factory(spec)
    check_module(module, f"{attribute}()", spec)
    if input_shape.startswith(IDS):
        example = np.zeros((1, *shape), np.int32)  # capture tries others
    else:
        example = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    class_name = type(module).__name__
    name = attribute if class_name == "Sequential" else class_name
    return ModelSource(_plain(name.lower()), module, (example,), Port(), None, attribute, length=length)


def _from_exported(path: Path) -> ModelSource:
    from penjing.frontends.torch_files import load_exported

    require_file(path)
    module, examples = load_exported(path)
    return ModelSource(_plain(path.stem), module, examples, Port(), None, path.name)


def _from_onnx(path: Path, weights: Path | None, input_shape: str | None, fix: Sequence[str] | None) -> ModelSource:
    if weights is not None:
        raise InvalidInput("an ONNX model holds its weights", where="--weights", hint="leave it out")
    require_file(path)
    shapes, length, fixed = onnx_inputs(path, input_shape, fix)
    captured = api.capture_onnx(path, shapes=shapes, length=length, fixed=fixed)
    graph = captured.graph
    examples = _zeros(graph)
    return ModelSource(_plain(path.stem), None, examples, Port(), None, path.name, captured=captured)


def _from_graph(path: Path, weights: Path | None) -> ModelSource:
    if weights is not None:
        raise InvalidInput("a graph holds its weights", where="--weights", hint="leave it out")
    saved = load_graph(path)
    graph = saved.graph
    examples = _zeros(graph)
    return ModelSource(_plain(graph.name), None, examples, saved.port, saved.labels, saved.origin, True, saved)


def _zeros(graph: Graph) -> tuple[np.ndarray, ...]:
    types = (graph.types[name] for name in graph.inputs)
    return tuple(np.zeros((1, *type_.bounds[1:]), type_.dtype.numpy) for type_ in types)


def _load_weights(module: Any, path: Path) -> None:
    if path.suffix.lower() == ".npz":
        from penjing.zoo.weights import load_into

        load_into(module, path)
    else:
        from penjing.frontends.torch_files import load_state

        load_state(module, path)


def _plain(text: str) -> str:
    """Letters, digits, _ and - only, and no digit first: what a tray and a C function can be called."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", text)[:64]
    return plain if plain[:1].isalpha() else f"m{plain}"[:64]
