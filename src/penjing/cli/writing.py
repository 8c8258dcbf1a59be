"""Outputs of commands: refused before any work when they cannot be written, and put in place together at its end."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from penjing.core.errors import WriteFailed
from penjing.core.files import refuse_to_overwrite


def claim(path: Path, *, force: bool) -> None:
    """Refuse, before any work, an output that could not be written at the end.

    Raises:
        OutputExists: it exists, and `force` was not given.
        WriteFailed: it is a folder, or its folder is missing or cannot be written.
    """
    if path.is_dir():
        raise WriteFailed(f"{path} is a folder", where=str(path), hint="give the name of a file")
    refuse_to_overwrite(path, force=force)
    if not path.parent.exists():
        raise WriteFailed(f"there is no folder {path.parent}", where=str(path), hint="make it, or choose another place")
    _try_to_write(path.parent)


def claim_folder(folder: Path, names: Sequence[str], *, force: bool) -> None:
    """The same for files `names` in a folder, which may still have to be made."""
    if folder.exists():
        for name in names:
            claim(folder / name, force=force)
    else:
        _try_to_write(next(parent for parent in folder.absolute().parents if parent.exists()))


@contextlib.contextmanager
def placed_together(folder: Path, names: Sequence[str], *, force: bool) -> Iterator[Path]:
    """Yield a hidden folder for the files `names`; they move into `folder` when the block ends well.

    Otherwise `folder` is left as it was, or not there at all.

    Raises:
        OutputExists: a file has appeared in the meantime, and `force` was not given.
        WriteFailed: the disk is full or read-only.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with _hidden_folder(folder) as hidden:
            yield hidden
            _move(hidden, folder, names, force=force)
    finally:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()  # which only empty folders let happen


@contextlib.contextmanager
def _hidden_folder(folder: Path) -> Iterator[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        hidden = tempfile.TemporaryDirectory(prefix=".penjing-", suffix=".part", dir=folder)
    except OSError as error:
        raise _refused(folder, error) from error
    with hidden as name:
        yield Path(name)


def _move(hidden: Path, folder: Path, names: Sequence[str], *, force: bool) -> None:
    for name in names:
        refuse_to_overwrite(folder / name, force=force)
    for name in names:
        try:
            (hidden / name).replace(folder / name)
        except OSError as error:
            raise _refused(folder / name, error) from error


def _try_to_write(folder: Path) -> None:
    """By doing it: permissions alone do not tell of read-only disks."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused(folder, error) from error


def _refused(path: Path, error: OSError) -> WriteFailed:
    return WriteFailed(
        f"cannot write to {path}: {error.strerror or error}",
        where=str(path),
        hint="choose another place with -o, or check permissions and free space",
    )
