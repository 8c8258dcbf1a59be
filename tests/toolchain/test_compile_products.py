"""Libraries and executables for this machine: what they show, what they hide, how a build fails and cleans up."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from penjing.core.errors import CompileError, InvalidInput, ToolchainError, WriteFailed
from penjing.toolchain import compile_executable, compile_library, find_compiler, host_target, run_executable

LIBRARY = {
    "include/scale.h": "int scale(int x);\n",
    "scale.c": '#include "include/scale.h"\nint scale(int x) { return 3 * x; }\n',
    "api.c": """
#include "include/scale.h"
__attribute__((visibility("default"))) int answer(int x);
int answer(int x) { return scale(x) + 1; }
""",
}
PRINT = '#include <stdio.h>\nint main(void) { puts("text"); return 0; }\n'


@pytest.fixture
def temporary(monkeypatch, tmp_path) -> Path:
    """The folder in which builds make their own; it must be empty after each."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def load(data: bytes, folder: Path) -> ctypes.CDLL:
    path = folder / f"library{host_target().library_suffix}"
    path.write_bytes(data)
    return ctypes.CDLL(str(path))


def test_a_library_runs_here_and_shows_only_what_is_marked(tmp_path, temporary):
    library = load(compile_library(LIBRARY, host_target()), tmp_path)
    assert library.answer(13) == 40
    with pytest.raises(AttributeError):
        _ = library.scale
    assert list(temporary.iterdir()) == []


def test_a_library_built_by_zig_loads_here(tmp_path, monkeypatch):
    pytest.importorskip("ziglang")
    monkeypatch.setenv("PENJING_CC", f"'{sys.executable}' -m ziglang cc")
    assert load(compile_library(LIBRARY, host_target()), tmp_path).answer(13) == 40


def test_jobs_and_the_place_of_the_temporary_folder_leave_no_trace(monkeypatch, tmp_path):
    built = []
    for number, name in enumerate(["a", "a-much-longer-name/below"], start=1):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        built.append(compile_library(LIBRARY, host_target(), jobs=number))
    assert built[0] == built[1]
    assert os.fsencode(tmp_path) not in built[0]


def test_debug_information_asked_for_names_no_folder_of_this_machine(temporary):
    data = compile_executable({"a.c": PRINT}, host_target(), extra=("-g",))
    assert os.fsencode(temporary) not in data


def test_the_order_of_the_sources_does_not_matter():
    backwards = dict(reversed(LIBRARY.items()))
    assert compile_library(LIBRARY, host_target()) == compile_library(backwards, host_target())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("int f(void) { return x; }", "'x' undeclared|undeclared identifier 'x'"),
        ("int f(void) { int unused = 1; return 2; }", "unused variable"),
        ("int f(void) { // not C90, but C99\n return 1 }", "expected"),
        ("int f(int n) { return ({ n + 1; }); }", "braced|statement expression"),
        ("int missing(void); int f(void); int f(void) { return missing(); }", "missing"),
    ],
    ids=["error", "warning", "syntax", "extension", "link"],
)
def test_refused_code_shows_the_first_errors_and_the_command(text, complaint, temporary):
    visible = f"#pragma GCC visibility push(default)\n{text}\n"
    with pytest.raises(CompileError, match=complaint) as caught:
        compile_library({"good.c": "extern int good;", "sub/bad.c": visible}, host_target())
    assert find_compiler(host_target()).version() in caught.value.what
    assert "-ffp-contract=off" in str(caught.value.where) or "-shared" in str(caught.value.where)
    assert "PENJING_KEEP" in str(caught.value.hint)
    assert len(caught.value.what.splitlines()) <= 6
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["../a.c", "/a.c", "-o.c", "a/../b.c", "a//b.c", "", "a b.c", "a\n.c", ".hidden.c", 'a".c', "a/.c", "$(x).c"],
)
def test_a_source_name_that_could_leave_the_folder_or_be_an_option_is_refused(name, temporary):
    with pytest.raises(InvalidInput, match="source name"):
        compile_library({name: "int a;", "good.c": "int b;"}, host_target())
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("sources", [{}, {"a.h": "int a;"}, {"weights.bin": b"1"}])
def test_a_build_without_code_is_refused(sources):
    with pytest.raises(InvalidInput, match="nothing to compile"):
        compile_library(sources, host_target())


def test_no_jobs_are_refused():
    with pytest.raises(InvalidInput, match="jobs"):
        compile_library(LIBRARY, host_target(), jobs=0)


def test_options_that_would_change_results_are_absent():
    text = """
#include <float.h>
#ifdef __FAST_MATH__
#error fast math
#endif
#if FLT_EVAL_METHOD != 0
#error excess precision
#endif
#if __STDC_VERSION__ != 199901L || !defined __OPTIMIZE__
#error not optimised C99
#endif
int main(void) { return 0; }
"""
    compile_executable({"a.c": text}, host_target())


