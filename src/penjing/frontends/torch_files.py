"""Files that torch writes: exported programs (.pt2) and state dicts (.pt, .pth).

A state dict is read without running anything. An exported program is as trusted as a Python file: torch evaluates the
symbolic expressions in it. What torch would unpickle besides, penjing refuses.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np

from penjing.core.errors import InvalidInput
from penjing.frontends.exported.trace import import_torch

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


def load_exported(path: Path) -> tuple[Any, tuple[np.ndarray, ...]]:
    """The module of an exported program, and its example inputs, batch first: float32, or int32 where they are ids.

    Raises:
        InvalidInput: no exported program, a damaged one, or one without examples of floats or ids.
        MissingDependency: torch is not installed.
    """
    torch = import_torch()
    try:
        with _quiet("torch.export"), _tensors_only(torch):
            exported = torch.export.load(path)
    except _DAMAGED as error:
        raise InvalidInput(
            f"{path} is no exported program, or it is damaged",
            where=str(path),
            hint="write it with torch.export.save(torch.export.export(module, (example,)), FILE)",
        ) from error
    arguments = exported.example_inputs[0] if exported.example_inputs else ()
    ids = (torch.int64, torch.int32)
    if not arguments or not all(
        isinstance(a, torch.Tensor) and (a.is_floating_point() or a.dtype in ids) for a in arguments
    ):
        raise InvalidInput("the program has no example inputs of floats or ids", where=str(path))
    examples = tuple(
        np.asarray(x.detach().cpu().numpy(), np.int32 if x.dtype in ids else np.float32) for x in arguments
    )
    return _settled(exported.module()), examples


def load_state(module: Any, path: Path) -> None:
    """Load a state dict into a module, every tensor of it and nothing else.

    Raises:
        InvalidInput: the file is damaged, holds more than tensors, or does not fit the module.
        MissingDependency: torch is not installed.
    """
    torch = import_torch()
    hint = "write it with torch.save(module.state_dict(), FILE)"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise InvalidInput(f"{path} holds more than tensors, or it is damaged", where=str(path), hint=hint) from error
    try:
        module.load_state_dict(state, strict=True)
    except _DAMAGED as error:
        what = f"{path} does not hold this model's weights: {_reason(error)}"
        raise InvalidInput(what, where=str(path), hint=hint) from error


def check_module(value: Any, what: str, where: str) -> None:
    """Raise InvalidInput unless `value`, which `what` gave, is a torch module."""
    if not isinstance(value, import_torch().nn.Module):
        raise InvalidInput(f"{what} gives {type(value).__name__}, which is no torch module", where=where)


def _settled(module: Any) -> Any:
    """An exported module, which is in the mode it was exported in and raises when asked for another, made to stay."""
    module.train = module.eval = lambda *_: module
    return module


@contextmanager
def _tensors_only(torch: Any) -> Iterator[None]:
    """torch.export.load unpickles what `weights_only` refuses, and has no option against it."""
    load = torch.load

    def restricted(*arguments: Any, **options: Any) -> Any:
        return load(*arguments, **(options | {"weights_only": True}))

    torch.load = restricted
    try:
        yield
    finally:
        torch.load = load


@contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    """torch logs tracebacks of what it then raises."""
    logger = logging.getLogger(logger_name)
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _reason(error: BaseException) -> str:
    """The first of what can be pages."""
    text = " ".join(str(error).split()).replace("Error(s) in loading state_dict for ", "")
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]} ..."
