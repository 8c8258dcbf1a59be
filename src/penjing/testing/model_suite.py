"""A whole program, compiled, against the interpreter: every output byte of every input, and each promise of its header.

A generated `main` beside the emitted C reads the weights (none where they are linked in) and the inputs. It checks the
self-test and the refusal of null and misaligned pointers, and then runs each input twice:

    guarded   an arena filled with 0xA5 between guard bytes, as is the output; input and output one byte off
    exact     an arena filled with 0x5A in a block of exactly its size, as are input and output

Both must give the same bytes: the arena needs no initialisation and carries nothing. Where the program has states, the
inputs are the calls of one session, and each run has memory of its own for it, in the same manner. Guards, input and
weights must come out unchanged. The highest arena byte that ever changed is reported, to be compared with the plan.

A library that chooses from instruction sets runs all inputs once on each of them that can be run here. With several
threads, a pool makes the guarded runs and one thread alone the exact ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penjing.assembly import library_sources
from penjing.core.errors import ToolchainError
from penjing.emit.c.emit import Emitted, emit_c
from penjing.ir.graph import Graph
from penjing.ir.lengths import length_bound
from penjing.ops.embedding import id_rows
from penjing.program.interpret import interpret_samples, rows_at_a_time
from penjing.program.plan import Plan
from penjing.runtime.engines import length_of
from penjing.testing.differences import describe_difference
from penjing.testing.isas import isa_number, run_on_isa, runnable_isas
from penjing.testing.model_suite_main import MODEL_MAIN
from penjing.testing.sanitizer_report import SANITIZER_REPORT
from penjing.toolchain import Compiler, Target, compile_executable
from penjing.vector.prepare import Prepared, prepare

Sample = tuple[np.ndarray, ...]

_RUNS = 2
_SHOWN = 5


@dataclass(frozen=True)
class ModelReport:
    """What a compiled program did.

    Attributes:
        problems: mismatches and broken promises, described; empty when there is none.
        samples: number of inputs.
        isas: the instruction sets that they ran on; none where there is no choice.
        touched_bytes: the highest arena byte that ever changed, on any of them, plus 1.
        planned_bytes: the end of the last arena byte that the plan gives away, before alignment.
    """

    problems: tuple[str, ...]
    samples: int
    isas: tuple[str, ...]
    touched_bytes: int
    planned_bytes: int


def run_model_suite(
    program: Graph,
    samples: Sequence[Sample],
    target: Target,
    extra_flags: Sequence[str] = (),
    *,
    optimize: str | None = None,
    standalone: bool = False,
    isas: Sequence[str] | None = None,
    threads: int = 1,
    compiler: Compiler | None = None,
    timeout_s: float = 300,
) -> ModelReport:
    """Compile `program` for `target` and compare it with the interpreter.

    Args:
        program: stage `lowered`.
        samples: codes for one call each: one array per program input, of its shape at the bound, or of any length.
        target: what to build for and run on.
        extra_flags: more compiler options.
        optimize: the optimisation option; by default as libraries are built.
        standalone: link the weights in.
        isas: instruction sets to build for and run on, instead of building for all and running on all that can be run
            here. A single one is built without the choice.
        threads: how many work on a call; more than one where `target` has instruction sets to choose from.
        compiler: which compiler; by default the one that serves `target`.
        timeout_s: limit of each run.

    Raises:
        CompileError: the compiler refuses the emitted code.
        ToolchainError: nothing here can build for `target` or run its programs.
    """
    prepared = prepare(program, target, threads)
    built = target.isas if isas is None or len(isas) > 1 else tuple(isas)
    sources = model_sources(prepared, built, standalone=standalone)
    optimize = optimize or target.optimize
    executable = compile_executable(sources, target, optimize=optimize, extra=extra_flags, compiler=compiler)
    weights = b"" if standalone else prepared.weights.tobytes()
    stdin = weights + b"".join(_input_bytes(program, prepared.plan, sample) for sample in samples)
    chosen = tuple(runnable_isas(target) if isas is None else isas)
    runs, problems, touched = {}, [], 0
    for isa in chosen or (None,):
        args = (str(isa_number(target, isa)),) if isa is not None and len(built) > 1 else ()
        try:
            written = run_on_isa(executable, target, isa, stdin=stdin, args=args, timeout_s=timeout_s)
            runs[isa], highest = _outputs(written, len(samples), prepared.plan.output_bytes)
            touched = max(touched, highest)
        except ToolchainError as error:
            problems.append(f"{_on(isa)}{error}")
    problems += _problems(program, prepared.plan, samples, runs)
    return ModelReport(tuple(problems), len(samples), chosen, touched, planned_arena_bytes(prepared.plan))


def model_sources(prepared: Prepared, isas: Sequence[str], *, standalone: bool) -> dict[str, str | bytes]:
    """The emitted C for these instruction sets, with a `main` that runs it on its standard input."""
    weights = prepared.weights.tobytes()
    emitted = emit_c(
        prepared.program, prepared.plan, weights, standalone=standalone, isas=isas, threads=prepared.threads
    )
    main = _main(emitted, standalone, len(isas) if len(isas) > 1 else 0, prepared)
    return {**library_sources(emitted, prepared, standalone=standalone), "main.c": main}


def planned_arena_bytes(memory: Plan) -> int:
    """Where the last arena byte of a plan ends, before alignment."""
    places = [*memory.places.values(), *memory.scratch.values()]
    return max((place.end for place in places if place.base == "arena"), default=0)


def corner_samples(program: Graph, rng: np.random.Generator, count: int) -> list[Sample]:
    """Inputs for one call each: all codes or ids 0, all the last, `count` random ones; sequences of many lengths."""
    rows, longest = id_rows(program), length_bound(program)
    kinds = [(t, rows.get(name, 256)) for name, t in ((name, program.types[name]) for name in program.inputs)]
    flat = [tuple(np.full(t.bounds, last * (n - 1), t.dtype.numpy) for t, n in kinds) for last in (0, 1)]
    steps = _lengths(longest, count) if longest else [1] * count
    some = [tuple(rng.integers(0, n, t.at_length(k).bounds, t.dtype.numpy) for t, n in kinds) for k in steps]
    return [*flat, *some]


def _lengths(longest: int, count: int) -> list[int]:
    """The shortest sequences, the longest, and such between, `count` in all."""
    ends = [1, 2, longest, 3, longest - 1]
    between = [int(n) for n in np.linspace(4, longest, max(0, count - len(ends)))]
    return [min(max(n, 1), longest) for n in [*ends, *between]][:count]


def _main(emitted: Emitted, standalone: bool, choices: int, prepared: Prepared) -> str:
    words: Mapping[str, str] = {
        "@SANITIZER@": SANITIZER_REPORT,
        "@STEM@": emitted.stem,
        "@UP@": emitted.stem.upper(),
        "@STANDALONE@": str(int(standalone)),
        "@ISAS@": str(choices),
        "@THREADS@": str(prepared.threads),
        "@STATES@": str(int(bool(prepared.program.states))),
        "@LENGTH@": str(length_bound(prepared.program) or 0),
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
        block[place.offset : place.offset + raw.size] = raw
    length = length_of(program, sample)
    return (b"" if length is None else length.to_bytes(4, "little")) + block.tobytes()


def _on(isa: str | None) -> str:
    return "" if isa is None else f"{isa}: "


def _outputs(written: bytes, samples: int, size: int) -> tuple[np.ndarray, int]:
    """u8 (samples, runs, bytes of the output), and the highest arena byte."""
    if len(written) != samples * _RUNS * size + 8:
        raise ToolchainError(f"{len(written)} bytes were written for {samples} samples of {size} bytes")
    return np.frombuffer(written[:-8], np.uint8).reshape(samples, _RUNS, size), int.from_bytes(written[-8:], "little")


def _problems(
    program: Graph, memory: Plan, samples: Sequence[Sample], runs: Mapping[str | None, np.ndarray]
) -> list[str]:
    found: list[str] = []
    if not runs:
        return found
    for start, expected in _expected(program, samples):
        for name, want in zip(program.outputs, expected, strict=True):
            place = memory.places[name]
            rows, columns = slice(start, start + len(want)), slice(place.offset, place.offset + want[0].nbytes)
            for isa, outputs in runs.items():
                for run, label in enumerate(("guarded", "exact")):
                    difference = describe_difference(outputs[rows, run, columns].copy().view(want.dtype), want)
                    if difference:
                        found.append(f"{_on(isa)}from sample {start}, {label}: output %{name} {difference}")
        if len(found) >= _SHOWN:
            break
    return found


def _expected(program: Graph, samples: Sequence[Sample]) -> Iterator[tuple[int, list[np.ndarray]]]:
    """(index of the first sample, one array (samples, elements) per output), chunk by chunk."""
    step = max(1, rows_at_a_time(program) // program.types[program.inputs[0]].bounds[0])
    step = len(samples) if program.states else 1 if length_bound(program) else step
    for start in range(0, len(samples), step):
        chunk = samples[start : start + step]
        outputs = interpret_samples(program, *(np.concatenate(column) for column in zip(*chunk, strict=True)))
        yield start, [y.reshape(len(chunk), -1) for y in outputs]
