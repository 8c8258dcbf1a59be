"""Output files appear whole or not at all: written beside their place, then renamed into it."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from penjing.core.errors import OutputExists, WriteFailed


def refuse_to_overwrite(path: Path, *, force: bool) -> None:
    """Raise before any work starts when `path` exists and `force` was not given."""
    if path.exists() and not force:
        raise OutputExists(f"{path} exists", where=str(path), hint="choose another -o, or pass --force to replace it")


def write_atomically(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write `data` to `path` so that an interruption leaves the old file, or none, but never a part.

    Raises:
        OutputExists: `path` exists and `force` is false.
        WriteFailed: the disk is full, read-only, or the folder is missing.
    """
    refuse_to_overwrite(path, force=force)
    temporary: Path | None = None
    try:
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(fd, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise _write_failed(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_atomically(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a fresh folder that takes the place of `path` when the block ends well, and vanishes otherwise."""
    refuse_to_overwrite(path, force=force)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise _write_failed(path, error) from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _take_place(temporary, path)
    except OSError as error:
        raise _write_failed(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_place(folder: Path, path: Path) -> None:
    """Rename `folder` to `path`. What stands there makes room first, and comes back when the renaming fails."""
    if not path.exists():
        folder.replace(path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    old = aside / path.name
    try:
        path.replace(old)
        folder.replace(path)
    finally:
        if old.exists() and not path.exists():
            old.replace(path)
        shutil.rmtree(aside, ignore_errors=True)


def _write_failed(path: Path, error: OSError) -> WriteFailed:
    return WriteFailed(
        f"cannot write {path}: {error.strerror or error}",
        where=str(path),
        hint="check free space and permissions of the folder; nothing was left behind",
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
