"""Trays on disk: what is not a tray, and writes that fail."""

import errno
import os
import sys
from pathlib import Path

import pytest

from penjing.bundle import Limits, open_tray
from penjing.bundle.pack import save_tray
from penjing.core.errors import CorruptBundle, InvalidInput, OutputExists, WriteFailed


def test_a_saved_tray_opens_with_the_same_contents(tmp_path, packed):
    path = tmp_path / "m.tray"
    save_tray(packed, path)
    assert path.read_bytes() == packed
    assert list(tmp_path.iterdir()) == [path]
    tray = open_tray(str(path))
    assert tray.n_bytes == len(packed)
    assert tray.where == str(path)
    assert tray.manifest.name == "tiny"


def test_tensors_of_an_open_tray_cannot_be_written(tmp_path, packed):
    path = tmp_path / "m.tray"
    save_tray(packed, path)
    for array in open_tray(path).weights("w8a8").values():
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)


def test_a_change_of_the_file_does_not_reach_an_open_tray(tmp_path, packed):
    """Digests vouch for the bytes that are used, not for those that the file held once."""
    path = tmp_path / "m.tray"
    save_tray(packed, path)
    tray = open_tray(path)
    expected = {name: array.tobytes() for name, array in tray.weights("w8a8").items()}
    with path.open("r+b") as stream:
        stream.write(bytes(len(packed)))
    assert {name: array.tobytes() for name, array in tray.weights("w8a8").items()} == expected


def test_a_missing_file_is_named_with_a_hint(tmp_path):
    with pytest.raises(InvalidInput, match="no file") as caught:
        open_tray(tmp_path / "none.tray")
    assert caught.value.where == str(tmp_path / "none.tray")
    assert "penjing build" in caught.value.hint


def test_a_folder_is_no_tray(tmp_path):
    with pytest.raises(InvalidInput, match="is a folder"):
        open_tray(tmp_path)


def test_a_file_as_a_folder_is_an_input_error(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(InvalidInput):
        open_tray(tmp_path / "a" / "m.tray")


@pytest.mark.parametrize("name", ["m\0.tray", "m" * 5000], ids=["zero byte", "long"])
def test_a_path_that_no_system_allows_is_an_input_error(tmp_path, name):
    with pytest.raises(InvalidInput):
        open_tray(tmp_path / name)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in folders")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="not a regular file"):
        open_tray(tmp_path / "pipe")


def test_an_unreadable_file_is_an_input_error(tmp_path, packed, monkeypatch):
    save_tray(packed, tmp_path / "m.tray")

    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read anything
    with pytest.raises(InvalidInput, match="Permission denied"):
        open_tray(tmp_path / "m.tray")


@pytest.mark.parametrize("data", [b"", b"text\n" * 9, bytes(99)], ids=["empty", "text", "zeros"])
def test_a_file_that_is_no_tray_is_refused_by_name(tmp_path, data):
    path = tmp_path / "m.tray"
    path.write_bytes(data)
    with pytest.raises(CorruptBundle) as caught:
        open_tray(path)
    assert caught.value.where.startswith(str(path))


def test_a_file_over_the_limit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "huge.tray"
    with path.open("wb") as stream:
        stream.truncate((1 << 30) + 1)  # sparse
    monkeypatch.setattr("penjing.bundle.tray.bytearray", lambda _: pytest.fail("memory was taken"), raising=False)
    with pytest.raises(CorruptBundle, match="more than a tray may have"):
        open_tray(path)
    with pytest.raises(CorruptBundle, match="more than a tray may have"):
        open_tray(path, limits=Limits(file_bytes=10))


def test_a_file_that_shrinks_or_grows_while_it_is_read_is_refused(tmp_path, packed, monkeypatch):
    path = tmp_path / "m.tray"
    save_tray(packed, path)
    for n_bytes in (len(packed) - 1, len(packed) + 1):
        status = os.stat_result((0o100644, 0, 0, 1, 0, 0, n_bytes, 0, 0, 0))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", lambda _, status=status: status)
            with pytest.raises(CorruptBundle, match="changed while"):
                open_tray(path)


# --- writing ---


def test_an_existing_file_is_replaced_only_when_asked(tmp_path, packed):
    path = tmp_path / "m.tray"
    path.write_bytes(b"old")
    with pytest.raises(OutputExists):
        save_tray(packed, path)
    assert path.read_bytes() == b"old"
    save_tray(packed, path, force=True)
    assert path.read_bytes() == packed


@pytest.fixture(params=["new", "existing"])
def place(request, tmp_path):
    """A path to write to, with or without an old file, and a check that nothing there has changed."""
    path = tmp_path / "m.tray"
    if request.param == "existing":
        path.write_bytes(b"old")

    def unchanged() -> None:
        assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == (
            [("m.tray", b"old")] if request.param == "existing" else []
        )

    return path, unchanged


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=errno.errorcode.get)
def test_a_full_or_failing_disk_leaves_everything_as_it_was(place, packed, monkeypatch, code):
    path, unchanged = place

    def fail(_descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteFailed, match="cannot write") as caught:
        save_tray(packed, path, force=True)
    assert os.strerror(code) in caught.value.what
    unchanged()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_disk_that_is_really_full_is_reported(place, packed, monkeypatch):
    path, unchanged = place
    real = os.fdopen

    def onto_full(descriptor, mode):
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, descriptor)
        os.close(full)
        return real(descriptor, mode)

    monkeypatch.setattr(os, "fdopen", onto_full)
    with pytest.raises(WriteFailed, match="No space left"):
        save_tray(packed, path, force=True)
    unchanged()


def test_a_read_only_folder_is_reported(place, packed, monkeypatch):
    path, unchanged = place

    def refuse(**_kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkstemp", refuse)  # root ignores permissions
    with pytest.raises(WriteFailed, match="Read-only"):
        save_tray(packed, path, force=True)
    unchanged()


def test_a_missing_folder_is_reported(tmp_path, packed):
    with pytest.raises(WriteFailed):
        save_tray(packed, tmp_path / "none" / "m.tray")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.chmod", "pathlib.Path.replace"])
def test_an_interruption_leaves_everything_as_it_was(place, packed, monkeypatch, moment):
    path, unchanged = place

    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(moment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_tray(packed, path, force=True)
    monkeypatch.undo()
    unchanged()