def test_a_sanitizer_asked_for_is_on(require):
    text = "int main(int n, char **a) { int x = 2147483647; (void)a; x += n; return x == 0; }\n"
    assert run_executable(compile_executable({"a.c": text}, host_target()), host_target()) == b""
    extra = ("-fsanitize=undefined", "-fno-sanitize-recover=all")
    checked = compile_executable({"a.c": text}, host_target(), optimize="-O1", extra=extra)
    with pytest.raises(ToolchainError, match="overflow"):
        run_executable(checked, host_target())


@pytest.mark.parametrize("broken", [False, True])
def test_kept_folders_hold_sources_commands_and_log(broken, monkeypatch, tmp_path, temporary):
    monkeypatch.setenv("PENJING_KEEP", str(tmp_path / "deep" / "keep"))
    sources = {"sub/a.c": PRINT + ("int f(void) { return x; }\n" if broken else ""), "w.bin": b"\0\1"}
    try:
        first = compile_executable(sources, host_target())
    except CompileError:
        assert broken
    (kept,) = (tmp_path / "deep" / "keep").iterdir()
    assert kept.name.startswith(f"{host_target().name}-executable-")
    assert (kept / "sources" / "sub" / "a.c").read_text() == sources["sub/a.c"]
    assert (kept / "sources" / "w.bin").read_bytes() == b"\0\1"
    assert ("error:" in (kept / "log.txt").read_text()) == broken
    again = subprocess.run(["sh", "../commands.sh"], cwd=kept / "sources", check=False, capture_output=True)
    assert (again.returncode != 0) == broken
    if not broken:
        assert (kept / "objects" / "output").read_bytes() == first
    assert list(temporary.iterdir()) == []


def test_a_keep_folder_that_cannot_be_made_is_an_error(monkeypatch, tmp_path, temporary):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PENJING_KEEP", str(tmp_path / "file" / "keep"))
    with pytest.raises(WriteFailed):
        compile_executable({"a.c": PRINT}, host_target())
    assert (tmp_path / "file").read_text() == "in the way"
    assert list(temporary.iterdir()) == []


def test_a_missing_temporary_folder_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(WriteFailed, match="temporary folder"):
        compile_executable({"a.c": PRINT}, host_target())


HANGING_COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then echo hanging 1.0; exit; fi
sleep 300 &
echo $! > "$PIDS/child.$$" && mv "$PIDS/child.$$" "$PIDS/child"
touch "$TMPDIR/left-over"
wait
"""


@pytest.fixture
def hanging(tmp_path) -> dict[str, str]:
    """The environment in which a build's compiler hangs, with a child whose number is in the file `child`."""
    compiler, temporary = tmp_path / "hanging", tmp_path / "temporary"
    compiler.write_text(HANGING_COMPILER)
    compiler.chmod(0o755)
    temporary.mkdir()
    return {**os.environ, "PENJING_CC": str(compiler), "PIDS": str(tmp_path), "TMPDIR": str(temporary)}


def test_an_interrupted_build_ends_the_compiler_and_its_children_and_leaves_nothing(hanging, tmp_path):
    code = (
        "from penjing.toolchain import *\n"
        "compile_library({'a.c': 'int a;', 'b.c': 'int b;', 'c.c': 'int c;'}, host_target(), jobs=2)"
    )
    temporary = tmp_path / "temporary"
    with subprocess.Popen([sys.executable, "-c", code], env=hanging, stderr=subprocess.PIPE) as build:
        child = tmp_path / "child"
        wait_until(child.exists)
        assert list(temporary.iterdir()) != []
        build.send_signal(signal.SIGINT)
        _, errors = build.communicate(timeout=60)
    assert build.returncode != 0
    assert b"KeyboardInterrupt" in errors
    assert list(temporary.iterdir()) == []
    wait_until(lambda: not is_running(int(child.read_text())))


INTERRUPTED_AT_ONCE = """
import os, signal, subprocess
from penjing.toolchain import compile_library, find_compiler, host_target

find_compiler(host_target())
start = subprocess.Popen._execute_child

def interrupted(self, *words):
    start(self, *words)
    print(self.pid, flush=True)
    os.kill(os.getpid(), signal.SIGINT)

subprocess.Popen._execute_child = interrupted
compile_library({"a.c": "int a;"}, host_target())
"""


def test_a_build_interrupted_while_its_compiler_starts_ends_the_compiler(hanging, tmp_path):
    build = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT_ONCE], env=hanging, capture_output=True, check=False, timeout=60
    )
    assert build.returncode != 0
    assert b"KeyboardInterrupt" in build.stderr
    assert list((tmp_path / "temporary").iterdir()) == []
    wait_until(lambda: not is_running(int(build.stdout)))


def wait_until(condition, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether `pid` lives; one that is dead but not yet collected does not."""
    if shutil.which("ps") is None:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True).stdout
    return state.strip() != "" and not state.strip().startswith("Z")
