"""The same C on every target: built from here, run under emulation, compared with numpy bit for bit."""

import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from penjing.core.errors import CompileError
from penjing.toolchain import (
    TARGETS,
    assembly_for_blob,
    compile_executable,
    compile_library,
    host_target,
    is_first_use,
    run_executable,
)

# A first build for a target builds its C library as well.
pytestmark = pytest.mark.slow

NAMES = [target.name for target in TARGETS]
RUN_HERE = [name for name in NAMES if name != "aarch64-macos"]

# Reads float32 triples (a, b, c); for each writes a * b + c as float32, then its rounding to 0..255 as one byte.
MULTIPLY_ADD = r"""
#include <math.h>
#include <stdio.h>
int main(void)
{
    float in[3];
    while (fread(in, sizeof in, 1, stdin) == 1) {
        const float sum = in[0] * in[1] + in[2];
        const float low = sum < 0.0f ? 0.0f : sum;
        const unsigned char code = (unsigned char)(int)rintf(low > 255.0f ? 255.0f : low);
        if (fwrite(&sum, sizeof sum, 1, stdout) != 1 || fwrite(&code, 1, 1, stdout) != 1) return 1;
    }
    return 0;
}
"""


def triples() -> np.ndarray:
    """Exact ties, saturation ends, subnormals, and sums that a fused multiply-add gives other bits; (n, 3) float32."""
    rng = np.random.default_rng(11)
    halves = np.arange(-8, 520, dtype=np.float32)
    ties = np.stack([halves, np.full_like(halves, 0.5), np.zeros_like(halves)], axis=1)
    spread = (rng.normal(size=(2000, 3)) * 10.0 ** rng.integers(-3, 4, size=(2000, 3))).astype(np.float32)
    cancelled = spread.copy()
    cancelled[:, 2] = -(cancelled[:, 0] * cancelled[:, 1])
    tiny = (rng.normal(size=(500, 3)) * [1e-20, 1e-20, 1e-42]).astype(np.float32)
    huge = np.array([[3e38, 3e38, 0], [-3e38, 3e38, 0], [3e38, 1, 3e38], [0, -1, 0]], dtype=np.float32)
    return np.concatenate([ties, spread, cancelled, tiny, huge]).astype("<f4")


def expected_bytes(values: np.ndarray) -> bytes:
    with np.errstate(over="ignore", under="ignore"):
        total = (values[:, 0] * values[:, 1] + values[:, 2]).astype("<f4")
    code = np.rint(np.clip(total, 0, 255)).astype(np.uint8)
    return b"".join(t.tobytes() + c.tobytes() for t, c in zip(total, code, strict=True))


def test_the_samples_would_show_a_fused_multiply_add_and_flushed_subnormals():
    values = triples()
    with np.errstate(over="ignore"):
        fused = (values[:, 0].astype(np.float64) * values[:, 1] + values[:, 2]).astype(np.float32)
    total = np.frombuffer(expected_bytes(values), np.dtype([("sum", "<f4"), ("code", "u1")]))["sum"]
    assert np.count_nonzero(fused != total) > 1000
    assert np.count_nonzero((total != 0) & (np.abs(total) < np.finfo(np.float32).tiny)) > 100


@pytest.mark.parametrize("optimize", ["-O0", "-O3"])
@pytest.mark.parametrize("name", RUN_HERE)
def test_float_arithmetic_equals_numpys_on(name, optimize, runnable):
    target = runnable(name)
    program = compile_executable({"multiply_add.c": MULTIPLY_ADD}, target, optimize=optimize)
    values = triples()
    assert run_executable(program, target, stdin=values.tobytes()) == expected_bytes(values)


PRINT_BLOBS = r"""
#include <stdint.h>
#include <stdio.h>
extern const unsigned char weights[], tail[];
int main(void)
{
    if (((uintptr_t)weights | (uintptr_t)tail) % 64 != 0) return 1;
    return fwrite(weights, 1, 65537, stdout) != 65537 || fwrite(tail, 1, 3, stdout) != 3;
}
"""


@pytest.mark.parametrize("name", RUN_HERE)
def test_embedded_data_is_read_back_whole_and_aligned_on(name, runnable):
    target = runnable(name)
    weights = np.random.default_rng(5).bytes(65537)
    sources = {
        "main.c": PRINT_BLOBS,
        "weights.S": assembly_for_blob("weights", "data/weights.bin", target),
        "tail.S": assembly_for_blob("tail", "data/tail.bin", target),
        "data/weights.bin": weights,
        "data/tail.bin": b"abc",
    }
    assert run_executable(compile_executable(sources, target), target) == weights + b"abc"


LIBRARY = r"""
#include <string.h>
extern const unsigned char weights[];
int inner_step(int x);
int inner_step(int x) { return x + weights[0]; }
__attribute__((visibility("default"))) int penjing_m_run(const unsigned char *in, unsigned char *out);
int penjing_m_run(const unsigned char *in, unsigned char *out)
{
    memcpy(out, in, 3);
    out[3] = (unsigned char)inner_step(in[0]);
    return 42;
}
"""


def library_sources(target, weights: bytes = b"\7") -> dict[str, str | bytes]:
    return {
        "m.c": LIBRARY,
        "weights.S": assembly_for_blob("weights", "weights.bin", target),
        "weights.bin": weights,
    }


