"""Which compiler is chosen, what it says about itself, and what happens when there is none."""

import shutil
import sys

import pytest

from penjing.core.errors import MissingCompiler
from penjing.toolchain import TARGETS, find_compiler, find_target, host_target, is_first_use

NAMES = [target.name for target in TARGETS]


@pytest.fixture
def no_zig(monkeypatch):
    monkeypatch.setitem(sys.modules, "ziglang", None)


@pytest.fixture
def no_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
    monkeypatch.delenv("PENJING_CC", raising=False)


def program(folder, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_first_compiler_on_the_path_serves_the_host(no_path, tmp_path):
    program(tmp_path, "clang", "echo clang version 99")
    program(tmp_path, "gcc", "echo gcc 12.9")
    compiler = find_compiler(host_target())
    assert compiler.command == (str(tmp_path / "gcc"),)
    assert (compiler.family, compiler.version(), compiler.identity) == ("gcc", "gcc 12.9", "gcc 12.9")


def test_a_compiler_that_does_not_run_is_passed_over(no_path, tmp_path):
    program(tmp_path, "cc", "echo please install the developer tools >&2; exit 1")
    program(tmp_path, "clang", "echo Apple clang version 15")
    assert find_compiler(host_target()).family == "clang"


def test_the_named_compiler_wins_and_may_have_options(monkeypatch, tmp_path):
    named = program(tmp_path, "my cc", 'echo "mine 1.0 $1"')
    monkeypatch.setenv("PENJING_CC", f"'{named}' --wrapped")
    compiler = find_compiler(host_target())
    assert compiler.command == (named, "--wrapped")
    assert compiler.version() == "mine 1.0 --wrapped"


@pytest.mark.parametrize("text", ["no-such-compiler", "false", "'unclosed", " "])
def test_a_named_compiler_that_does_not_run_is_an_error_and_no_other_is_taken(monkeypatch, text):
    monkeypatch.setenv("PENJING_CC", text)
    with pytest.raises(MissingCompiler) as caught:
        find_compiler(host_target())
    assert caught.value.where == f"PENJING_CC={text}"


def test_zig_serves_the_host_where_nothing_else_does(buildable, no_path):
    pytest.importorskip("ziglang")
    compiler = find_compiler(host_target())
    assert compiler.family == "zig"
    assert "-target" in compiler.target_flags("library")


def test_a_named_zig_is_known_as_zig(monkeypatch):
    pytest.importorskip("ziglang")
    monkeypatch.setenv("PENJING_CC", f"'{sys.executable}' -m ziglang cc")
    compiler = find_compiler(host_target())
    assert compiler.family == "zig"
    assert compiler.target_flags("library")[:2] == ("-target", host_target().library_triple)


@pytest.mark.parametrize("name", NAMES)
def test_without_any_compiler_the_error_says_what_to_install(name, no_zig, no_path):
    with pytest.raises(MissingCompiler, match=name) as caught:
        find_compiler(find_target(name))
    assert caught.value.hint is not None
    assert "pip install 'penjing[compress]'" in caught.value.hint
    assert "ziglang" in str(caught.value.where)


@pytest.mark.parametrize("name", [name for name in NAMES if name != host_target().name])
def test_another_machine_is_served_by_zig_whatever_the_host_uses(name, buildable, monkeypatch):
    monkeypatch.setenv("PENJING_CC", "no-such-compiler")
    compiler = find_compiler(buildable(name))
    assert compiler.family == "zig"
    assert compiler.identity.startswith("zig ")
    assert compiler.identity.endswith(compiler.target.library_triple)


@pytest.mark.parametrize("name", ["host", "wasm32"])
def test_the_identity_is_one_line_without_a_path(name, buildable):
    identity = find_compiler(buildable(name)).identity
    assert identity and "\n" not in identity
    assert "/" not in identity
    assert any(letter.isdigit() for letter in identity)


def test_first_use_is_told_before_a_cache_is_filled(buildable, monkeypatch, tmp_path, no_path):
    target = buildable("wasm32")
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    assert is_first_use(target)


def test_a_system_compiler_has_no_first_use(require):
    require("cc")
    assert shutil.which("cc")
    assert not is_first_use(host_target())
