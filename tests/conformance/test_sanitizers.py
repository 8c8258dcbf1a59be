"""Generated code runs clean under the address and undefined-behaviour sanitizers, and they would see a fault."""

import pytest

from penjing.emit.c.emit import kernel_text
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.op_suite import run_op_cases, run_op_suite


def test_every_kernel_is_clean_on_every_sample(every_case, host, sanitize):
    problems = run_op_cases(every_case, host, sanitize, optimize="-O1")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("standalone", [False, True])
def test_edge_cnn_is_clean(standalone, edge_program, host, sanitize, rng):
    samples = corner_samples(edge_program, rng, 4)
    report = run_model_suite(edge_program, samples, host, sanitize, optimize="-O1", standalone=standalone)
    assert not report.problems, "\n".join(report.problems)


def test_a_program_of_every_operator_is_clean(every_operator_program, host, sanitize, rng):
    samples = corner_samples(every_operator_program, rng, 2)
    report = run_model_suite(every_operator_program, samples, host, sanitize, optimize="-O1")
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
