"""Models that a user's own Python code makes. Whatever that code raises is told as an error at its line."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from penjing.cli.arrays import require_file
from penjing.core.errors import InvalidInput


def call_factory(spec: str) -> Any:
    """What `FACTORY()` gives, for `FILE.py:FACTORY` or `PACKAGE.MODULE:FACTORY`; a class is a factory too.

    Raises:
        InvalidInput: no such file, module or factory, or an error in it, with its line.
    """
    where, _, attribute = spec.rpartition(":")
    with _told(spec):
        module = _file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise InvalidInput(f"{where} has no function or class {attribute!r}", where=spec)
    with _told(spec):
        return factory()


def _file(path: Path) -> ModuleType:
    require_file(path)
    name = f"penjing_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    sys.path.insert(0, str(path.parent.resolve()))  # as `python FILE.py` does, for modules beside it
    spec.loader.exec_module(module)
    return module


@contextmanager
def _told(spec: str) -> Iterator[None]:
    try:
        yield
    except InvalidInput:
        raise
    except ModuleNotFoundError as error:
        hint = "is it installed, and is its folder on PYTHONPATH?"
        raise InvalidInput(f"cannot import {error.name}", where=_line(spec, error), hint=hint) from error
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise InvalidInput(f"{spec} raised {type(error).__name__}: {error}", where=_line(spec, error)) from error


def _line(spec: str, error: BaseException) -> str:
    """The innermost line that is not inside Python or an installed library, else the last one."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if not _is_library(frame.filename)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else spec


def _is_library(file: str) -> bool:
    places = {Path(__file__).parent, Path(importlib.__file__).parent}
    return "site-packages" in Path(file).parts or any(place in Path(file).parents for place in places)
