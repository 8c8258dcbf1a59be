"""The C that turns reals into codes and back equals the definition in `core/arithmetic.py`, to the last bit.

Infinities and quotients that overflow saturate. NaN, which Python refuses before it gets there, becomes the zero point.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from penjing.core.arithmetic import dequantize, quantize
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
    float scale;
};

int main(void)
{
    struct job j;
    while (take(&j, sizeof j)) {
        const size_t n = (size_t)j.n, off = (size_t)j.off;
        float *x = block((n + off) * sizeof *x), *back = block((n + off) * sizeof *x);
        uint8_t *codes = block(n + off);
        if (!take(x + off, n * sizeof *x))
            return 4;
        pj_quantize(codes + off, x + off, j.n, j.scale, j.zero);
        pj_dequantize(back + off, codes + off, j.n, j.scale, j.zero);
        if (fwrite(codes + off, 1, n, stdout) != n || fwrite(back + off, sizeof *x, n, stdout) != n)
            return 5;
        free(x), free(back), free(codes);
    }
    return 0;
}
"""


@dataclass(frozen=True)
class Job:
    """Reals to be quantized, `off` elements from the start of their block."""

    reals: np.ndarray
    off: int
    zero: int
    scale: np.float32

    @property
    def data(self) -> bytes:
        head = np.array([self.reals.size, self.off, self.zero], np.int32).tobytes()
        return head + np.array(self.scale, np.float32).tobytes() + self.reals.tobytes()

    @property
    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.where(np.isnan(self.reals), np.float32(0), self.reals)
        with np.errstate(over="ignore"):
            codes = quantize(numbers, self.scale, self.zero)
        return codes, dequantize(codes, self.scale, self.zero)


def special_reals(scale: np.float32) -> np.ndarray:
    """Ties and what lies beside them, both ends of the codes, and the ends of float32."""
    with np.errstate(over="ignore", under="ignore"):
        steps = (np.arange(-600, 601, dtype=np.float32) / np.float32(2)) * scale
        beside = [np.nextafter(steps, np.float32(end)) for end in (-np.inf, np.inf)]
    ends = [0.0, -0.0, np.inf, -np.inf, LARGEST, -LARGEST, SMALLEST, -SMALLEST, SMALLEST / 2, 1e-45, -1e-45, 1.0]
    nan = np.array([0x7FC00000, 0x7FC00001, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    halves = [2.0**31, -(2.0**31), 2.0**22 + 0.5, 2.0**23 - 0.5, 2.0**33]
    return np.concatenate([steps, *beside, np.array([*ends, *halves], np.float32), nan])


def jobs() -> list[Job]:
    rng = np.random.default_rng(72)
    scales = [np.float32(s) for s in (1.0, 0.5, 0.1, 1 / 3, 0.0123, 255.0, 1e-30, 1e30, SMALLEST, 3 * SMALLEST)]
    made = [
        Job(special_reals(scale), i % 2, zero, scale)
        for i, scale in enumerate(scales)
        for zero in (0, 1, 77, 128, 254, 255)
    ]
    for n in range(71):
        reals = (rng.normal(size=n) * 3).astype(np.float32)
        made += [Job(reals, off, 120, np.float32(0.0317)) for off in (0, 1, 3)]
    return [*made, Job((rng.normal(size=10_000) * 40).astype(np.float32), 1, 113, np.float32(0.3))]


def source(isa: str | None, kernels: Callable[[str], str] = kernel_text) -> str:
    reals = "simd/pj_reals.h" if isa else "pj_reals.h"
    return "\n".join([*map(kernels, [*opening_files(isa=isa), reals]), CLOSING, MAIN])


def differing(text: str, target: Target, extra: Sequence[str] = (), optimize: str = "-O3") -> list[str]:
    """The jobs whose codes or reals differ from the definition's in any bit."""
    todo = jobs()
    program = compile_executable({"reals.c": text}, target, extra=extra, optimize=optimize)
    written = run_executable(program, target, stdin=b"".join(job.data for job in todo))
    problems, at = [], 0
    for job in todo:
        for want, what in zip(job.expected, ("codes", "reals"), strict=True):
            got = np.frombuffer(written[at : at + want.nbytes], want.dtype)
            at += want.nbytes
            if got.tobytes() != want.tobytes():
                i = int(np.flatnonzero(got.view(np.uint8) != want.view(np.uint8))[0]) // want.itemsize
                where = f"{what} of {job.reals[i]!r}: {got[i]!r}, want {want[i]!r}"
                problems.append(f"scale {job.scale!r}, zero {job.zero}, n {want.size}, off {job.off}: {where}")
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


PLAIN_FAULTS = (
    ("multiplied by a rounded inverse", "x[i] / scale", "x[i] * (1.0f / scale)"),
    ("NaN is kept", "steps == steps ? steps : 0.0f", "steps"),
    ("the range is one short", "(float)(255 - zero)", "(float)(254 - zero)"),
    ("the lower end is 0", "low = (float)-zero", "low = 0"),
    ("the zero point is ignored on the way back", "(float)(codes[i] - zero)", "(float)codes[i]"),
    ("the product is not rounded once", "(codes[i] - zero) * scale", "codes[i] * scale - (float)zero * scale"),
)  # fmt: skip

SIMD_FAULTS = (
    ("multiplied by a rounded inverse", "pj_div_f(pj_load_f(x + 16 * j), pj_set_f(scale))",
     "pj_mul_f(pj_load_f(x + 16 * j), pj_div_f(pj_set_f(1.0f), pj_set_f(scale)))"),
    ("NaN saturates", "pj_number_f(", "("),
    ("no clamp in float", "pj_clamp_f(steps, (float)-zero, (float)(255 - zero))", "steps"),
    ("vectors are one", "pj_load_f(x + 16 * j)", "pj_load_f(x)"),
    ("a tail is dropped", "if (n > 0) {\n        memcpy(last", "if (n > 1) {\n        memcpy(last"),
    ("a tail is one short", "memcpy(codes, bytes, (size_t)n)", "memcpy(codes, bytes, (size_t)n - 1)"),
    ("the zero point is ignored on the way back", "(float)(codes[i] - zero)", "(float)codes[i]"),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "faults", "isas"), [("pj_reals.h", PLAIN_FAULTS, FORMS[:1]), ("simd/pj_reals.h", SIMD_FAULTS, FORMS[1:])]
)
def test_every_seeded_fault_is_caught(file, faults, isas):
    survivors = []
    for what, old, new in faults:
        assert kernel_text(file).count(old) == 1, f"{what}: the old text does not occur once"

        def mutated(name: str, old: str = old, new: str = new) -> str:
            return kernel_text(name).replace(old, new) if name == file else kernel_text(name)

        if not any(differing(source(isa, mutated), HOST, ("-w",), "-O1") for isa in isas):
            survivors.append(what)
    assert not isas or not survivors, "; ".join(survivors)
