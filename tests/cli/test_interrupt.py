"""Ctrl-C at any moment: exit code 130, no traceback, no part of a file, and no compiler that goes on."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BUILD = ("build", "net.py:TinyNet", "--input-shape", "1x8x8", "--calibrate", "samples.npy")
PATIENCE_S = 120
# Answers like the real one when asked who it is; when asked to compile, it says so in a file and takes its time.
SLOW_COMPILER = """#!/bin/sh
case "$*" in *--version*) exec cc "$@";; esac
echo $$ > {mark}
exec sleep 300
"""


@pytest.fixture(autouse=True)
def interruptible():
    """A shell's background jobs, and what they start, ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(*arguments: str, **more) -> subprocess.Popen[str]:
    environment = {**os.environ, **more.pop("environment", {})}
    command = [sys.executable, "-m", "penjing.cli", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, **{"stderr": subprocess.PIPE, **more}
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> str:
    end = time.monotonic() + PATIENCE_S
    while not (path.exists() and path.read_text().endswith("\n")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    return path.read_text().strip()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("as_json", [False, True])
def test_a_build_interrupted_while_it_compiles_leaves_everything_as_it_was(place, tmp_path, require, as_json):
    require("cc")
    compiler, mark, temporary = tmp_path / "slow-cc", tmp_path / "mark", tmp_path / "temporary"
    compiler.write_text(SLOW_COMPILER.format(mark=mark))
    compiler.chmod(0o755)
    temporary.mkdir()
    (place / "tinynet.tray").write_bytes(b"precious")
    names = sorted(path.name for path in place.iterdir() if path.name != "__pycache__")
    process = start(
        *BUILD,
        "--force",
        *(["--json"] if as_json else []),
        environment={"PENJING_CC": str(compiler), "TMPDIR": str(temporary)},
    )
    compiling = int(wait_for(mark, process))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert (out == "") is not as_json
    assert '"error": "Interrupted"' in out if as_json else err == "Interrupted: nothing was left half-written\n"
    assert (place / "tinynet.tray").read_bytes() == b"precious"
    assert sorted(path.name for path in place.iterdir() if path.name != "__pycache__") == names
    assert not list(temporary.glob("penjing-*"))
    assert not is_running(compiling)


def test_a_demo_interrupted_while_it_trains_leaves_nothing(place):
    terminal, its_end = pty.openpty()
    process = start("demo", "--data", "digits", "-o", "new/demo", stderr=its_end, environment={"TERM": "xterm"})
    os.close(its_end)
    seen = b""
    while b"training on digits" not in seen:
        seen += os.read(terminal, 4096)
    process.send_signal(signal.SIGINT)
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        seen += part
    os.close(terminal)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (130, "")
    assert b"Traceback" not in seen
    assert not (place / "new").exists()


@pytest.mark.parametrize("step", ["penjing.api.capture", "penjing.api.quantize", "penjing.api.assemble", "os.fsync"])
def test_an_interruption_of_any_step_leaves_the_old_tray(penjing, place, monkeypatch, step):
    (place / "tinynet.tray").write_bytes(b"precious")
    before = {path.name for path in place.iterdir()} - {"__pycache__"}

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step, interrupt)
    told = penjing(*BUILD, "--force")
    assert (told.code, told.out) == (130, "")
    assert {path.name for path in place.iterdir()} - {"__pycache__"} == before
    assert (place / "tinynet.tray").read_bytes() == b"precious"


def test_an_interrupted_demo_puts_neither_of_its_files_in_place(place, monkeypatch):
    from penjing.cli.writing import placed_together

    def deliver() -> None:
        with placed_together(place / "new" / "demo", ("a", "b"), force=False) as hidden:
            (hidden / "a").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deliver()
    assert not (place / "new").exists()
