"""Program -> C99: one header and the source files, plus the weights as bytes.

    penjing_<name>.h            sizes as constants, quantization of inputs and outputs, the functions
    penjing_<name>.c            the run function; for one form in plain C, the whole library

and for targets with instruction sets to choose from:

    penjing_<name>_pj.h         what every kernel shares
    penjing_<name>_<isa>.h      the SIMD vocabulary of one instruction set
    penjing_<name>_kernels.h    the kernels over that vocabulary, one constant struct per node, and all calls
    penjing_<name>_<isa>.c      these, compiled for one instruction set

and where a tray holds the weights:

    penjing_<name>_decode.h     two functions that decode them
    penjing_<name>_decode.c

The source is init-free: no malloc, no I/O, no state but the choice of the instruction set; the caller owns input,
output and arena. The same program gives the same bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from penjing.core.digests import digest_bytes
from penjing.core.errors import InvalidInput
from penjing.emit.c.decoder import decoder_texts
from penjing.emit.c.dispatch import dispatch_lines
from penjing.emit.c.forms import (
    FormFunction,
    check_lines,
    form_functions,
    id_lines,
    length_check,
    length_words,
    state_words,
)
from penjing.emit.c.header import header_text
from penjing.emit.c.inner_loops import inner_loop_lines
from penjing.emit.c.kernels import CLOSING, FLOATS, SIMD_HEADERS, kernel_file, kernel_text, uses_floats
from penjing.emit.c.pool import pool_text
from penjing.emit.c.reals import real_lines, run_reals
from penjing.emit.c.states import reset_lines, room_lines
from penjing.emit.c.steps import Steps
from penjing.ir.graph import Graph
from penjing.ir.lengths import length_bound
from penjing.program.plan import Plan
from penjing.program.symbols import ABI, c_stem


@dataclass(frozen=True)
class Emitted:
    """File name -> text, and the stem that all C names begin with (`penjing_<name>`)."""

    stem: str
    sources: dict[str, str]


def emit_c(
    program: Graph,
    plan: Plan,
    weights: bytes,
    *,
    standalone: bool = False,
    decoder: bool = False,
    isas: Sequence[str] = (),
    threads: int = 1,
) -> Emitted:
    """The C sources of a lowered program.

    Args:
        program: stage `lowered`; for targets with `isas`, specialised for them.
        plan: its memory plan.
        weights: its packed weights, from which the header's digest is taken.
        standalone: whether the weights are linked into the library (symbol `<stem>_weights`) or handed to each run.
        decoder: whether the library can decode the weights as a tray holds them.
        isas: instruction sets to compile for, best first; the library chooses one where it runs. None: one form, in
            plain C.
        threads: how many may work on one call; needs `isas`, and a plan for as many.

    Raises:
        InvalidGraph: a kernel that cannot run on sequences of any length.
        InvalidInput: several threads for sequences of any length.
    """
    check_threads(program, threads)
    stem = c_stem(program.name)
    digest = digest_bytes(weights)
    header = header_text(program, plan, stem, digest, standalone=standalone, abi=ABI, isas=isas, threads=threads)
    sources = {f"{stem}.h": header, **(decoder_texts(stem) if decoder else {})}
    opening = [f'#include "{stem}.h"', "", *_weights_line(plan, stem, standalone)]
    steps = Steps(program, plan, stem)
    body = [
        *_kernels(steps, simd=bool(isas), threads=threads),
        "",
        *steps.constants(shared=bool(isas)),
        "",
        *real_lines(program, plan, simd=bool(isas)),
        *steps.calls(threads),
        "",
        *_check(floats=uses_floats(steps.operators)),
    ]
    ending = [
        "",
        *(reset_lines(program, plan, stem) if program.states else ()),
        *_run(program, plan, stem, threads, standalone=standalone),
        "",
        *run_reals(program, plan, stem, threads, standalone=standalone),
        "",
        *_self_test(stem),
    ]
    if not isas:
        sources[f"{stem}.c"] = _text(_title(stem, ".c"), *opening, kernel_text("pj.h").rstrip(), "", *body, *ending)
        return Emitted(stem, sources)
    functions = form_functions(threads, bool(program.states), length=length_bound(program) is not None)
    sources |= {f"{stem}_pj.h": kernel_text("pj.h"), f"{stem}_kernels.h": _text(*body)}
    for isa in isas:
        sources[f"{stem}_{isa}.h"] = kernel_text(f"isa/{isa}.h")
        sources[f"{stem}_{isa}.c"] = _text(
            _title(stem, f"_{isa}.c"), *_for_isa(stem, isa, functions, last=isa == isas[-1])
        )
    dispatch = dispatch_lines(stem, isas, functions)
    sources[f"{stem}.c"] = _text(_title(stem, ".c"), *opening, f'#include "{stem}_pj.h"', "", *dispatch, *ending)
    if threads > 1:
        sources[f"{stem}_pool.c"] = pool_text(plan, stem, standalone=standalone)
    return Emitted(stem, sources)


def check_threads(program: Graph, threads: int) -> None:
    """Raise InvalidInput for several threads on sequences of any length."""
    if threads > 1 and length_bound(program) is not None:
        what = f"{threads} threads for sequences of any length"
        raise InvalidInput(what, hint="build it for one thread, or capture the network for one length")


def _title(stem: str, ending: str) -> str:
    return f"/* {stem}{ending}: made by penjing from a trained network; do not edit. */"


def _text(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def _for_isa(stem: str, isa: str, functions: Sequence[FormFunction], *, last: bool) -> Iterator[str]:
    yield f'#include "{stem}.h"'
    yield f'#include "{stem}_pj.h"'
    yield f'#include "{stem}_{isa}.h"'
    yield ""
    if last:
        yield "#define PJ_DEFINES_PARAMETERS"
    yield f'#include "{stem}_kernels.h"'
    yield ""
    for one in functions:
        yield f"void {stem}_{one.name}_{isa}({one.parameters});"
        yield f"void {stem}_{one.name}_{isa}({one.parameters})"
        yield "{"
        yield f"    pj_{one.name}({one.arguments});"
        yield "}"
        yield ""
    yield CLOSING


def _kernels(steps: Steps, *, simd: bool, threads: int) -> Iterator[str]:
    if simd:
        if threads == 1:  # shares of a row need other tiles
            yield from inner_loop_lines(steps.program)
        yield from (kernel_text(name).rstrip() for name in SIMD_HEADERS)
    yield kernel_text("simd/pj_reals.h" if simd else "pj_reals.h").rstrip()
    yield from steps.limits()
    yield kernel_text("pj_steps.h").rstrip()
    if uses_floats(steps.operators):
        yield kernel_text(FLOATS).rstrip()
    for op in steps.operators:
        yield ""
        yield kernel_text(kernel_file(op, simd=simd)).rstrip()


def _weights_line(plan: Plan, stem: str, standalone: bool) -> list[str]:
    return [f"extern const uint8_t {stem}_weights[{max(plan.weights_bytes, 1)}];", ""] if standalone else []


def _run(program: Graph, plan: Plan, stem: str, threads: int, *, standalone: bool) -> Iterator[str]:
    given = "" if standalone else "const void *weights, "
    state, length = state_words(plan), length_words(program)
    yield f"int {stem}_run({given}const void *in, void *out, void *arena{state[0]}{length[0]})"
    yield "{"
    if threads > 1:
        yield "    const struct pj_team team = {{0, 1}, 0, 0};"
    yield from check_lines(plan, stem, standalone=standalone, arena=plan.arena_bytes > 0)
    yield from length_check(program, stem)
    yield from room_lines(program, plan, stem)
    yield from id_lines(program, plan, stem, "in")
    yield f"    pj_run(weights, in, out, arena{state[1]}, 0{length[1]}{', &team' if threads > 1 else ''});"
    yield "    return 0;"
    yield "}"
    if threads > 1:
        yield ""
        yield f"int {stem}_run_part({given}const void *in, void *out, void *arena{state[0]}, int part, int parts,"
        yield "    void (*meet)(void *), void *context)"
        yield "{"
        yield "    struct pj_team team;"
        yield from check_lines(plan, stem, standalone=standalone, arena=plan.arena_bytes > 0)
        yield from room_lines(program, plan, stem)
        yield f"    if (part < 0 || part >= parts || parts > {threads} || (parts > 1 && !meet))"
        yield f"        return {stem.upper()}_ERROR_PART;"
        yield from id_lines(program, plan, stem, "in")
        yield "    team.part.index = part, team.part.count = parts, team.meet = meet, team.context = context;"
        yield f"    pj_run(weights, in, out, arena{state[1]}, 0, &team);"
        yield "    return 0;"
        yield "}"


def _self_test(stem: str) -> Iterator[str]:
    yield f"int {stem}_self_test(void)"
    yield "{"
    yield "    int wrong = 0;"
    yield "    pj_check(&wrong);"
    yield f"    return wrong ? {stem.upper()}_ERROR_ARITHMETIC : 0;"
    yield "}"


def _check(*, floats: bool) -> Iterator[str]:
    """A sum that comes out one step apart when a compiler contracts it, and rounding at exact ties.

    With `floats`, also a product below the normal floats, which must not be flushed to 0.
    """
    yield "static void pj_check(int *wrong)"
    yield "{"
    yield "    /* equal products cancel when both are rounded; a fused multiply-add keeps the tail of one */"
    yield "    volatile int32_t acc = 60, d = -60;"
    yield "    volatile float multiplier = 0.3f, scale = 0.3f, half = 0.5f;"
    yield "    volatile float sum = pj_scaled_sum(acc, multiplier, d, scale);"
    yield "    *wrong = sum != 0.0f ||"
    yield "        pj_round(half, -255.0f, 255.0f) != 0 || pj_round(3.0f * half, -255.0f, 255.0f) != 2 ||"
    yield "        pj_round(-5.0f * half, -255.0f, 255.0f) != -2 || pj_round(1000.0f * half, -3.0f, 255.0f) != 255;"
    if floats:
        yield "    scale = FLT_MIN * half;"
        yield "    *wrong = *wrong || scale == 0.0f;"
    yield "}"
