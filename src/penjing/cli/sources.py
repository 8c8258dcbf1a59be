"""What the command line takes as a model: a zoo name, a Python factory, or an exported program."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from penjing.api import Port
from penjing.core.errors import InvalidInput, MissingDependency

if TYPE_CHECKING:
    import torch

KINDS = "zoo:NAME, file.py:FACTORY, package.module:FACTORY or FILE.pt2"


@dataclass(frozen=True)
class ModelSource:
    """A torch module with what is known about its input.

    Attributes:
        name: for the tray and the C functions.
        module: in evaluation mode.
        examples: one float32 array (1, ...) per input, for tracing.
        port: how the first input is prepared.
        labels: names of the classes, where known.
        origin: for the model card.
    """

    name: str
    module: "torch.nn.Module"
    examples: tuple[np.ndarray, ...]
    port: Port
    labels: tuple[str, ...] | None
    origin: str


def load_model(spec: str, *, weights: Path | None = None, input_shape: str | None = None) -> ModelSource:
    """The model that `spec` names, with `weights` loaded into it.

    Args:
        spec: see KINDS.
        weights: .npz with the names of the state dict, or a .pt / .pth state dict.
        input_shape: such as 3x32x32 (without batch), needed for factories.

    Raises:
        InvalidInput: no such model, or weights that do not fit.
        MissingDependency: torch is not installed.
    """
    _need_torch()
    if spec.startswith("zoo:"):
        source = _from_zoo(spec.removeprefix("zoo:"))
    elif spec.endswith(".pt2"):
        source = _from_exported(Path(spec))
    elif ":" in spec:
        source = _from_factory(spec, input_shape)
    else:
        raise InvalidInput(f"{spec!r} is not a model", hint=f"give {KINDS}")
    if weights is not None:
        _load_weights(source.module, weights)
        source = replace(source, origin=f"{source.origin} with {weights.name}")
    source.module.eval()
    return source


def parse_shape(text: str) -> tuple[int, ...]:
    """'3x32x32' -> (3, 32, 32)."""
    try:
        shape = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise InvalidInput(f"{text!r} is not a shape", hint="write it like 3x32x32, without the batch")
    return shape


def _need_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise MissingDependency("reading models needs torch", hint="pip install 'penjing[compress]'")


def _from_zoo(name: str) -> ModelSource:
    from penjing.zoo import catalog

    entry = catalog.find(name)
    kind = entry.input
    color: Any = kind.color if kind.color in ("gray", "rgb") else None
    port = Port(tuple(kind.mean), tuple(kind.std), kind.value_range, color)
    return ModelSource(name, catalog.create(name), (entry.random_inputs(1),), port, entry.labels, f"penjing zoo {name}")


def _from_factory(spec: str, input_shape: str | None) -> ModelSource:
    import torch

    where, _, attribute = spec.rpartition(":")
    if input_shape is None:
        raise InvalidInput("a factory does not say its input's shape", hint="add --input-shape, such as 3x32x32")
    factory = getattr(_import(where), attribute, None)
    if not callable(factory):
        raise InvalidInput(f"{where} has no callable {attribute!r}", where=spec)
    module = factory()
    if not isinstance(module, torch.nn.Module):
        raise InvalidInput(f"{attribute}() gave a {type(module).__name__}, not a torch module", where=spec)
    example = np.random.default_rng(0).normal(size=(1, *parse_shape(input_shape))).astype(np.float32)
    return ModelSource(attribute.lower(), module, (example,), Port(), None, attribute)


def _import(where: str) -> ModuleType:
    if not where.endswith(".py"):
        try:
            return importlib.import_module(where)
        except ImportError as error:
            raise InvalidInput(f"cannot import {where}: {error}", hint="is it on PYTHONPATH?") from error
    path = Path(where)
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}", where=where)
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[path.stem] = module
    module_spec.loader.exec_module(module)
    return module


def _from_exported(path: Path) -> ModelSource:
    import torch

    if not path.is_file():
        raise InvalidInput(f"there is no file {path}", where=str(path))
    try:
        exported = torch.export.load(path)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise InvalidInput(f"{path} is not an exported program: {error}", where=str(path)) from error
    arguments: Sequence[Any] = exported.example_inputs[0] if exported.example_inputs else ()
    examples = tuple(np.asarray(a.detach().cpu().numpy(), np.float32) for a in arguments)
    return ModelSource(path.stem, exported.module(), examples, Port(), None, path.name)


def _load_weights(module: "torch.nn.Module", path: Path) -> None:
    import torch

    from penjing.zoo.weights import load_into

    if not path.is_file():
        raise InvalidInput(f"there is no file {path}", where=str(path))
    if path.suffix == ".npz":
        load_into(module, path)
        return
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, EOFError, AttributeError) as error:
        raise InvalidInput(f"{path} does not hold this model's state dict: {error}", where=str(path)) from error
