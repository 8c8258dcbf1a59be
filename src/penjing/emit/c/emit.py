"""Program -> C99: one header and the source files, plus the weights as bytes.

    penjing_<name>.h            sizes as constants, quantization of inputs and outputs, the functions
    penjing_<name>.c            the run function; for one form in plain C, the whole library

and for targets with instruction sets to choose from:

    penjing_<name>_pj.h         what every kernel shares
    penjing_<name>_<isa>.h      the SIMD vocabulary of one instruction set
    penjing_<name>_kernels.h    the kernels over that vocabulary, one constant struct per node, and all calls
    penjing_<name>_<isa>.c      these, compiled for one instruction set

The source is init-free: no malloc, no I/O, no state but the choice of the instruction set; the caller owns input,
output and arena. The same program gives the same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from penjing.core.digests import digest_bytes
from penjing.emit.c.dispatch import dispatch_lines
from penjing.emit.c.forms import check_lines, form_functions
from penjing.emit.c.header import comment_text, header_text
from penjing.emit.c.kernels import CLOSING, SIMD_HEADERS, kernel_file, kernel_text
from penjing.emit.c.pool import pool_text
from penjing.emit.c.reals import inputs_in_planes, planes_call, real_lines, run_reals
from penjing.emit.c.tiles import tile_lines
from penjing.ir.graph import Graph, Node
from penjing.ops.operator import IntegerOperator, Param
from penjing.program.plan import Plan
from penjing.program.symbols import ABI, c_stem


@dataclass(frozen=True)
class Emitted:
    """File name -> text, and the stem that all C names begin with (`penjing_<name>`)."""

    stem: str
    sources: dict[str, str]


def emit_c(
    program: Graph, plan: Plan, weights: bytes, *, standalone: bool = False, isas: Sequence[str] = (), threads: int = 1
) -> Emitted:
    """The C sources of a lowered program.

    Args:
        program: stage `lowered`; for targets with `isas`, specialised for them.
        plan: its memory plan.
        weights: its packed weights, from which the header's digest is taken.
        standalone: whether the weights are linked into the library (symbol `<stem>_weights`) or handed to each run.
        isas: instruction sets to compile for, best first; the library chooses one where it runs. None: one form, in
            plain C.
        threads: how many may work on one call; needs `isas`, and a plan for as many.
    """
    stem = c_stem(program.name)
    digest = digest_bytes(weights)
    header = header_text(program, plan, stem, digest, standalone=standalone, abi=ABI, isas=isas, threads=threads)
    sources = {f"{stem}.h": header}
    opening = [f'#include "{stem}.h"', "", *_weights_line(plan, stem, standalone)]
    body = [
        *_kernels(program, plan, simd=bool(isas), threads=threads),
        "",
        *_parameters(program, plan, stem, shared=bool(isas)),
        "",
        *real_lines(program, plan, simd=bool(isas)),
        *_calls(program, plan, stem, threads),
        "",
        *_check(),
    ]
    ending = [
        "",
        *_run(plan, stem, threads, standalone=standalone),
        "",
        *run_reals(program, plan, stem, threads, standalone=standalone),
        "",
        *_self_test(stem),
    ]
    if not isas:
        sources[f"{stem}.c"] = _text(_title(stem, ".c"), *opening, kernel_text("pj.h").rstrip(), "", *body, *ending)
        return Emitted(stem, sources)
    sources |= {f"{stem}_pj.h": kernel_text("pj.h"), f"{stem}_kernels.h": _text(*body)}
    for isa in isas:
        sources[f"{stem}_{isa}.h"] = kernel_text(f"isa/{isa}.h")
        sources[f"{stem}_{isa}.c"] = _text(
            _title(stem, f"_{isa}.c"), *_for_isa(stem, isa, threads, last=isa == isas[-1])
        )
    dispatch = dispatch_lines(stem, isas, threads)
    sources[f"{stem}.c"] = _text(_title(stem, ".c"), *opening, f'#include "{stem}_pj.h"', "", *dispatch, *ending)
    if threads > 1:
        sources[f"{stem}_pool.c"] = pool_text(stem, standalone=standalone)
    return Emitted(stem, sources)


def struct_literal(params: Mapping[str, Param]) -> str:
    """The initialiser of a kernel's struct; floats are written in hexadecimal, so that they read back exactly."""
    return "{" + ", ".join(f".{key} = {_literal(value)}" for key, value in params.items()) + "}"


