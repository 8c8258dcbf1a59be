"""Every seeded fault in a kernel is caught by the samples of some operator, on this machine alone."""

import importlib.util
from importlib.resources import files
from pathlib import Path

import pytest

from penjing.emit.c.emit import kernel_text
from penjing.testing.op_suite import OpCase, op_cases, run_op_cases

pytestmark = pytest.mark.slow

LEAST = 3


def _mutants() -> dict[str, tuple[tuple[str, str, str], ...]]:
    spec = importlib.util.spec_from_file_location("mutants", Path(__file__).with_name("mutants.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MUTANTS


MUTANTS = _mutants()


@pytest.mark.parametrize("file", MUTANTS)
def test_every_fault_is_caught(file, host, every_case):
    cases = every_case if file == "pj.h" else op_cases(file.removesuffix(".c"))
    text = kernel_text(file)
    survivors = []
    for what, old, new in MUTANTS[file]:
        assert text.count(old) == 1, f"{file}: {what}: the old text occurs {text.count(old)} times:\n{old}"
        if not is_caught(file, text.replace(old, new), cases, host):
            survivors.append(what)
    assert not survivors, f"{file}: no sample catches: {'; '.join(survivors)}"


def is_caught(file: str, text: str, cases: tuple[OpCase, ...], host) -> bool:
    def mutated(name: str) -> str:
        return text if name == file else kernel_text(name)

    # warnings are no matter here, and a fault may run wild
    return bool(run_op_cases(cases, host, ("-w",), optimize="-O1", kernels=mutated, timeout_s=20, locate_crashes=False))


def test_every_kernel_has_seeded_faults(package_kernels):
    assert set(MUTANTS) == set(package_kernels)
    few = [file for file, mutants in MUTANTS.items() if len(mutants) < LEAST]
    assert not few, f"fewer than {LEAST}: {few}"
    names = [(file, mutant[0]) for file, mutants in MUTANTS.items() for mutant in mutants]
    assert len(set(names)) == len(names)


@pytest.fixture
def package_kernels() -> list[str]:
    folder = files("penjing.kernels").joinpath("generic")
    return [entry.name for entry in folder.iterdir() if entry.name.endswith((".c", ".h"))]
