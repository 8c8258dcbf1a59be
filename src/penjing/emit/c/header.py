"""The documented header of a generated library."""

from collections.abc import Mapping, Sequence

from penjing.emit.c.forms import length_words, state_words
from penjing.emit.c.pool import pool_declarations
from penjing.emit.c.states import state_header
from penjing.ir.graph import Graph
from penjing.ir.lengths import length_bound
from penjing.ir.types import bound, is_length
from penjing.ops.embedding import id_rows
from penjing.program.plan import ALIGNMENT, Plan
from penjing.program.states import counters
from penjing.program.symbols import STATUS_FULL


def header_text(
    program: Graph,
    plan: Plan,
    stem: str,
    digest: str,
    *,
    standalone: bool,
    abi: int,
    isas: Sequence[str],
    threads: int,
) -> str:
    """`<stem>.h`: everything that a caller needs to know, as constants and comments."""
    up = stem.upper()
    weights_argument = "" if standalone else "const void *weights, "
    weights_rule = (
        "linked into the library"
        if standalone
        else f"{up}_WEIGHTS_BYTES bytes at a {ALIGNMENT}-byte aligned address (SHA-256 {digest})"
    )
    keeps = "keeps nothing but its choice of an instruction set" if isas else "keeps nothing"
    states, rows = bool(program.states), id_rows(program)
    state_argument, _ = state_words(plan)
    state_rule = (
        f"\n *   state    {up}_STATE_BYTES bytes of a session: {stem}_reset begins it, each call goes on" * states
    )
    # a library has a state or a length, or neither
    steps, _ = length_words(program)
    more = state_argument + steps
    longest = length_bound(program)
    errors = _isa_error(up, isas) + _id_error(up, rows) + _full_error(up, program) + _length_error(up, longest)
    rules = state_rule + _length_rule(up, longest)
    sessions = "arenas and states" if states else "arenas"
    return f"""\
/* {stem}.h: made by penjing from a trained network; do not edit.
 *
 * One call computes one sample on integer codes, real = scale * (code - zero_point). The library {keeps},
 * allocates nothing and does no I/O: the caller owns all memory, and calls with other {sessions} may run at once.
 *
 *   weights  {weights_rule}
 *   in       {up}_INPUT_BYTES bytes, row-major in the layout of the original network
 *   out      {up}_OUTPUT_BYTES bytes
 *   arena    {up}_ARENA_BYTES bytes of working memory at a {ALIGNMENT}-byte aligned address, in any state{rules}
 */
#ifndef {up}_H
#define {up}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#if defined(_WIN32)
#define {up}_API __declspec(dllexport)
#elif defined(__GNUC__)
#define {up}_API __attribute__((visibility("default")))
#else
#define {up}_API
#endif

#define {up}_ABI {abi}
#define {up}_ALIGNMENT {ALIGNMENT}
#define {up}_INPUT_BYTES {plan.input_bytes}
#define {up}_OUTPUT_BYTES {plan.output_bytes}
#define {up}_ARENA_BYTES {plan.arena_bytes}
#define {up}_ARENA_F32_BYTES {plan.arena_f32_bytes}
#define {up}_WEIGHTS_BYTES {plan.weights_bytes}{_length_limit(up, longest)}

{_ports(program, plan, up, "INPUT", program.inputs)}
{_ports(program, plan, up, "OUTPUT", program.outputs)}
enum {stem}_status {{
    {up}_OK = 0,
    {up}_ERROR_NULL = -1,       /* a pointer is null */
    {up}_ERROR_ALIGNMENT = -2,  /* weights or arena is not {ALIGNMENT}-byte aligned */{errors}
    {up}_ERROR_ARITHMETIC = -3  /* the self-test failed: this build rounds differently and must not be used */
}};

/* Runs the network once. Returns 0, or a negative {stem}_status and leaves `out` as it was. */
{up}_API int {stem}_run({weights_argument}const void *in, void *out, void *arena{more});

/* The same on reals: {up}_INPUT_BYTES and {up}_OUTPUT_BYTES floats, each where its code would be, and an arena of
 * {up}_ARENA_F32_BYTES. Infinities saturate, NaN counts as 0.{_id_reals(rows)} */
{up}_API int {stem}_run_f32({weights_argument}const float *in, float *out, void *arena{more});
{state_header(program, plan, stem) if states else ""}
/* Reals to codes for all inputs, and codes to reals for all outputs, as {stem}_run_f32 does it. */
{up}_API int {stem}_quantize(const float *reals, void *codes{steps});
{up}_API int {stem}_dequantize(const void *codes, float *reals{steps});

/* Checks that this build multiplies, adds and rounds as the program's definition asks. Returns 0 or an error. */
{up}_API int {stem}_self_test(void);
{_isa_choice(up, stem, isas)}{_run_part(up, stem, weights_argument, state_argument, threads)}
#ifdef __cplusplus
}}
#endif

#endif
"""