def _literal(value: Param) -> str:
    if isinstance(value, tuple):
        return "{" + ", ".join(str(item) for item in value) + "}"
    return f"{value.hex()}f" if isinstance(value, float) else str(value)


def _title(stem: str, ending: str) -> str:
    return f"/* {stem}{ending}: made by penjing from a trained network; do not edit. */"


def _text(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def _for_isa(stem: str, isa: str, threads: int, *, last: bool) -> Iterator[str]:
    yield f'#include "{stem}.h"'
    yield f'#include "{stem}_pj.h"'
    yield f'#include "{stem}_{isa}.h"'
    yield ""
    if last:
        yield "#define PJ_DEFINES_PARAMETERS"
    yield f'#include "{stem}_kernels.h"'
    yield ""
    for one in form_functions(threads):
        yield f"void {stem}_{one.name}_{isa}({one.parameters});"
        yield f"void {stem}_{one.name}_{isa}({one.parameters})"
        yield "{"
        yield f"    pj_{one.name}({one.arguments});"
        yield "}"
        yield ""
    yield CLOSING


# Absent inputs are null: a compiler that looks into a kernel may not find it reading beyond the array.
_MOST_INPUTS = 5


def _kernels(program: Graph, plan: Plan, *, simd: bool, threads: int) -> Iterator[str]:
    if simd:
        if threads == 1:  # shares of a row need other tiles
            yield from tile_lines(program)
        yield from (kernel_text(name).rstrip() for name in SIMD_HEADERS)
    yield kernel_text("simd/pj_reals.h" if simd else "pj_reals.h").rstrip()
    for op in sorted({node.op.name for node in program.nodes if not _is_free(plan, node)}):
        yield ""
        yield kernel_text(kernel_file(op, simd=simd)).rstrip()


def _is_free(plan: Plan, node: Node) -> bool:
    """Whether the node moves no byte because its output lies where its input lies."""
    assert isinstance(node.op, IntegerOperator)
    source, target = plan.places[node.inputs[0]], plan.places[node.outputs[0]]
    return node.op.alias and (source.base, source.offset) == (target.base, target.offset)


def _parameters(program: Graph, plan: Plan, stem: str, *, shared: bool) -> Iterator[str]:
    """One constant struct per node; with `shared`, one file defines them for all instruction sets."""
    if shared:
        yield "#ifndef PJ_DEFINES_PARAMETERS"
        for i, node in enumerate(program.nodes):
            if not _is_free(plan, node):
                yield f"extern const struct pj_{node.op.name} {stem}_node_{i};"
        yield "#else"
    for i, node in enumerate(program.nodes):
        if _is_free(plan, node):
            continue
        assert isinstance(node.op, IntegerOperator)
        params = node.op.kernel_params(program.input_types(node), program.output_types(node))
        yield f"/* {comment_text(node.outputs[0])} */"
        start = "" if shared else "static "
        yield f"{start}const struct pj_{node.op.name} {stem}_node_{i} = {struct_literal(params)};"
    if shared:
        yield "#endif"


def _calls(program: Graph, plan: Plan, stem: str, threads: int) -> Iterator[str]:
    run, *_ = form_functions(threads)
    yield f"static void pj_{run.name}({run.parameters})"
    yield "{"
    for name in ("weights", "in", "out", "arena"):
        if name not in {place.base for place in (*plan.places.values(), *plan.scratch.values())}:
            yield f"    PJ_UNUSED({name});"
    planes = inputs_in_planes(program)
    if not planes:
        yield "    PJ_UNUSED(reals);"
    for i, node in enumerate(program.nodes):
        if not _is_free(plan, node):
            for_reals = planes_call(program, plan, planes[i]) if i in planes else None
            yield from _call(plan, stem, i, node, threads, for_reals)
    yield "}"


def _call(plan: Plan, stem: str, index: int, node: Node, threads: int, for_reals: str | None) -> Iterator[str]:
    """The call of one kernel, or where reals are given the call `for_reals`."""
    assert isinstance(node.op, IntegerOperator)
    inputs = ", ".join(_address(plan, name) for name in node.inputs)
    outputs = ", ".join(_address(plan, name) for name in node.outputs)
    scratch = plan.scratch.get(index)
    yield "    {"
    yield f"        const void *const i[{max(len(node.inputs), _MOST_INPUTS)}] = {{{inputs}}};"
    yield f"        void *const o[] = {{{outputs}}};"
    memory = f"arena + {scratch.offset}" if scratch else "0"
    call = f"pj_{node.op.name}(&{stem}_node_{index}, i, o, {memory})"
    lines = ["if (reals)", f"    {for_reals};", "else", f"    {call};"] if for_reals else [f"{call};"]
    if threads > 1 and node.op.splits:
        own = f"{memory} + team->part.index * {scratch.nbytes // threads}" if scratch else "0"
        lines = [f"pj_{node.op.name}_part(&{stem}_node_{index}, i, o, {own}, team->part);"]
    elif threads > 1:
        lines = ["if (team->part.index == 0) {", *(f"    {line}" for line in lines), "}"]
    yield from (f"        {line}" for line in lines)
    if threads > 1:
        yield "        pj_meet(team);"
    yield "    }"


def _address(plan: Plan, name: str) -> str:
    place = plan.places[name]
    return f"{place.base} + {place.offset}"


def _weights_line(plan: Plan, stem: str, standalone: bool) -> list[str]:
    return [f"extern const uint8_t {stem}_weights[{max(plan.weights_bytes, 1)}];", ""] if standalone else []


def _run(plan: Plan, stem: str, threads: int, *, standalone: bool) -> Iterator[str]:
    given = "" if standalone else "const void *weights, "
    yield f"int {stem}_run({given}const void *in, void *out, void *arena)"
    yield "{"
    if threads > 1:
        yield "    const struct pj_team team = {{0, 1}, 0, 0};"
    yield from check_lines(plan, stem, standalone=standalone, arena=plan.arena_bytes > 0)
    yield f"    pj_run(weights, in, out, arena, 0{', &team' if threads > 1 else ''});"
    yield "    return 0;"
    yield "}"
    if threads > 1:
        yield ""
        yield f"int {stem}_run_part({given}const void *in, void *out, void *arena, int part, int parts,"
        yield "    void (*meet)(void *), void *context)"
        yield "{"
        yield "    struct pj_team team;"
        yield from check_lines(plan, stem, standalone=standalone, arena=plan.arena_bytes > 0)
        yield f"    if (part < 0 || part >= parts || parts > {threads} || (parts > 1 && !meet))"
        yield f"        return {stem.upper()}_ERROR_PART;"
        yield "    team.part.index = part, team.part.count = parts, team.meet = meet, team.context = context;"
        yield "    pj_run(weights, in, out, arena, 0, &team);"
        yield "    return 0;"
        yield "}"


def _self_test(stem: str) -> Iterator[str]:
    yield f"int {stem}_self_test(void)"
    yield "{"
    yield "    int wrong = 0;"
    yield "    pj_check(&wrong);"
    yield f"    return wrong ? {stem.upper()}_ERROR_ARITHMETIC : 0;"
    yield "}"


def _check() -> Iterator[str]:
    """A sum that comes out one step apart when a compiler contracts it, and rounding at exact ties."""
    yield "static void pj_check(int *wrong)"
    yield "{"
    yield "    /* equal products cancel when both are rounded; a fused multiply-add keeps the tail of one */"
    yield "    volatile int32_t acc = 60, d = -60;"
    yield "    volatile float multiplier = 0.3f, scale = 0.3f, half = 0.5f;"
    yield "    volatile float sum = pj_scaled_sum(acc, multiplier, d, scale);"
    yield "    *wrong = sum != 0.0f ||"
    yield "        pj_round(half, -255.0f, 255.0f) != 0 || pj_round(3.0f * half, -255.0f, 255.0f) != 2 ||"
    yield "        pj_round(-5.0f * half, -255.0f, 255.0f) != -2 || pj_round(1000.0f * half, -3.0f, 255.0f) != 255;"
    yield "}"
