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
from penjing.program.interpret import interpret, rows_at_a_time
from penjing.program.plan import Plan, plan
from penjing.program.weights import pack_weights
from penjing.testing.c_mains import MODEL_MAIN, SANITIZER_REPORT
from penjing.testing.differences import describe_difference
from penjing.toolchain import Compiler, Target, compile_executable, run_executable

Sample = tuple[np.ndarray, ...]

_RUNS = 2
_SHOWN = 5


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
    text = MODEL_MAIN
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
    step = max(1, rows_at_a_time(program) // program.types[program.inputs[0]].bounds[0])
    for start in range(0, len(samples), step):
        chunk = samples[start : start + step]
        outputs = interpret(program, *(np.concatenate(column) for column in zip(*chunk, strict=True)))
        yield start, [y.reshape(len(chunk), -1) for y in outputs]
