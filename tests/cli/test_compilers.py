"""What the command line says of compilers: that one is missing, before any work, and that one will take its time."""

import sys

import pytest

from penjing import api

BUILD = ("build", "net.py:TinyNet", "--input-shape", "1x8x8", "--calibrate", "samples.npy", "-o", "a.tray")
DEMO = ("demo", "--data", "digits", "-o", "d")


@pytest.fixture
def no_work(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("work began before the compiler was looked for")

    monkeypatch.setattr(api, "capture", fail)
    monkeypatch.setattr("penjing.cli.demo.make", fail)


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    monkeypatch.delenv("PENJING_CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ziglang", None)


@pytest.mark.parametrize("command", [BUILD, DEMO], ids=["build", "demo"])
def test_without_a_compiler_it_says_which_to_install(refused, place, no_work, no_compiler, command):
    told = refused(*command, error="MissingCompiler").err
    assert "cc, gcc, clang on PATH, the Python package ziglang" in told
    assert "pip install 'penjing[compress]'" in told


@pytest.mark.parametrize("command", [BUILD, DEMO], ids=["build", "demo"])
def test_a_chosen_compiler_that_is_not_there_is_not_replaced_by_another(refused, place, no_work, monkeypatch, command):
    monkeypatch.setenv("PENJING_CC", "/nonexistent")
    assert "PENJING_CC=/nonexistent" in refused(*command, error="MissingCompiler").err


def test_a_compiler_that_refuses_leaves_nothing(refused, place, tmp_path, monkeypatch):
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *--version*) echo cc 1;; *) echo "error: no" >&2; exit 1;; esac\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("PENJING_CC", str(compiler))
    assert "error: no" in refused(*BUILD, error="CompileError").err


def test_running_needs_no_compiler(penjing, place, no_compiler):
    assert penjing("run", "edgecnn.tray", "digit.png").code == 0


def test_that_zig_builds_a_c_library_first_is_said_before(penjing, place, tmp_path, monkeypatch):
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    told = penjing("build", "net.py:TinyNet", "--target", "riscv64-linux")  # without samples: no work follows
    assert told.err.splitlines()[0].startswith("note: the first build for riscv64-linux by zig builds its C library")
