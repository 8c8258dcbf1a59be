"""A library for several instruction sets takes the best that the processor has, and refuses what it lacks."""

import ctypes
import subprocess

import pytest

from penjing import api, assembly
from penjing.emit.c.emit import Emitted
from penjing.testing.isas import isa_number, native_isas
from penjing.testing.networks import Network, batches
from penjing.toolchain import compile_executable, compile_library, find_target, host_target
from penjing.vector.prepare import prepare

X86 = find_target("x86_64-linux")
NATIVE = native_isas(host_target())
BEST = [isa_number(X86, NATIVE[0])] if NATIVE else []  # no case on another machine
ERROR_ISA = -4

# Says which form it takes by itself, and what it answers to each number.
MAIN = """
#include <stdio.h>
#include "penjing_choice.h"
int main(void)
{
    int isa;
    printf("%d", penjing_choice_isa());
    for (isa = -1; isa < 4; isa++)
        printf(" %d", penjing_choice_use(isa));
    return 0;
}
"""


@pytest.fixture(scope="module")
def emitted() -> Emitted:
    net = Network("choice")
    graph = net.done(net.conv(net.input(3, 6, 5), 8, out="y"))
    program = api.lower(api.quantize(graph, batches(graph, 4)))
    return assembly.emit(prepare(program, X86), standalone=False)


@pytest.fixture
def library(emitted, tmp_path) -> ctypes.CDLL:
    path = tmp_path / "choice.so"
    path.write_bytes(compile_library(emitted.sources, X86, optimize="-O1"))
    return ctypes.CDLL(str(path))


@pytest.mark.parametrize("best", BEST)
def test_the_best_that_this_processor_has_is_taken(best, library):
    assert library.penjing_choice_isa() == best


@pytest.mark.parametrize("best", BEST)
def test_any_that_this_processor_has_can_be_asked_for(best, library):
    for number in (*range(best + 1), 0, best):
        assert library.penjing_choice_use(number) == 0
        assert library.penjing_choice_isa() == number


@pytest.mark.parametrize("best", BEST)
def test_a_number_out_of_range_is_refused_and_changes_nothing(best, library):
    for chosen in (best, 0):
        assert library.penjing_choice_use(chosen) == 0
        for number in (-1, best + 1, len(X86.isas), 1 << 20, 2**31 - 1, -(2**31)):
            assert library.penjing_choice_use(number) == ERROR_ISA
            assert library.penjing_choice_isa() == chosen


def test_the_header_names_what_can_be_asked_for(emitted):
    header = emitted.sources["penjing_choice.h"]
    assert f"PENJING_CHOICE_ERROR_ISA = {ERROR_ISA}," in header
    for isa in X86.isas:
        assert f"PENJING_CHOICE_ISA_{isa.upper()} = {isa_number(X86, isa)}" in header


@pytest.mark.parametrize(("cpu", "best"), [("Nehalem", "scalar"), ("Haswell", "x86_avx2")])
def test_a_processor_that_has_less_takes_what_it_has(cpu, best, emitted, require, tmp_path):
    qemu = require("qemu-x86_64")
    program = tmp_path / "choice"
    program.write_bytes(compile_executable({**emitted.sources, "main.c": MAIN}, X86, optimize="-O1"))
    program.chmod(0o700)
    said = subprocess.run([str(qemu), "-cpu", cpu, str(program)], capture_output=True, text=True, check=True).stdout
    number = isa_number(X86, best)
    answers = [0 if 0 <= isa <= number else ERROR_ISA for isa in range(-1, 4)]
    assert [int(word) for word in said.split()] == [number, *answers]
