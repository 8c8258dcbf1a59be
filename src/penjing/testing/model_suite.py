"""A whole program, compiled, against the interpreter: every output byte of every input, and each promise of its header.

A generated `main` beside the emitted C reads the weights (none where they are linked in) and the inputs. It checks the
self-test and the refusal of null and misaligned pointers, and then runs each input twice:

    guarded   an arena filled with 0xA5 between guard bytes, as is the output; input and output one byte off
    exact     an arena filled with 0x5A in a block of exactly its size, as are input and output

Both must give the same bytes: the arena needs no initialisation and carries no state. Guards, input and weights must
come out unchanged. The highest arena byte that ever changed is reported, to be compared with the plan.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penjing.api import library_sources
from penjing.core.errors import ToolchainError
from penjing.emit.c.emit import Emitted, emit_c
from penjing.ir.graph import Graph
from penjing.program.interpret import interpret
from penjing.program.plan import Plan, plan
from penjing.program.weights import pack_weights
from penjing.testing.differences import describe_difference
from penjing.testing.op_suite import SANITIZER_REPORT
from penjing.toolchain import Compiler, Target, compile_executable, run_executable

Sample = tuple[np.ndarray, ...]

_CHUNK = 64  # samples that the interpreter takes at a time: bounds its memory
_RUNS = 2
_SHOWN = 5

_MAIN = r"""
#define _POSIX_C_SOURCE 200112L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "@STEM@.h"

#define SUITE_STANDALONE @STANDALONE@
enum {
    GUARD = 256,
    IN = @UP@_INPUT_BYTES,
    OUT = @UP@_OUTPUT_BYTES,
    ARENA = @UP@_ARENA_BYTES,
    WEIGHTS = SUITE_STANDALONE ? 0 : @UP@_WEIGHTS_BYTES
};

@SANITIZER@

static int fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    return 2;
}

static uint8_t *block(size_t bytes)
{
    void *made = 0;
    if (posix_memalign(&made, @UP@_ALIGNMENT, bytes ? bytes : 1))
        exit(fail("out of memory"));
    return made;
}

static int run(const uint8_t *weights, const void *in, void *out, void *arena)
{
#if SUITE_STANDALONE
    (void)weights;
    return @STEM@_run(in, out, arena);
#else
    return @STEM@_run(weights, in, out, arena);
#endif
}

/* whether all of n bytes have one value */
static int all(const uint8_t *bytes, size_t n, int value)
{
    size_t i;
    for (i = 0; i < n; i++)
        if (bytes[i] != value)
            return 0;
    return 1;
}

static size_t touched(const uint8_t *arena, int fill, size_t highest)
{
    size_t i;
    for (i = ARENA; i > highest; i--)
        if (arena[i - 1] != fill)
            return i;
    return highest;
}

static int refusals(const uint8_t *weights, const uint8_t *in, uint8_t *out, uint8_t *arena)
{
    memset(out, 0x11, OUT);
    if (run(weights, 0, out, arena) != @UP@_ERROR_NULL || run(weights, in, 0, arena) != @UP@_ERROR_NULL)
        return fail("a null input or output is not refused");
    if (ARENA > 0 && run(weights, in, out, 0) != @UP@_ERROR_NULL)
        return fail("a null arena is not refused");
    if (ARENA > 0 && run(weights, in, out, arena + 4) != @UP@_ERROR_ALIGNMENT)
        return fail("a misaligned arena is not refused");
    if (!SUITE_STANDALONE && run(0, in, out, arena) != @UP@_ERROR_NULL)
        return fail("null weights are not refused");
    if (!SUITE_STANDALONE && run(weights + 4, in, out, arena) != @UP@_ERROR_ALIGNMENT)
        return fail("misaligned weights are not refused");
    return all(out, OUT, 0x11) ? 0 : fail("a refused call changed the output");
}

