"""Every kernel, compiled for this machine, equals its operator's integer reference on every sample, byte for byte."""

import pytest

from penjing.emit.c.kernels import kernel_text
from penjing.ops import integer_operators
from penjing.testing.isas import runnable_isas
from penjing.testing.op_suite import op_cases, run_op_cases, run_op_suite
from penjing.toolchain import host_target

ISAS = runnable_isas(host_target())


@pytest.mark.parametrize("name", integer_operators())
def test_the_kernel_equals_the_definition(name, host):
    problems = run_op_suite(name, host)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("optimize", ["-O0", "-O2"])
def test_every_kernel_equals_the_definition_on(isa, optimize, every_simd_case, host):
    problems = run_op_cases(every_simd_case, host, isa=isa, optimize=optimize)
    assert not problems, "\n".join(problems)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_another_compiler_gives_the_same_bytes_on(isa, every_simd_case, host, zig):
    problems = run_op_cases(every_simd_case, host, isa=isa, optimize="-O2", compiler=zig)
    assert not problems, "\n".join(problems)


@pytest.mark.slow  # a first build by zig builds the C library as well
def test_another_compiler_gives_the_same_bytes(every_case, host, zig):
    problems = run_op_cases(every_case, host, compiler=zig)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("optimize", ["-O0", "-O2", "-Os"])
def test_no_optimisation_changes_a_byte(optimize, every_case, host):
    problems = run_op_cases(every_case, host, optimize=optimize)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("isa", ISAS)
def test_a_fault_of_a_vector_is_reported_with_its_instruction_set(isa, host):
    def broken(name: str) -> str:
        return kernel_text(name).replace("f.codes.zero = p->y_zero", "f.codes.zero = p->y_zero - 1")

    problem = run_op_suite("v_conv2d", host, kernels=broken, isa=isa, optimize="-O1")[0]
    assert problem.splitlines()[-1].endswith(f"--sample 0 --isa {isa}")


def test_a_wrong_kernel_is_reported_with_all_that_is_needed_to_repeat_it(host):
    def broken(name: str) -> str:
        return kernel_text(name).replace("y[i] = table", "y[i] = (uint8_t)(i == 2) + table")

    problem = run_op_suite("q_table", host, kernels=broken, optimize="-O1")[0]
    case = op_cases("q_table")[2]
    want = case.expected[0]
    assert problem.startswith(f"q_table sample 2: {case.op} on u8[1, 3], u8[256]")
    got = (int(want[0, 2]) + 1) % 256
    assert f"output 0 differs in 1 of 3, first at [0, 2]: got {got}, want {want[0, 2]}" in problem
    assert "python -m penjing.testing.op_suite q_table --target" in problem
    assert "--sample 2" in problem


def test_a_kernel_that_ends_the_program_is_reported_with_its_sample(host):
    def broken(name: str) -> str:
        return kernel_text(name).replace("PJ_UNUSED(scratch);", "if (p->channels == 3) __builtin_trap();")

    problems = run_op_suite("q_table", host, ("-Wno-unused-parameter",), kernels=broken)
    assert len(problems) == 1
    assert "u8[2, 130, 3]" in problems[0]
    assert "ended by signal" in problems[0]


def test_a_kernel_that_changes_its_input_is_caught(host):
    def broken(name: str) -> str:
        return kernel_text(name).replace("PJ_UNUSED(scratch);", "PJ_UNUSED(scratch); ((uint8_t *)in[0])[0] ^= 1;")

    problems = run_op_suite("q_table", host, kernels=broken)
    assert any("an input was changed" in problem for problem in problems)
