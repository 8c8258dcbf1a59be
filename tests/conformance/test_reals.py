"""The C that turns reals into codes and back equals the definition in `core/arithmetic.py`, to the last bit.

Infinities and quotients that overflow saturate. NaN, which Python refuses before it gets there, becomes the zero point.
Where SIMD kernels multiply by an inverse, a wrong code could only come from floats beside the ties between two codes,
so every scale is tried on those.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from penjing.core.arithmetic import dequantize, quantize
from penjing.core.reciprocal import two_part_inverse
from penjing.emit.c.kernels import CLOSING, kernel_text, opening_files
from penjing.testing.isas import native_isas
from penjing.toolchain import TARGETS, Target, compile_executable, host_target, run_executable

HOST = host_target()
FORMS: list[str | None] = [None, *native_isas(HOST)]
LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).tiny)

# Every array lies in a block of its own size, with codes `off` bytes and reals `off` floats from the block's start.
MAIN = r"""
#include <stdio.h>
#include <stdlib.h>

static void *block(size_t bytes)
{
    void *made = malloc(bytes ? bytes : 1);
    if (!made)
        exit(3);
    memset(made, 0xA5, bytes);
    return made;
}

static int take(void *to, size_t bytes)
{
    return fread(to, 1, bytes, stdin) == bytes;
}

struct job {
    int32_t n, off, zero;
    float scale, inverse, rest;
};

int main(void)
{
    struct job j;
    while (take(&j, sizeof j)) {
        const size_t n = (size_t)j.n, off = (size_t)j.off;
        float *x = block((n + off) * sizeof *x), *back = block((n + off) * sizeof *x);
        uint8_t *codes = block(n + off), *pixels = block(n / 3 * 3 + off);
        const struct pj_real q = REAL;
        if (!take(x + off, n * sizeof *x))
            return 4;
        pj_quantize(codes + off, x + off, j.n, &q);
        pj_quantize_3(pixels + off, x + off, j.n / 3, &q);
        pj_dequantize(back + off, codes + off, j.n, &q);
        if (fwrite(codes + off, 1, n, stdout) != n || fwrite(pixels + off, 1, n / 3 * 3, stdout) != n / 3 * 3 ||
            fwrite(back + off, sizeof *x, n, stdout) != n)
            return 5;
        free(x), free(back), free(codes), free(pixels);
    }
    return 0;
}
"""


@dataclass(frozen=True)
class Job:
    """Reals to be quantized, `off` elements from the start of their block; `divides`: without an inverse."""

    reals: np.ndarray
    off: int
    zero: int
    scale: np.float32
    divides: bool = False

    @property
    def data(self) -> bytes:
        head = np.array([self.reals.size, self.off, self.zero], np.int32).tobytes()
        parts = None if self.divides else two_part_inverse(self.scale)
        return head + np.array([self.scale, *(parts or (0, 0))], np.float32).tobytes() + self.reals.tobytes()

    @property
    def expected(self) -> dict[str, np.ndarray]:
        numbers = np.where(np.isnan(self.reals), np.float32(0), self.reals)
        with np.errstate(over="ignore"):
            codes = quantize(numbers, self.scale, self.zero)
            back = dequantize(codes, self.scale, self.zero)
        pixels = np.ascontiguousarray(codes[: codes.size // 3 * 3].reshape(3, -1).T).reshape(-1)
        return {"codes": codes, "pixels": pixels, "reals": back}


def special_reals(scale: np.float32) -> np.ndarray:
    """Ties and what lies beside them, both ends of the codes, and the ends of float32."""
    with np.errstate(over="ignore", under="ignore"):
        steps = (np.arange(-600, 601, dtype=np.float32) / np.float32(2)) * scale
    ends = [0.0, -0.0, np.inf, -np.inf, LARGEST, -LARGEST, SMALLEST, -SMALLEST, SMALLEST / 2, 1e-45, -1e-45, 1.0]
    nan = np.array([0x7FC00000, 0x7FC00001, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    halves = [2.0**31, -(2.0**31), 2.0**22 + 0.5, 2.0**23 - 0.5, 2.0**33]
    return np.concatenate([*beside(steps, 3), np.array([*ends, *halves], np.float32), nan])


def beside(values: np.ndarray, most: int) -> list[np.ndarray]:
    """The values and their neighbours, up to `most` floats away on both sides."""
    found = [values]
    for end in (-np.inf, np.inf):
        near = values
        for _ in range(most):
            with np.errstate(over="ignore"):
                near = np.nextafter(near, np.float32(end))
            found.append(near)
    return found


def many_scales(rng: np.random.Generator) -> np.ndarray:
    """Scales of all sizes: any mantissa, mantissas of few bits, and those beside powers of two."""
    anything = np.exp2(rng.uniform(-120, 90, 100)).astype(np.float32)
    usual = np.exp(rng.uniform(-8, 2, 150)).astype(np.float32)
    powers = np.exp2(np.arange(-12.0, 4.0)).astype(np.float32)
    few_bits = (rng.integers(1, 512, 40) * np.exp2(rng.integers(-20, 0, 40))).astype(np.float32)
    return np.concatenate([anything, usual, few_bits, *beside(powers, 2)])


def jobs() -> list[Job]:
    rng = np.random.default_rng(72)
    scales = [np.float32(s) for s in (1.0, 0.5, 0.1, 1 / 3, 0.0123, 255.0, 1e-30, 1e30, SMALLEST, 3 * SMALLEST)]
    scales += [np.float32(s) for s in (2.0**-149 * (2**23 + 1), 1.1 * 2.0**105, 2.0**118, 2.0**119, LARGEST)]
    made = [
        Job(special_reals(scale), i % 2, zero, scale)
        for i, scale in enumerate(scales)
        for zero in (0, 1, 77, 128, 254, 255)
    ]
    made += [Job(special_reals(scale), 0, 99, scale, divides=True) for scale in scales]
    for scale in many_scales(rng):
        zero = int(rng.integers(0, 256))
        ties = ((np.arange(-256, 256) + 0.5) * float(scale)).astype(np.float32)
        made.append(Job(np.concatenate(beside(ties, 4)), 0, zero, scale))
    for scale in (np.float32(0.0317), np.float32(3e-5)):
        bits = rng.integers(0, 2**32, 50_000, dtype=np.uint32).view(np.float32)
        made.append(Job(bits, 0, 100, scale))
    for n in (*range(140), *range(186, 200), 383, 384, 385, 1535, 1536, 1537, 1539, 1727, 3072, 3075, 3 * 1100 + 2):
        reals = (rng.normal(size=n) * 3).astype(np.float32)
        made += [Job(reals, off, 120, np.float32(0.0317)) for off in (0, 1, 3)]
    return [*made, Job((rng.normal(size=10_000) * 40).astype(np.float32), 1, 113, np.float32(0.3))]


def source(isa: str | None, kernels: Callable[[str], str] = kernel_text) -> str:
    reals = "simd/pj_reals.h" if isa else "pj_reals.h"
    fields = "{j.scale, j.inverse, j.rest, j.zero}" if isa else "{j.scale, j.zero}"
    files = map(kernels, [*opening_files(isa=isa), reals])
    return "\n".join([*files, CLOSING, f"#define REAL {fields}", MAIN])


def differing(text: str, target: Target, extra: Sequence[str] = (), optimize: str = "-O3") -> list[str]:
    """The jobs whose codes or reals differ from the definition's in any bit."""
    todo = jobs()
    program = compile_executable({"reals.c": text}, target, extra=extra, optimize=optimize)
    written = run_executable(program, target, stdin=b"".join(job.data for job in todo))
    problems, at = [], 0
    for job in todo:
        for what, want in job.expected.items():
            got = np.frombuffer(written[at : at + want.nbytes], want.dtype)
            at += want.nbytes
            if got.tobytes() != want.tobytes():
                i = int(np.flatnonzero(got.view(np.uint8) != want.view(np.uint8))[0]) // want.itemsize
                where = f"{what}[{i}]: {got[i]!r}, want {want[i]!r}"
                problems.append(f"scale {job.scale!r}, zero {job.zero}, n {job.reals.size}, off {job.off}: {where}")
    assert at == len(written)
    return problems