# First bytes of the file, and the number by which ELF names the processor.
SIGNATURES = {
    "x86_64-linux": (b"\x7fELF\2\1", 62),
    "aarch64-linux": (b"\x7fELF\2\1", 183),
    "armv7-linux": (b"\x7fELF\1\1", 40),
    "riscv64-linux": (b"\x7fELF\2\1", 243),
    "aarch64-macos": (b"\xcf\xfa\xed\xfe", None),
    "wasm32": (b"\0asm\1\0\0\0", None),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_library_is_of_its_target_and_names_only_what_is_marked(name, buildable):
    data = compile_library(library_sources(buildable(name)), buildable(name))
    start, machine = SIGNATURES[name]
    assert data.startswith(start)
    assert machine is None or int.from_bytes(data[18:20], "little") == machine
    assert b"penjing_m_run" in data
    assert b"inner_step" not in data
    assert b"weights" not in data
    assert not is_first_use(buildable(name))


@pytest.mark.parametrize("name", NAMES)
def test_two_builds_in_two_folders_give_the_same_bytes_on(name, buildable, monkeypatch, tmp_path):
    target = buildable(name)
    built = []
    for place in ("a", "a-much-longer-name/below"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        sources = library_sources(target) | {"name.c": "extern const char *name;\nconst char *name = __FILE__;\n"}
        built.append(compile_library(sources, target))
        if name != "aarch64-macos":
            built[-1] += compile_executable({"a.c": MULTIPLY_ADD}, target)
        assert list(folder.iterdir()) == []
    assert built[0] == built[1]
    assert os.fsencode(tmp_path) not in built[0]
    assert os.fsencode(os.path.dirname(sys.executable)) not in built[0]  # noqa: PTH120


@pytest.mark.parametrize("name", NAMES)
def test_other_weights_in_a_file_of_the_same_name_give_another_library_on(name, buildable):
    target = buildable(name)
    for weights in (b"first weights", b"other weights"):
        assert weights in compile_library(library_sources(target, weights), target)


# What the baseline CPU of each target must and must not have.
BASELINES = {
    "x86_64-linux": "!defined __SSE2__ || defined __SSE3__ || defined __AVX__ || defined __FMA__",
    "aarch64-linux": "!defined __aarch64__ || defined __ARM_FEATURE_DOTPROD || defined __ARM_FEATURE_SVE",
    "armv7-linux": "__ARM_ARCH != 7 || !defined __ARM_NEON || !defined __ARM_PCS_VFP || defined __ARM_FEATURE_FMA",
    "riscv64-linux": "__riscv_xlen != 64 || __riscv_flen != 64 || !defined __riscv_compressed || defined __riscv_v",
    "aarch64-macos": "!defined __aarch64__ || !defined __APPLE__",
    "wasm32": "!defined __wasm32__ || !defined __wasm_simd128__ || defined __wasm_relaxed_simd__",
}
BASELINE_CHECK = """
#include <float.h>
#if {wrong}
#error not the baseline of the target
#endif
#if FLT_EVAL_METHOD != 0 || defined __FAST_MATH__
#error inexact
#endif
extern int unused;
"""


@pytest.mark.parametrize("name", NAMES)
def test_code_is_for_the_baseline_cpu_of(name, buildable):
    compile_library({"a.c": BASELINE_CHECK.format(wrong=BASELINES[name])}, buildable(name))


def test_zig_does_not_build_for_the_cpu_of_this_machine(monkeypatch):
    pytest.importorskip("ziglang")
    monkeypatch.setenv("PENJING_CC", f"'{sys.executable}' -m ziglang cc")
    compile_library({"a.c": BASELINE_CHECK.format(wrong=BASELINES[host_target().name])}, host_target())


@pytest.mark.parametrize("name", NAMES)
def test_a_function_that_nobody_defines_fails_the_build_and_not_the_device(name, buildable):
    text = LIBRARY.replace("int inner_step(int x) { return x + weights[0]; }", "")
    with pytest.raises(CompileError, match=r"undefined.*inner_step"):
        compile_library({"m.c": text}, buildable(name))


CALL_MODULE = """
const bytes = require('node:fs').readFileSync(0);
const module_ = new WebAssembly.Module(bytes);
if (WebAssembly.Module.imports(module_).length !== 0) throw new Error('it has imports');
const { memory, _initialize, __heap_base, penjing_m_run } = new WebAssembly.Instance(module_, {}).exports;
_initialize();
const input = __heap_base.value, output = input + 16;
memory.grow(1);
new Uint8Array(memory.buffer).set([1, 2, 3], input);
const status = penjing_m_run(input, output);
console.log(JSON.stringify([status, ...new Uint8Array(memory.buffer).slice(output, output + 4)]));
"""


def test_a_wasm_library_is_called_from_javascript_and_needs_nothing(require, buildable):
    node = require("node")
    module = compile_library(library_sources(buildable("wasm32")), buildable("wasm32"))
    answer = subprocess.run([node, "-e", CALL_MODULE], input=module, capture_output=True, check=False)
    assert (answer.stdout.decode(), answer.stderr.decode()) == ("[42,1,2,3,8]\n", "")
