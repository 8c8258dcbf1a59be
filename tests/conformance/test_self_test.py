"""A build that computes otherwise says so itself: the compiler refuses, or the self-test fails."""

import platform
import subprocess
from pathlib import Path

import pytest

from penjing import api
from penjing.core.errors import CompileError
from penjing.emit.c.kernels import kernel_text
from penjing.ir.graph import Graph
from penjing.ops.add import Add
from penjing.testing.isas import native_isas
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.networks import Network, batches
from penjing.toolchain import Target, compile_executable, host_target

FUSED = ("-ffp-contract=fast",)


def flags_that_fuse() -> list[str] | None:
    """What makes this machine's compiler use its fused multiply-add; None on a machine that has none."""
    if platform.machine().lower() in {"aarch64", "arm64"}:
        return []
    info = Path("/proc/cpuinfo")
    return ["-mfma"] if info.is_file() and " fma " in info.read_text() else None


# an Arm build under emulation serves where this machine cannot fuse
PLACES = ["aarch64-linux", *(["host"] if flags_that_fuse() is not None else [])]


@pytest.fixture(params=PLACES)
def place(request, runnable) -> tuple[Target, tuple[str, ...]]:
    """A target that can fuse, and the options for that."""
    target = runnable(request.param)
    return target, tuple(flags_that_fuse() or ()) if target == host_target() else ()


def residual_program() -> Graph:
    """A program that adds two products of floats: what a compiler may fuse."""
    net = Network("residual")
    x = net.input(3, 6, 5)
    inner = net.conv(net.conv(x, 8, out="conv1"), 3, out="conv2")
    graph = net.done(net.node(Add(), inner, x, out="sum"))
    return api.lower(api.quantize(graph, batches(graph, 16)))


@pytest.mark.parametrize("optimize", ["-O2", "-O3"])
def test_a_build_that_fuses_multiplication_and_addition_fails_its_self_test(optimize, place, rng):
    target, flags = place
    program = residual_program()
    samples = corner_samples(program, rng, 0)
    report = run_model_suite(program, samples, target, (*flags, *FUSED), optimize=optimize)
    assert "the self-test failed" in report.problems[0]


def test_a_build_that_might_fuse_either_fails_its_self_test_or_gives_the_same_bytes(place, rng):
    target, flags = place
    program = residual_program()
    samples = corner_samples(program, rng, 20)
    report = run_model_suite(program, samples, target, (*flags, *FUSED), optimize="-O1")  # gcc fuses from -O2 on
    assert not report.problems or "the self-test failed" in report.problems[0]


@pytest.mark.parametrize("isa", [isa for isa in native_isas(host_target()) if isa == "x86_avx512vnni"])
@pytest.mark.parametrize("optimize", ["-O2", "-O3"])
def test_a_form_that_fuses_while_the_rest_of_the_library_cannot_fails_its_self_test(isa, optimize, host, rng):
    program = residual_program()
    report = run_model_suite(program, corner_samples(program, rng, 0), host, FUSED, optimize=optimize, isas=(isa,))
    assert "the self-test failed" in report.problems[0]


def test_the_same_build_without_fusing_passes(place, rng):
    target, flags = place
    program = residual_program()
    report = run_model_suite(program, corner_samples(program, rng, 20), target, flags, optimize="-O2")
    assert not report.problems, "\n".join(report.problems)


def refused(source: str, host: Target, *flags: str) -> str:
    with pytest.raises(CompileError) as caught:
        compile_executable({"main.c": source}, host, extra=flags)
    return caught.value.what


@pytest.fixture
def header() -> str:
    """The part that every generated file begins with, as a program."""
    return kernel_text("pj.h") + "\nint main(void) { return 0; }\n"


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast"])
def test_a_build_with_fast_math_is_refused(flag, header, host):
    assert "do not build with -ffast-math" in refused(header, host, flag)


def test_another_compiler_with_fast_math_is_refused(header, host, zig):
    with pytest.raises(CompileError, match="do not build with -ffast-math"):
        compile_executable({"main.c": header}, host, extra=("-ffast-math",), compiler=zig)


@pytest.mark.parametrize("cpu", ["i486", "pentium"])
def test_a_build_that_keeps_floats_in_wide_registers_is_refused(cpu, header, zig, tmp_path):
    (tmp_path / "main.c").write_text(header)
    words = (*zig.command, "-target", "x86-linux-musl", f"-mcpu={cpu}", "-std=c99", "-c", "main.c", "-o", "main.o")
    found = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode != 0
    assert "-msse2 -mfpmath=sse" in found.stderr


def test_a_build_for_the_same_processor_with_its_vector_unit_is_not(header, zig, tmp_path):
    (tmp_path / "main.c").write_text(header)
    words = (*zig.command, "-target", "x86-linux-musl", "-mcpu=pentium4", "-std=c99", "-c", "main.c", "-o", "main.o")
    found = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
