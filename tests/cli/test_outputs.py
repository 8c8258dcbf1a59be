"""Files that commands write: whole or not at all, never over others, refused before any work; and closed streams."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from penjing import api
from penjing.cli import demo_steps

from_samples = ("--input-shape", "1x8x8", "--calibrate", "samples.npy")
BUILD = ("build", "net.py:TinyNet", *from_samples)


@pytest.fixture
def no_work(monkeypatch):
    """Every step that takes time fails the test."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("work began before the output was looked at")

    monkeypatch.setattr(api, "capture", fail)
    monkeypatch.setattr(demo_steps, "make", fail)
    monkeypatch.setattr("penjing.cli.demo.make", fail)


@pytest.mark.parametrize("name", ["edgecnn.tray", "digit.png"])
def test_the_demo_refuses_existing_files_before_any_work(refused, place, no_work, name):
    (place / "old").mkdir()
    (place / name).rename(place / "old" / name)
    assert f"old/{name} exists" in refused("demo", "-o", "old", error="OutputExists").err


def test_a_build_refuses_an_existing_file_before_any_work(refused, place, no_work):
    assert "--force" in refused(*BUILD, "-o", "edgecnn.tray", error="OutputExists").err


def test_a_run_refuses_an_existing_file(refused, place):
    refused("run", "edgecnn.tray", "digits.npy", "-o", "digits.npy", error="OutputExists")


@pytest.mark.parametrize("output", ["no/such/a.tray", "net.py/a.tray", "/proc/a.tray", "."])
def test_an_output_that_cannot_be_written_is_told_before_any_work(refused, place, no_work, output):
    refused(*BUILD, "-o", output, "--force", error="WriteFailed")


@pytest.mark.parametrize("folder", ["net.py", "net.py/sub", "/proc/demo"])
def test_a_demo_folder_that_cannot_be_written_is_told_before_any_work(refused, place, no_work, folder):
    refused("demo", "-o", folder, error="WriteFailed")


def test_a_disk_that_cannot_be_written_is_told_before_any_work(refused, place, no_work, monkeypatch):
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)  # root ignores permissions
    assert "Read-only file system" in refused(*BUILD, "-o", "a.tray", error="WriteFailed").err


def test_a_full_disk_leaves_nothing_behind(penjing, place, small_disk):
    told = penjing("build", "zoo:edgecnn", "--calibrate", "random", "--samples", "4", "-o", str(small_disk / "a.tray"))
    assert told.code == 1
    assert "WriteFailed: " in told.err
    assert "No space left on device" in told.err
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_keeps_the_old_tray(penjing, place, small_disk):
    old = small_disk / "a.tray"
    old.write_bytes(b"precious")
    build = ("build", "zoo:edgecnn", "--calibrate", "random", "--samples", "4", "-o", str(old), "--force", "--json")
    assert penjing(*build).json()["error"] == "WriteFailed"
    assert [path.name for path in small_disk.iterdir()] == ["a.tray"]
    assert old.read_bytes() == b"precious"


def test_a_new_file_has_the_usual_permissions(penjing, place):
    assert penjing("run", "edgecnn.tray", "digit.png", "-o", "a.npy").code == 0
    (place / "plain").touch()
    assert stat.S_IMODE(Path("a.npy").stat().st_mode) == stat.S_IMODE(Path("plain").stat().st_mode)


def test_a_reader_that_leaves_early_is_no_error(place):
    command = [sys.executable, "-m", "penjing.cli", "ops", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_results_that_cannot_be_written_are_an_error(place):
    command = [sys.executable, "-m", "penjing.cli", "inspect", "edgecnn.tray"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("WriteFailed: cannot write the output: No space left on device")
    assert "Traceback" not in done.stderr


def test_a_terminal_without_a_character_gets_its_code(process, penjing, place):
    (place / "labels.txt").write_text("蚂蚁\n蜜蜂\n猫\n", encoding="utf-8")
    assert penjing(*BUILD, "--labels", "labels.txt", "-o", "a.tray").code == 0
    told = process("run", "a.tray", "samples.npy", PYTHONIOENCODING="ascii")
    assert told.code == 0
    assert "\\u" in told.out