int main(void)
{
    uint8_t *weights = block(WEIGHTS), *kept = block(WEIGHTS);
    uint8_t *guarded_arena = block(ARENA + 2 * GUARD), *guarded_out = block(OUT + 2 * GUARD + 1);
    uint8_t *arena = block(ARENA), *in = malloc(IN), *odd_in = malloc(IN + 1), *out = malloc(OUT);
    uint8_t *const inner_arena = guarded_arena + GUARD, *const inner_out = guarded_out + GUARD + 1;
    size_t highest = 0, i;
    uint8_t tail[8];

    SUITE_REPORT_ERRORS();
    if (@STEM@_self_test() != 0)
        return fail("the self-test failed");
    if (!in || !odd_in || !out || fread(weights, 1, WEIGHTS, stdin) != WEIGHTS)
        return fail("no memory, or no weights");
    memcpy(kept, weights, WEIGHTS);
    memset(guarded_arena, 0xC3, ARENA + 2 * GUARD);
    memset(guarded_out, 0xC3, OUT + 2 * GUARD + 1);
    memset(in, 0, IN);
    if (refusals(weights, in, out, arena))
        return 2;
    while (fread(in, 1, IN, stdin) == IN) {
        memcpy(odd_in + 1, in, IN);
        memset(inner_arena, 0xA5, ARENA);
        memset(inner_out, 0xA5, OUT);
        if (run(weights, odd_in + 1, inner_out, ARENA > 0 ? inner_arena : 0) != @UP@_OK)
            return fail("the guarded run returned an error");
        if (!all(guarded_arena, GUARD, 0xC3) || !all(inner_arena + ARENA, GUARD, 0xC3))
            return fail("a byte beside the arena was written");
        if (!all(guarded_out, GUARD + 1, 0xC3) || !all(inner_out + OUT, GUARD, 0xC3))
            return fail("a byte beside the output was written");
        memset(arena, 0x5A, ARENA);
        memset(out, 0x5A, OUT);
        if (run(weights, in, out, ARENA > 0 ? arena : 0) != @UP@_OK)
            return fail("the exact run returned an error");
        if (memcmp(in, odd_in + 1, IN) || memcmp(weights, kept, WEIGHTS))
            return fail("the input or the weights were changed");
        highest = touched(arena, 0x5A, touched(inner_arena, 0xA5, highest));
        if (fwrite(inner_out, 1, OUT, stdout) != OUT || fwrite(out, 1, OUT, stdout) != OUT)
            return fail("the output cannot be written");
    }
    for (i = 0; i < sizeof tail; i++)
        tail[i] = (uint8_t)((uint64_t)highest >> (8 * i));
    if (fwrite(tail, 1, sizeof tail, stdout) != sizeof tail)
        return fail("the output cannot be written");
    free(weights);
    free(kept);
    free(guarded_arena);
    free(guarded_out);
    free(arena);
    free(in);
    free(odd_in);
    free(out);
    return 0;
}
"""


@dataclass(frozen=True)
class ModelReport:
    """What a compiled program did.

    Attributes:
        problems: mismatches and broken promises, described; empty when there is none.
        samples: number of inputs.
        touched_bytes: the highest arena byte that ever changed, plus 1.
        planned_bytes: the end of the last arena byte that the plan gives away, before alignment.
    """

    problems: tuple[str, ...]
    samples: int
    touched_bytes: int
    planned_bytes: int


def run_model_suite(
    program: Graph,
    samples: Sequence[Sample],
    target: Target,
    extra_flags: Sequence[str] = (),
    *,
    optimize: str = "-O3",
    standalone: bool = False,
    compiler: Compiler | None = None,
    timeout_s: float = 300,
) -> ModelReport:
    """Compile `program` for `target` and compare it with the interpreter.

    Args:
        program: stage `lowered`.
        samples: codes for one call each: one array per program input, of its shape at the bound.
        target: what to build for and run on.
        extra_flags: more compiler options.
        optimize: the optimisation option.
        standalone: link the weights in.
        compiler: which compiler; by default the one that serves `target`.
        timeout_s: limit of the run.

    Raises:
        CompileError: the compiler refuses the emitted code.
        ToolchainError: nothing here can build for `target` or run its programs.
    """
    memory = plan(program)
    sources = model_sources(program, memory, target, standalone=standalone)
    executable = compile_executable(sources, target, optimize=optimize, extra=extra_flags, compiler=compiler)
    weights = b"" if standalone else pack_weights(program, memory).tobytes()
    stdin = weights + b"".join(_input_bytes(program, memory, sample) for sample in samples)
    planned = planned_arena_bytes(memory)
    try:
        written = run_executable(executable, target, stdin=stdin, timeout_s=timeout_s)
    except ToolchainError as error:
        return ModelReport((str(error),), len(samples), 0, planned)
    size = memory.output_bytes
    if len(written) != len(samples) * _RUNS * size + 8:
        problem = f"{len(written)} bytes were written for {len(samples)} samples of {size} bytes"
        return ModelReport((problem,), len(samples), 0, planned)
    touched = int.from_bytes(written[-8:], "little")
    runs = np.frombuffer(written[:-8], np.uint8).reshape(len(samples), _RUNS, size)
    return ModelReport(tuple(_problems(program, memory, samples, runs)), len(samples), touched, planned)


def model_sources(program: Graph, memory: Plan, target: Target, *, standalone: bool) -> dict[str, str | bytes]:
    """The emitted C with a `main` that runs it on its standard input."""
    weights = pack_weights(program, memory).tobytes()
    emitted = emit_c(program, memory, weights, standalone=standalone)
    return {**library_sources(emitted, weights, target, standalone=standalone), "main.c": _main(emitted, standalone)}


def planned_arena_bytes(memory: Plan) -> int:
    """Where the last arena byte of a plan ends, before alignment."""
    places = [*memory.places.values(), *memory.scratch.values()]
    return max((place.offset + place.nbytes for place in places if place.base == "arena"), default=0)


def corner_samples(program: Graph, rng: np.random.Generator, count: int) -> list[Sample]:
    """Inputs for one call each: all codes 0, all 255, and `count` random ones."""
    shapes = [program.types[name].bounds for name in program.inputs]
    flat = [tuple(np.full(shape, code, np.uint8) for shape in shapes) for code in (0, 255)]
    return [*flat, *(tuple(rng.integers(0, 256, shape, np.uint8) for shape in shapes) for _ in range(count))]


def _main(emitted: Emitted, standalone: bool) -> str:
    words: Mapping[str, str] = {
        "@SANITIZER@": SANITIZER_REPORT,
        "@STEM@": emitted.stem,
        "@UP@": emitted.stem.upper(),
        "@STANDALONE@": str(int(standalone)),
    }
    text = _MAIN
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def _input_bytes(program: Graph, memory: Plan, sample: Sample) -> bytes:
    block = np.full(memory.input_bytes, 0xEE, np.uint8)  # 0xEE: gaps between inputs that nothing may read
    for name, array in zip(program.inputs, sample, strict=True):
        place = memory.places[name]
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        block[place.offset : place.offset + place.nbytes] = raw
    return block.tobytes()


def _problems(program: Graph, memory: Plan, samples: Sequence[Sample], runs: np.ndarray) -> list[str]:
    found: list[str] = []
    for start, expected in _expected(program, samples):
        for name, want in zip(program.outputs, expected, strict=True):
            place = memory.places[name]
            rows = slice(start, start + len(want))
            for run, label in enumerate(("guarded", "exact")):
                got = runs[rows, run, place.offset : place.offset + place.nbytes].copy().view(want.dtype)
                difference = describe_difference(got, want)
                if difference:
                    found.append(f"from sample {start}, {label}: output %{name} {difference}")
        if len(found) >= _SHOWN:
            break
    return found


def _expected(program: Graph, samples: Sequence[Sample]) -> Iterator[tuple[int, list[np.ndarray]]]:
    """(index of the first sample, one array (samples, elements) per output), chunk by chunk."""
    fixed = any(isinstance(program.types[name].shape[0], int) for name in program.inputs)
    step = 1 if fixed else _CHUNK
    for start in range(0, len(samples), step):
        chunk = samples[start : start + step]
        outputs = interpret(program, *(np.concatenate(column) for column in zip(*chunk, strict=True)))
        yield start, [y.reshape(len(chunk), -1) for y in outputs]
