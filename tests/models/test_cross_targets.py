"""EdgeCNN and ResNet-20 on other processors, under emulation: the same bytes as the interpreter, on every one."""

import numpy as np
import pytest

from penjing.testing.model_suite import corner_samples, run_model_suite

TARGETS = ("aarch64-linux", "armv7-linux", "riscv64-linux", "wasm32")
SAMPLES = {"edgecnn": 30, "resnet20": 4}


@pytest.mark.slow
@pytest.mark.parametrize("standalone", [False, True], ids=["weights-handed-over", "standalone"])
@pytest.mark.parametrize("name", sorted(SAMPLES))
@pytest.mark.parametrize("target", TARGETS)
def test_the_same_bytes_on_another_processor(target, name, standalone, zoo_program, runnable):
    program = zoo_program(name)
    samples = corner_samples(program, np.random.default_rng(1), SAMPLES[name])
    report = run_model_suite(program, samples, runnable(target), standalone=standalone)
    assert not report.problems, "\n".join(report.problems)
    assert report.samples >= SAMPLES[name]