def _id_error(up: str, rows: Mapping[str, int]) -> str:
    return f"\n    {up}_ERROR_ID = -7,         /* an id that names no row of its table */" if rows else ""


def _id_reals(rows: Mapping[str, int]) -> str:
    return (
        " Ids stay int32: they begin\n * where the first float of their input would, one after another." if rows else ""
    )


def _ports(program: Graph, plan: Plan, up: str, kind: str, names: tuple[str, ...]) -> str:
    blocks, rows = [], id_rows(program)
    for i, name in enumerate(names):
        type_, place = program.types[name], plan.places[name]
        shape = " x ".join(f"1..{bound(n)}" if is_length(n) else str(bound(n)) for n in type_.shape)
        lines = [
            f"/* {kind.lower()} {i}: {comment_text(name)}, {type_.dtype} {shape} */",
            f"#define {up}_{kind}_{i}_OFFSET {place.offset}",
        ]
        if name in rows:
            lines.append(f"#define {up}_{kind}_{i}_ROWS {rows[name]} /* ids are 0..{rows[name] - 1} */")
        if type_.quant is not None:
            lines.append(f"#define {up}_{kind}_{i}_SCALE {float(type_.quant.scale).hex()}f")
            lines.append(f"#define {up}_{kind}_{i}_ZERO_POINT {type_.quant.zero_point}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _run_part(up: str, stem: str, weights_argument: str, state_argument: str, threads: int) -> str:
    if threads == 1:
        return ""
    return f"""
/* The threads that may work on one call. */
#define {up}_THREADS {threads}

/* Runs the share of one thread: `parts` threads call it with the same memory, each with its own `part` from 0 on.
 * `meet` gets `context` and returns in each thread when all have called it. The bytes are those of {stem}_run. */
{up}_API int {stem}_run_part({weights_argument}const void *in, void *out, void *arena{state_argument}, int part,
    int parts, void (*meet)(void *context), void *context);
{pool_declarations(up, stem, weights_argument, state_argument)}"""


def _full_error(up: str, program: Graph) -> str:
    told = "the session has no room for more steps: reset it"
    return f"\n    {up}_ERROR_FULL = {STATUS_FULL},       /* {told} */" if counters(program) else ""


def _length_rule(up: str, longest: int | None) -> str:
    if longest is None:
        return ""
    return f"""
 *   length   steps of the sequence, 1 to {up}_LENGTH_MAX. Sizes and places are those of the longest; what has fewer
 *            steps lies side by side from the start of its place on."""


def _length_limit(up: str, longest: int | None) -> str:
    return "" if longest is None else f"\n#define {up}_LENGTH_MAX {longest}"


def _length_error(up: str, longest: int | None) -> str:
    if longest is None:
        return ""
    return f"""
    {up}_ERROR_LENGTH = -9,     /* a sequence of no steps, or of more than {up}_LENGTH_MAX */"""


def _isa_error(up: str, isas: Sequence[str]) -> str:
    if not isas:
        return ""
    return f"""
    {up}_ERROR_ISA = -4,        /* this processor lacks the instruction set */
    {up}_ERROR_PART = -5,       /* no such part of the work, or no function to meet */
    {up}_ERROR_THREADS = -6,    /* the system gives no more threads */"""


def _isa_choice(up: str, stem: str, isas: Sequence[str]) -> str:
    if not isas:
        return ""
    rows = ",\n".join(f"    {up}_ISA_{isa.upper()} = {number}" for number, isa in enumerate(reversed(isas)))
    return f"""
/* Instruction sets that this library has kernels for. All give the same bytes. */
enum {stem}_isas {{
{rows}
}};

/* The instruction set in use: the best that this processor has, unless another was asked for. */
{up}_API int {stem}_isa(void);

/* Asks for an instruction set, for tests and measurements. Returns 0, or {up}_ERROR_ISA and changes nothing. */
{up}_API int {stem}_use(int isa);
"""


def comment_text(text: str) -> str:
    """`text` as it may stand in a comment: one line of printable ASCII that neither opens nor closes a comment."""
    return "".join(char if " " <= char <= "~" and char not in "*\\?" else "_" for char in text)
