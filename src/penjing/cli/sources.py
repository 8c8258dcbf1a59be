"""What the command line takes as a model: a zoo name, a Python factory, or an exported program."""

import importlib.util
import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from penjing.api import Port
from penjing.cli.arguments import MODEL_KINDS
from penjing.cli.arrays import require_file
from penjing.cli.user_code import call_factory
from penjing.core.errors import InvalidInput, MissingDependency

if TYPE_CHECKING:
    import torch

_MAX_REASON = 300
# What torch.load and torch.export.load raise on files that are damaged or of another kind.
_DAMAGED = (
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    OSError,
    EOFError,
    AttributeError,
    IndexError,
    AssertionError,
    ImportError,
    UnpicklingError,
    BadZipFile,
)


@dataclass(frozen=True)
class ModelSource:
    """A torch module with what is known about its input.

    Attributes:
        name: for the tray and the C functions.
        module: the model; capturing it reads it in evaluation mode.
        examples: one float32 array (1, ...) per input, for tracing.
        port: how the first input is prepared.
        labels: names of the classes, where known.
        origin: for the model card.
        trained: False when its weights are known to be random.
    """

    name: str
    module: "torch.nn.Module"
    examples: tuple[np.ndarray, ...]
    port: Port
    labels: tuple[str, ...] | None
    origin: str
    trained: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first input, without the batch."""
        return self.examples[0].shape[1:]


def require_torch() -> None:
    """Raise MissingDependency unless torch is installed."""
    if importlib.util.find_spec("torch") is None:
        raise MissingDependency(
            "reading and training models needs torch, which is not installed",
            hint="pip install 'penjing[compress]'",
        )


def load_model(spec: str, *, weights: Path | None = None, input_shape: str | None = None) -> ModelSource:
    """The model that `spec` names, with `weights` loaded into it.

    Args:
        spec: see MODEL_KINDS.
        weights: .npz with the names of the state dict, or a .pt / .pth state dict.
        input_shape: such as 3x32x32 (without batch), needed for factories.

    Raises:
        InvalidInput: no such model, or weights that do not fit.
        MissingDependency: torch is not installed.
    """
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
    import torch

    if input_shape is None:
        raise InvalidInput(
            "a factory does not say what its input looks like", where=spec, hint="add --input-shape, such as 3x32x32"
        )
    shape = parse_shape(input_shape)
    module = call_factory(spec)
    attribute = spec.rpartition(":")[2]
    if not isinstance(module, torch.nn.Module):
        raise InvalidInput(f"{attribute}() gives {type(module).__name__}, which is no torch module", where=spec)
    example = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    named = attribute if type(module) is torch.nn.Sequential else type(module).__name__
    return ModelSource(_plain(named.lower()), module, (example,), Port(), None, attribute)


def _from_exported(path: Path) -> ModelSource:
    import torch

    require_file(path)
    logger = logging.getLogger("torch.export")
    told, logger.disabled = logger.disabled, True  # torch logs tracebacks of what it then raises
    try:
        exported = torch.export.load(path)
    except _DAMAGED as error:
        raise InvalidInput(
            f"{path} is no exported program, or it is damaged",
            where=str(path),
            hint="write it with torch.export.save(torch.export.export(module, (example,)), FILE)",
        ) from error
    finally:
        logger.disabled = told
    arguments = exported.example_inputs[0] if exported.example_inputs else ()
    if not arguments or not all(isinstance(a, torch.Tensor) and a.is_floating_point() for a in arguments):
        raise InvalidInput("the program has no example inputs of floats", where=str(path))
    examples = tuple(np.asarray(tensor.detach().cpu().numpy(), np.float32) for tensor in arguments)
    return ModelSource(_plain(path.stem), _settled(exported.module()), examples, Port(), None, path.name)


def _settled(module: Any) -> Any:
    """An exported module, which is in the mode it was exported in and raises when asked for another, made to stay."""
    module.train = module.eval = lambda *_: module
    return module


def _load_weights(module: "torch.nn.Module", path: Path) -> None:
    import torch

    from penjing.zoo.weights import load_into

    if path.suffix.lower() == ".npz":
        load_into(module, path)
        return
    hint = "write it with torch.save(module.state_dict(), FILE)"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise InvalidInput(f"{path} holds more than tensors, or it is damaged", where=str(path), hint=hint) from error
    try:
        module.load_state_dict(state, strict=True)
    except _DAMAGED as error:
        raise InvalidInput(
            f"{path} does not hold this model's weights: {_reason(error)}", where=str(path), hint=hint
        ) from error


def _reason(error: BaseException) -> str:
    """The first of what can be pages."""
    text = " ".join(str(error).split()).replace("Error(s) in loading state_dict for ", "")
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]} ..."


def _plain(text: str) -> str:
    """Letters, digits, _ and - only, and no digit first: what a tray and a C function can be called."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", text)[:64]
    return plain if plain[:1].isalpha() else f"m{plain}"[:64]
