"""The documented header of a generated library."""

from penjing.ir.graph import Graph
from penjing.program.plan import ALIGNMENT, Plan


def header_text(program: Graph, plan: Plan, stem: str, digest: str, *, standalone: bool, abi: int) -> str:
    """`<stem>.h`: everything that a caller needs to know, as constants and comments."""
    up = stem.upper()
    weights_argument = "" if standalone else "const void *weights, "
    weights_rule = (
        "linked into the library"
        if standalone
        else f"{up}_WEIGHTS_BYTES bytes at a {ALIGNMENT}-byte aligned address (SHA-256 {digest})"
    )
    return f"""\
/* {stem}.h: made by penjing from a trained network; do not edit.
 *
 * One call computes one sample on integer codes, real = scale * (code - zero_point). The library has no state,
 * allocates nothing and does no I/O: the caller owns all memory, and calls with different arenas may run at once.
 *
 *   weights  {weights_rule}
 *   in       {up}_INPUT_BYTES bytes, row-major in the layout of the original network
 *   out      {up}_OUTPUT_BYTES bytes
 *   arena    {up}_ARENA_BYTES bytes of working memory at a {ALIGNMENT}-byte aligned address; needs no initialisation
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
#define {up}_WEIGHTS_BYTES {plan.weights_bytes}

{_ports(program, plan, up, "INPUT", program.inputs)}
{_ports(program, plan, up, "OUTPUT", program.outputs)}
enum {stem}_status {{
    {up}_OK = 0,
    {up}_ERROR_NULL = -1,       /* a pointer is null */
    {up}_ERROR_ALIGNMENT = -2,  /* weights or arena is not {ALIGNMENT}-byte aligned */
    {up}_ERROR_ARITHMETIC = -3  /* the self-test failed: this build rounds differently and must not be used */
}};

/* Runs the network once. Returns 0, or a negative {stem}_status and leaves `out` as it was. */
{up}_API int {stem}_run({weights_argument}const void *in, void *out, void *arena);

/* Checks that this build multiplies, adds and rounds as the program's definition asks. Returns 0 or an error. */
{up}_API int {stem}_self_test(void);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _ports(program: Graph, plan: Plan, up: str, kind: str, names: tuple[str, ...]) -> str:
    blocks = []
    for i, name in enumerate(names):
        type_, place = program.types[name], plan.places[name]
        shape = " x ".join(str(extent) for extent in type_.bounds)
        lines = [
            f"/* {kind.lower()} {i}: {comment_text(name)}, {type_.dtype} {shape} */",
            f"#define {up}_{kind}_{i}_OFFSET {place.offset}",
        ]
        if type_.quant is not None:
            lines.append(f"#define {up}_{kind}_{i}_SCALE {float(type_.quant.scale).hex()}f")
            lines.append(f"#define {up}_{kind}_{i}_ZERO_POINT {type_.quant.zero_point}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def comment_text(text: str) -> str:
    """`text` as it may stand in a comment: one line of printable ASCII that neither opens nor closes a comment."""
    return "".join(char if " " <= char <= "~" and char not in "*\\?" else "_" for char in text)
