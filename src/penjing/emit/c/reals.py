"""Reals at the ends of a library: `<stem>_quantize`, `<stem>_dequantize`, and `<stem>_run_f32` around the network."""

from collections.abc import Iterator

import numpy as np

from penjing.core.reciprocal import two_part_inverse
from penjing.emit.c.forms import check_lines, form_functions, id_lines, length_check, length_words, state_words
from penjing.emit.c.states import room_lines
from penjing.ir.graph import Graph
from penjing.ir.lengths import length_bound
from penjing.ir.types import Quant
from penjing.program.lengths import elements_of
from penjing.program.plan import Plan

_PLANES = 3


def inputs_in_planes(program: Graph) -> dict[int, str]:
    """Node -> the input that it alone reads, to make pixels of its three planes; for all inputs, or for none.

    `run_f32` quantizes straight into the outputs of these nodes.
    """
    if length_bound(program) is not None:
        return {}
    users, found = program.users(), {}
    nodes = {id(node): i for i, node in enumerate(program.nodes)}
    for name in program.inputs:
        shape, reading = program.types[name].bounds, users.get(name, [])
        last = (0, *range(2, len(shape)), 1)
        if len(reading) != 1 or name in program.sinks() or shape[:2] != (1, _PLANES):
            return {}
        if name not in program.real_inputs or getattr(reading[0].op, "perm", None) != last:
            return {}
        found[nodes[id(reading[0])]] = name
    return found


def real_lines(program: Graph, plan: Plan, *, simd: bool) -> Iterator[str]:
    """`pj_inputs` and `pj_outputs`: between the reals and the codes of all inputs and outputs."""
    longest = length_bound(program)
    _, inputs, outputs, _ = form_functions(1, length=longest is not None)
    for kind, function, values, call in (
        ("in", inputs, program.inputs, "pj_quantize(codes + {0}, reals + {0}, {1}, &{2})"),
        ("out", outputs, program.outputs, "pj_dequantize(reals + {0}, codes + {0}, {1}, &{2})"),
    ):
        quantized = [(i, value, program.types[value].quant) for i, value in enumerate(values)]
        for i, _, quant in quantized:
            if quant is not None:
                yield f"static const struct pj_real pj_real_{kind}_{i} = {_literal(quant, simd=simd)};"
        yield f"static void pj_{function.name}({function.parameters})"
        yield "{"
        if longest is not None and not any(program.types[value].follows_length for value in values):
            yield "    PJ_UNUSED(length);"
        for i, value, quant in quantized:
            at, n = plan.places[value].offset, elements_of(program.types[value], longest or 1)
            if quant is not None:
                yield f"    {call.format(at, n, f'pj_real_{kind}_{i}')};"
            else:
                yield f"    memcpy(codes + {at}, reals + {at}, 4 * {n}); /* ids */"
        yield "}"
        yield ""


def planes_call(program: Graph, plan: Plan, name: str, codes: str) -> str:
    """The call that stands for the transpose of input `name` to `codes` where reals are given."""
    at, pixels = plan.places[name].offset, program.types[name].elements // _PLANES
    return f"pj_quantize_3({codes}, reals + {at}, {pixels}, &pj_real_in_{program.inputs.index(name)})"


def _literal(quant: Quant, *, simd: bool) -> str:
    fields = [f".scale = {float(quant.scale).hex()}f", f".zero = {quant.zero_point}"]
    if simd:
        inverse, rest = two_part_inverse(np.float32(quant.scale)) or (0.0, 0.0)
        fields += [f".inverse = {inverse.hex()}f", f".rest = {rest.hex()}f"]
    return "{" + ", ".join(fields) + "}"


def run_reals(program: Graph, plan: Plan, stem: str, threads: int, *, standalone: bool) -> Iterator[str]:
    """`<stem>_quantize`, `<stem>_dequantize`, and `<stem>_run_f32`."""
    up = stem.upper()
    given = "" if standalone else "const void *weights, "
    state, steps = state_words(plan), length_words(program)
    for name, parameters, inner in (
        ("quantize", f"const float *reals, void *codes{steps[0]}", f"pj_inputs(reals, codes{steps[1]})"),
        ("dequantize", f"const void *codes, float *reals{steps[0]}", f"pj_outputs(codes, reals{steps[1]})"),
    ):
        yield f"int {stem}_{name}({parameters})"
        yield "{"
        yield "    if (!reals || !codes)"
        yield f"        return {up}_ERROR_NULL;"
        yield from length_check(program, stem)
        yield f"    {inner};"
        yield "    return 0;"
        yield "}"
        yield ""
    planes = inputs_in_planes(program)
    yield f"int {stem}_run_f32({given}const float *in, float *out, void *arena{state[0]}{steps[0]})"
    yield "{"
    yield f"    uint8_t *codes = (uint8_t *)arena + {plan.arena_bytes};"
    if threads > 1:
        yield "    const struct pj_team team = {{0, 1}, 0, 0};"
    yield from check_lines(plan, stem, standalone=standalone, arena=True)
    yield from length_check(program, stem)
    yield from room_lines(program, plan, stem)
    if not planes:
        yield f"    pj_inputs(in, codes{steps[1]});"
    yield from id_lines(program, plan, stem, "codes")
    reals, team = "in" if planes else "0", ", &team" if threads > 1 else ""
    yield f"    pj_run(weights, codes, codes + {plan.codes_bytes[0]}, arena{state[1]}, {reals}{steps[1]}{team});"
    yield f"    pj_outputs(codes + {plan.codes_bytes[0]}, out{steps[1]});"
    yield "    return 0;"
    yield "}"
