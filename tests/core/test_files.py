"""Output files and folders appear whole or not at all, whatever goes wrong on the way."""

import errno
import os
import resource
import stat
from contextlib import contextmanager
from pathlib import Path

import pytest

from penjing.core.errors import OutputExists, WriteFailed
from penjing.core.files import folder_atomically, refuse_to_overwrite, write_atomically

OLD, NEW = b"the old contents", b"the new contents, somewhat longer"


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


@contextmanager
def largest_file(nbytes: int):
    """The operating system itself refuses to let a file grow beyond `nbytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fail_at(monkeypatch, step: str, error: BaseException) -> None:
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(step, fail)


FILE_STEPS = ["tempfile.mkstemp", "os.fdopen", "os.fsync", "pathlib.Path.chmod", "pathlib.Path.replace"]


def test_a_file_is_written_whole_and_leaves_nothing_beside_it(tmp_path):
    write_atomically(tmp_path / "model.tray", NEW)
    assert (tmp_path / "model.tray").read_bytes() == NEW
    assert names(tmp_path) == {"model.tray"}


def test_an_empty_file_is_a_file(tmp_path):
    write_atomically(tmp_path / "empty", b"")
    assert (tmp_path / "empty").read_bytes() == b""


def test_an_existing_file_is_refused_and_kept_without_force(tmp_path):
    path = tmp_path / "model.tray"
    path.write_bytes(OLD)
    with pytest.raises(OutputExists, match=r"model\.tray exists"):
        write_atomically(path, NEW)
    assert path.read_bytes() == OLD
    assert names(tmp_path) == {"model.tray"}


def test_an_existing_file_is_replaced_with_force(tmp_path):
    path = tmp_path / "model.tray"
    path.write_bytes(OLD)
    write_atomically(path, NEW, force=True)
    assert path.read_bytes() == NEW
    assert names(tmp_path) == {"model.tray"}


def test_the_refusal_comes_before_any_work(tmp_path):
    refuse_to_overwrite(tmp_path / "new", force=False)
    (tmp_path / "old").write_bytes(OLD)
    refuse_to_overwrite(tmp_path / "old", force=True)
    with pytest.raises(OutputExists) as caught:
        refuse_to_overwrite(tmp_path / "old", force=False)
    assert caught.value.where == str(tmp_path / "old")
    assert "--force" in str(caught.value.hint)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("step", FILE_STEPS)
def test_a_disk_that_fails_at_any_step_leaves_the_folder_as_it_was(tmp_path, monkeypatch, step, exists):
    path = tmp_path / "model.tray"
    if exists:
        path.write_bytes(OLD)
    with monkeypatch.context() as patched:
        fail_at(patched, step, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(WriteFailed, match="No space left") as caught:
            write_atomically(path, NEW, force=True)
    assert caught.value.where == str(path)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == ({"model.tray": OLD} if exists else {})


@pytest.mark.parametrize("step", FILE_STEPS[2:])
def test_an_interruption_at_any_step_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "model.tray"
    path.write_bytes(OLD)
    with monkeypatch.context() as patched:
        fail_at(patched, step, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            write_atomically(path, NEW, force=True)
    assert names(tmp_path) == {"model.tray"}
    assert path.read_bytes() == OLD


def test_a_file_that_the_system_refuses_to_let_grow_is_taken_away_again(tmp_path):
    path = tmp_path / "model.tray"
    path.write_bytes(OLD)
    with largest_file(1000), pytest.raises(WriteFailed):
        write_atomically(path, bytes(100_000), force=True)
    assert names(tmp_path) == {"model.tray"}
    assert path.read_bytes() == OLD


@pytest.mark.parametrize("place", ["missing/model.tray", "file/model.tray"])
def test_a_folder_that_is_not_there_is_named(tmp_path, place):
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(WriteFailed, match=r"cannot write .*model\.tray"):
        write_atomically(tmp_path / place, NEW)
    with pytest.raises(WriteFailed), folder_atomically(tmp_path / place):
        pytest.fail("the block must not run")
    assert names(tmp_path) == {"file"}


def test_a_folder_in_the_place_of_a_file_is_not_replaced(tmp_path):
    (tmp_path / "model.tray").mkdir()
    (tmp_path / "model.tray" / "inside").write_bytes(OLD)
    with pytest.raises(WriteFailed):
        write_atomically(tmp_path / "model.tray", NEW, force=True)
    assert names(tmp_path) == {"model.tray"}
    assert names(tmp_path / "model.tray") == {"inside"}


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_and_folders_get_the_permissions_of_any_other_new_one(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", NEW)
        with folder_atomically(tmp_path / "folder"):
            pass
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~mask


def fill(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.c").write_bytes(NEW)
    (folder / "b.h").write_bytes(NEW)


def test_a_folder_appears_when_its_block_ends_well(tmp_path):
    path = tmp_path / "out"
    with folder_atomically(path) as folder:
        fill(folder)
        assert not path.exists()
        assert folder.parent == tmp_path
    assert names(tmp_path) == {"out"}
    assert names(path) == {"sub", "b.h"}
    assert (path / "sub" / "a.c").read_bytes() == NEW


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()], ids=["error", "interruption"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_whose_block_fails_vanishes_and_the_old_one_stays(tmp_path, exists, error):
    path = tmp_path / "out"
    if exists:
        path.mkdir()
        (path / "old").write_bytes(OLD)

    def write() -> None:
        with folder_atomically(path, force=True) as folder:
            fill(folder)
            raise error

    with pytest.raises(type(error)):
        write()
    assert names(tmp_path) == ({"out"} if exists else set())
    assert not exists or names(path) == {"old"}


def test_an_existing_folder_is_refused_without_force_before_the_block_runs(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputExists), folder_atomically(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert names(tmp_path) == {"out"}


@pytest.mark.parametrize("old", ["folder", "file"])
def test_force_replaces_a_whole_folder_and_even_a_file(tmp_path, old):
    path = tmp_path / "out"
    if old == "folder":
        path.mkdir()
        (path / "old").write_bytes(OLD)
    else:
        path.write_bytes(OLD)
    with folder_atomically(path, force=True) as folder:
        fill(folder)
    assert names(tmp_path) == {"out"}
    assert names(path) == {"sub", "b.h"}


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=["disk", "stop"])
def test_a_failure_while_an_old_folder_makes_room_brings_it_back(tmp_path, monkeypatch, which, error):
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").write_bytes(OLD)
    real, calls = Path.replace, []

    def replace(self, target):
        calls.append(self)
        if len(calls) == which:
            raise error
        return real(self, target)

    def write() -> None:
        with folder_atomically(path, force=True) as folder:
            fill(folder)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(WriteFailed if isinstance(error, OSError) else KeyboardInterrupt):
        write()
    assert names(tmp_path) == {"out"}
    assert names(path) == {"old"}


def test_what_an_earlier_crash_left_does_not_stop_the_next_replacement(tmp_path):
    path = tmp_path / "out"
    for name in (".out.old", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").write_bytes(OLD)
    with folder_atomically(path, force=True) as folder:
        fill(folder)
    assert names(path) == {"sub", "b.h"}


def test_a_full_disk_inside_the_block_is_a_failed_write(tmp_path):
    def write() -> None:
        with folder_atomically(tmp_path / "out") as folder:
            (folder / "big").write_bytes(bytes(100_000))

    with largest_file(1000), pytest.raises(WriteFailed, match="cannot write"):
        write()
    assert names(tmp_path) == set()


def test_no_folder_can_be_made_where_none_can_be_written(tmp_path, monkeypatch):
    fail_at(monkeypatch, "tempfile.mkdtemp", PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(WriteFailed, match="Permission denied"), folder_atomically(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert names(tmp_path) == set()