@pytest.mark.parametrize("isa", FORMS)
def test_reals_become_the_codes_of_the_definition_and_come_back(isa):
    problems = differing(source(isa), HOST)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("isa", FORMS)
def test_no_element_beside_the_arrays_is_touched(isa, sanitize):
    problems = differing(source(isa), HOST, sanitize, "-O1")
    assert not problems, "\n".join(problems)


@pytest.mark.slow  # a first build for a target builds its C library as well
@pytest.mark.parametrize("name", [target.name for target in TARGETS if target.emulator and target != HOST])
def test_reals_become_the_same_codes_on(name, runnable):
    problems = differing(source(None), runnable(name))
    assert not problems, "\n".join(problems)


@pytest.mark.filterwarnings("ignore:invalid value")  # numpy converts NaN to some integer, and says so
def test_nan_becomes_the_zero_point_in_python_as_well():
    assert quantize(np.array([np.nan], np.float32), np.float32(0.1), 77).tolist() == [77]


def mutants() -> dict[str, tuple[tuple[str, str, str], ...]]:
    path = Path(__file__).parent / "mutants_reals.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MUTANTS


MUTANTS = mutants()


@pytest.mark.slow
@pytest.mark.parametrize("file", MUTANTS)
def test_every_seeded_fault_is_caught(file):
    simd = [isa for isa in FORMS[1:] if file in (f"isa/{isa}.h", "simd/pj_reals.h")]
    isas = simd if "/" in file else [None]
    survivors = []
    for what, old, new in MUTANTS[file]:
        assert kernel_text(file).count(old) == 1, f"{what}: the old text does not occur once"

        def mutated(name: str, old: str = old, new: str = new) -> str:
            return kernel_text(name).replace(old, new) if name == file else kernel_text(name)

        if not any(differing(source(isa, mutated), HOST, ("-w",), "-O1") for isa in isas):
            survivors.append(what)
    assert not isas or not survivors, "; ".join(survivors)
