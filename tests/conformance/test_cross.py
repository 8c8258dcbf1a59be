"""The same C gives the same bytes on every processor: built here, run under emulation, compared with the definition."""

import pytest

from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.op_suite import run_op_cases
from penjing.toolchain import TARGETS, host_target

# A first build for a target builds its C library as well.
pytestmark = pytest.mark.slow

ELSEWHERE = [target.name for target in TARGETS if target.emulator and target != host_target()]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_every_kernel_equals_the_definition_on(name, every_case, runnable):
    problems = run_op_cases(every_case, runnable(name))
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("standalone", [False, True])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_edge_cnn_equals_the_interpreter_on(name, standalone, edge_program, runnable, rng):
    samples = corner_samples(edge_program, rng, 20)
    report = run_model_suite(edge_program, samples, runnable(name), standalone=standalone)
    assert not report.problems, "\n".join(report.problems)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_program_of_every_operator_equals_the_interpreter_on(name, every_operator_program, runnable, rng):
    samples = corner_samples(every_operator_program, rng, 4)
    report = run_model_suite(every_operator_program, samples, runnable(name))
    assert not report.problems, "\n".join(report.problems)
