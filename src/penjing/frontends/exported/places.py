"""Where a node came from: the user's own file and line, and the module path that names its value."""

import importlib
import re
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from penjing.ir.types import Source

_FRAME = re.compile(r'^\s*File "(?P<file>[^"\n]+)", line (?P<line>\d+)', re.MULTILINE)


def source_of(node: Any) -> Source:
    """File name and line of the innermost frame outside torch, where there is one, and the operator."""
    frames = ((m["file"], int(m["line"])) for m in _FRAME.finditer(node.meta.get("stack_trace") or ""))
    file, line = _innermost(frames)
    return Source(file, line, target_of(node))


def user_frame(error: BaseException) -> str | None:
    """`model.py:12`, the innermost frame outside torch and penjing in an exception's traceback."""
    frames = ((frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__))
    file, line = _innermost(frames)
    return f"{file}:{line}" if file else None


def _innermost(frames: Iterable[tuple[str, int]]) -> tuple[str, int]:
    """The file's name only: a graph must not depend on where on a disk, or from which folder, it was made."""
    found = ("", 0)
    roots = (str(_folder("torch")), str(_folder("penjing") / "frontends"))
    for file, line in frames:
        if not file.startswith(("torch/", *roots)):
            found = (Path(file).name, line)
    return found


def _folder(package: str) -> Path:
    file = importlib.import_module(package).__file__
    assert file is not None
    return Path(file).parent


def target_of(node: Any) -> str:
    """`aten.conv2d.default`; the bare name of anything that is no ATen operator."""
    return str(node.target) if hasattr(node.target, "_schema") else str(getattr(node.target, "__name__", node.target))


def stem_of(node: Any) -> str:
    """The value's name before it is made unique: `layer1.0.conv1` for the operator of a layer of torch.nn, and
    `layer1.0.add` for one in the body of the user's module `layer1.0`.
    """
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    # a module called for the n-th time is written `conv@n`
    path = re.sub(r"@\d+", "", path)
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    if path and kind.startswith("torch.nn."):
        return path
    parts = target_of(node).split(".")
    operation = (parts[1] if len(parts) > 1 else parts[0]).strip("_")
    return f"{path}.{operation}" if path else operation
