"""Generated code runs clean under the address and undefined-behaviour sanitizers, and they would see a fault."""

import pytest

from penjing.emit.c.kernels import kernel_text
from penjing.testing.isas import native_isas
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.op_suite import run_op_cases, run_op_suite
from penjing.toolchain import host_target

NATIVE = native_isas(host_target())  # sanitizers do not run under emulation


def test_every_kernel_is_clean_on_every_sample(every_case, host, sanitize):
    problems = run_op_cases(every_case, host, sanitize, optimize="-O0")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("isa", NATIVE)
def test_every_kernel_is_clean_on(isa, every_simd_case, host, sanitize):
    problems = run_op_cases(every_simd_case, host, sanitize, optimize="-O0", isa=isa)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("standalone", [False, True])
def test_edge_cnn_is_clean(standalone, edge_program, host, sanitize, rng):
    samples = corner_samples(edge_program, rng, 4)
    report = run_model_suite(edge_program, samples, host, sanitize, optimize="-O0", standalone=standalone)
    assert not report.problems, "\n".join(report.problems)


def test_a_program_of_every_operator_is_clean(every_operator_program, host, sanitize, rng):
    samples = corner_samples(every_operator_program, rng, 2)
    report = run_model_suite(every_operator_program, samples, host, sanitize, optimize="-O0")
    assert not report.problems, "\n".join(report.problems)


RACES = ("-fsanitize=thread",)


@pytest.mark.parametrize("isa", NATIVE[:1])
@pytest.mark.parametrize("standalone", [False, True])
def test_threads_of_one_call_race_for_nothing(isa, standalone, edge_program, host, rng, sanitize):
    samples = corner_samples(edge_program, rng, 2)
    report = run_model_suite(
        edge_program, samples, host, RACES, optimize="-O1", standalone=standalone, isas=(isa,), threads=2
    )
    assert not report.problems, "\n".join(report.problems)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("volatile uint8_t beside = x[i + 1]", "heap-buffer-overflow"),
        ("volatile uint8_t beside = x[i - 1]", "heap-buffer-overflow"),
        ("y[i + 1] = 0", "heap-buffer-overflow"),
        ("volatile int32_t most = INT32_MAX; most += row", "signed integer overflow"),
        ("volatile float none = 0; none = 1 / none", "division by zero"),
        ("volatile float large = 3e9f; volatile int32_t cut = (int32_t)large; PJ_UNUSED(cut)", "outside the range"),
    ],
)
def test_a_fault_that_changes_no_byte_is_seen(fault, complaint, host, sanitize):
    def broken(name: str) -> str:
        return kernel_text(name).replace("y[i] = table", f"{fault}; y[i] = table")

    flags = (*sanitize, "-Wno-unused-variable")
    problems = run_op_suite("q_table", host, flags, kernels=broken, optimize="-O0")
    assert problems
    assert complaint in problems[0]


# (instruction set, what its header says, the same beside the block)
BESIDE = (
    ("x86_avx512vnni", "return _mm512_loadu_si512(w);", "return _mm512_loadu_si512(w + 1);"),
    ("x86_avx512vnni", "_mm512_loadu_ps(multiplier)", "_mm512_loadu_ps(multiplier + 1)"),
    ("x86_avx2", "(_mm_loadu_si128(from + 3))", "(_mm_loadu_si128(from + 4))"),
    ("x86_avx2", "_mm256_loadu_ps(multiplier + 8)", "_mm256_loadu_ps(multiplier + 9)"),
    ("scalar", "(float)acc[j] * multiplier[j]", "(float)acc[j] * multiplier[j + 1]"),
)


@pytest.mark.parametrize(("isa", "word", "beside"), [case for case in BESIDE if case[0] in NATIVE])
def test_a_vector_that_lies_beside_its_block_is_seen(isa, word, beside, host, sanitize):
    assert word in kernel_text(f"isa/{isa}.h")

    def broken(name: str) -> str:
        return kernel_text(name).replace(word, beside)

    problems = run_op_suite("v_conv2d", host, sanitize, kernels=broken, optimize="-O0", isa=isa)
    assert problems
    assert "ERROR: AddressSanitizer" in problems[0]
