"""The functions that a library holds once for each instruction set, and how they are called."""

from collections.abc import Iterator
from dataclasses import dataclass

from penjing.ir.graph import Graph
from penjing.program.plan import Plan


@dataclass(frozen=True)
class FormFunction:
    """`pj_<name>` in the file of the kernels; `<stem>_<name>_<isa>` calls it for one instruction set."""

    name: str
    parameters: str
    arguments: str


def form_functions(threads: int) -> tuple[FormFunction, ...]:
    """All of them, in the order in which they are written."""
    memory, call = "const uint8_t *weights, const uint8_t *in, uint8_t *out, uint8_t *arena", "weights, in, out, arena"
    team = (", const struct pj_team *team", ", team") if threads > 1 else ("", "")
    return (
        FormFunction("run", memory + team[0], call + team[1]),
        FormFunction("inputs", "const float *reals, uint8_t *codes", "reals, codes"),
        FormFunction("outputs", "const uint8_t *codes, float *reals", "codes, reals"),
        FormFunction("check", "int *wrong", "wrong"),
    )


def real_lines(program: Graph, plan: Plan) -> Iterator[str]:
    """`pj_inputs` and `pj_outputs`: between the reals and the codes of all inputs and outputs."""
    _, inputs, outputs, _ = form_functions(1)
    for function, values, call in (
        (inputs, program.inputs, "pj_quantize(codes + {0}, reals + {0}, {1})"),
        (outputs, program.outputs, "pj_dequantize(reals + {0}, codes + {0}, {1})"),
    ):
        yield f"static void pj_{function.name}({function.parameters})"
        yield "{"
        for value in values:
            type_ = program.types[value]
            if type_.quant is None:
                continue
            rest = f"{type_.elements}, {float(type_.quant.scale).hex()}f, {type_.quant.zero_point}"
            yield f"    {call.format(plan.places[value].offset, rest)};"
        yield "}"
        yield ""


def run_reals(plan: Plan, stem: str, *, standalone: bool) -> Iterator[str]:
    """`<stem>_quantize`, `<stem>_dequantize`, and `<stem>_run_f32` around the run function."""
    up = stem.upper()
    given, weights = ("", "") if standalone else ("const void *weights, ", "weights, ")
    for name, parameters, inner in (
        ("quantize", "const float *reals, void *codes", "pj_inputs(reals, codes)"),
        ("dequantize", "const void *codes, float *reals", "pj_outputs(codes, reals)"),
    ):
        yield f"int {stem}_{name}({parameters})"
        yield "{"
        yield "    if (!reals || !codes)"
        yield f"        return {up}_ERROR_NULL;"
        yield f"    {inner};"
        yield "    return 0;"
        yield "}"
        yield ""
    yield f"int {stem}_run_f32({given}const float *in, float *out, void *arena)"
    yield "{"
    yield f"    uint8_t *codes = (uint8_t *)arena + {plan.arena_bytes};"
    yield "    int status;"
    yield "    if (!in || !out || !arena)"
    yield f"        return {up}_ERROR_NULL;"
    yield "    pj_inputs(in, codes);"
    yield f"    status = {stem}_run({weights}codes, codes + {plan.codes_bytes[0]}, arena);"
    yield "    if (status == 0)"
    yield f"        pj_outputs(codes + {plan.codes_bytes[0]}, out);"
    yield "    return status;"
    yield "}"
