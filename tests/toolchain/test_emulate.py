"""Programs of every target run here with input, arguments, a limit, and errors that say what happened."""

import tempfile
from pathlib import Path

import pytest

from penjing.core.errors import ToolchainError, WriteFailed
from penjing.toolchain import TARGETS, compile_executable, find_target, has_emulator, host_target, run_executable

RUN_HERE = [
    pytest.param(target.name, marks=() if target == host_target() else pytest.mark.slow)
    for target in TARGETS
    if target.name != "aarch64-macos"
]

# Writes its arguments, one a line, then its input; with the argument "fail" it complains and ends with status 3.
ECHO = r"""
#include <stdio.h>
#include <string.h>
int main(int n, char **args)
{
    static char block[4096];
    size_t got;
    for (int i = 1; i < n; i++) {
        if (strcmp(args[i], "fail") == 0) {
            fputs("no such luck\n", stderr);
            return 3;
        }
        if (strcmp(args[i], "hang") == 0) {
            volatile int more = 1;
            while (more) { }
        }
        puts(args[i]);
    }
    while ((got = fread(block, 1, sizeof block, stdin)) > 0) fwrite(block, 1, got, stdout);
    return 0;
}
"""


@pytest.fixture
def temporary(monkeypatch, tmp_path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("name", RUN_HERE)
def test_input_of_every_byte_and_odd_arguments_pass_through(name, runnable, temporary):
    target = runnable(name)
    program = compile_executable({"echo.c": ECHO}, target)
    data = bytes(range(256)) * 4097
    args = ("-e", "--", "a b", "", "é")
    expected = "".join(f"{arg}\n" for arg in args).encode() + data
    assert run_executable(program, target, stdin=data, args=args) == expected
    assert run_executable(program, target) == b""
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", RUN_HERE)
def test_a_failing_program_is_an_error_with_its_last_words(name, runnable, temporary):
    target = runnable(name)
    program = compile_executable({"echo.c": ECHO}, target)
    with pytest.raises(ToolchainError, match=r"ended with status 3\nno such luck") as caught:
        run_executable(program, target, args=("fail",))
    assert target.name in caught.value.what
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", RUN_HERE)
def test_a_program_that_hangs_is_ended(name, runnable, temporary):
    target = runnable(name)
    program = compile_executable({"echo.c": ECHO}, target)
    with pytest.raises(ToolchainError, match="did not end within 1 s"):
        run_executable(program, target, args=("hang",), timeout_s=1)
    assert list(temporary.iterdir()) == []


def test_a_program_that_crashes_is_an_error_with_its_signal():
    program = compile_executable({"a.c": "#include <stdlib.h>\nint main(void) { abort(); }\n"}, host_target())
    with pytest.raises(ToolchainError, match="signal 6"):
        run_executable(program, host_target())


@pytest.mark.parametrize("name", [target.name for target in TARGETS if target != host_target()])
def test_a_missing_emulator_is_an_error_that_says_what_to_install(name, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    target = find_target(name)
    assert not has_emulator(target)
    with pytest.raises(ToolchainError, match=name) as caught:
        run_executable(b"", target)
    if target.emulator:
        assert target.emulator_package in str(caught.value.hint)


def test_the_machine_itself_needs_no_emulator(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert has_emulator(host_target())


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"neither program nor script"])
def test_bytes_that_are_no_program_are_an_error(data, temporary):
    with pytest.raises(ToolchainError):
        run_executable(data, host_target())
    assert list(temporary.iterdir()) == []


def test_a_missing_temporary_folder_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(WriteFailed):
        run_executable(b"", host_target())
