"""Program -> C99: one header and one source file, plus the weights as bytes.

    penjing_<name>.h   sizes as constants, quantization of inputs and outputs, the functions
    penjing_<name>.c   the kernels that the program needs, one constant struct per node, and the run function

The source is init-free: no malloc, no global state, no I/O; the caller owns input, output and arena. The same program
gives the same bytes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

from penjing.core.digests import digest_bytes
from penjing.emit.c.header import comment_text, header_text
from penjing.ir.graph import Graph, Node
from penjing.ops.operator import IntegerOperator, Param
from penjing.program.plan import ALIGNMENT, Plan
from penjing.program.symbols import ABI, c_stem


@dataclass(frozen=True)
class Emitted:
    """File name -> text, and the stem that all C names begin with (`penjing_<name>`)."""

    stem: str
    sources: dict[str, str]


def emit_c(program: Graph, plan: Plan, weights: bytes, *, standalone: bool = False) -> Emitted:
    """The C sources of a lowered program.

    Args:
        program: stage `lowered`.
        plan: its memory plan.
        weights: its packed weights, from which the header's digest is taken.
        standalone: whether the weights are linked into the library (symbol `<stem>_weights`) or handed to each run.
    """
    stem = c_stem(program.name)
    header = header_text(program, plan, stem, digest_bytes(weights), standalone=standalone, abi=ABI)
    source = "\n".join(_source_lines(program, plan, stem, standalone=standalone))
    return Emitted(stem, {f"{stem}.h": header, f"{stem}.c": source + "\n"})


def kernel_text(name: str) -> str:
    """The generic C source of a kernel, or of `pj.h`."""
    return files("penjing.kernels").joinpath("generic").joinpath(name).read_text(encoding="utf-8")


def struct_literal(params: Mapping[str, Param]) -> str:
    """The initialiser of a kernel's struct; floats are written in hexadecimal, so that they read back exactly."""
    return "{" + ", ".join(f".{key} = {_literal(value)}" for key, value in params.items()) + "}"


def _source_lines(program: Graph, plan: Plan, stem: str, *, standalone: bool) -> Iterator[str]:
    yield f"/* {stem}.c: made by penjing from a trained network; do not edit. */"
    yield f'#include "{stem}.h"'
    yield ""
    yield kernel_text("pj.h").rstrip()
    for op in sorted({node.op.name for node in program.nodes if not _is_free(plan, node)}):
        yield ""
        yield kernel_text(f"{op}.c").rstrip()
    yield ""
    for i, node in enumerate(program.nodes):
        if not _is_free(plan, node):
            yield _params(program, i, node)
    if standalone:
        yield f"extern const uint8_t {stem}_weights[{max(plan.weights_bytes, 1)}];"
    yield ""
    yield from _run(program, plan, stem, standalone=standalone)
    yield ""
    yield from _self_test(stem)


def _is_free(plan: Plan, node: Node) -> bool:
    """Whether the node moves no byte because its output lies where its input lies."""
    assert isinstance(node.op, IntegerOperator)
    source, target = plan.places[node.inputs[0]], plan.places[node.outputs[0]]
    return node.op.alias and (source.base, source.offset) == (target.base, target.offset)


def _params(program: Graph, index: int, node: Node) -> str:
    assert isinstance(node.op, IntegerOperator)
    params = node.op.kernel_params(program.input_types(node), program.output_types(node))
    text = struct_literal(params)
    return f"/* {comment_text(node.outputs[0])} */\nstatic const struct pj_{node.op.name} pj_node_{index} = {text};"


def _literal(value: Param) -> str:
    if isinstance(value, tuple):
        return "{" + ", ".join(str(item) for item in value) + "}"
    return f"{value.hex()}f" if isinstance(value, float) else str(value)


def _run(program: Graph, plan: Plan, stem: str, *, standalone: bool) -> Iterator[str]:
    arguments = "const void *in, void *out, void *arena"
    yield f"int {stem}_run({'' if standalone else 'const void *weights, '}{arguments})"
    yield "{"
    bases = {place.base for place in plan.places.values()} | {"arena"}
    if standalone and "weights" in bases:
        yield f"    const uint8_t *weights = {stem}_weights;"
    checked = ["in", "out", *(["arena"] if plan.arena_bytes else []), *([] if standalone else ["weights"])]
    yield f"    if ({' || '.join(f'!{name}' for name in checked)})"
    yield f"        return {stem.upper()}_ERROR_NULL;"
    aligned = [name for name in checked if name in ("arena", "weights")]
    if aligned:
        yield f"    if (({' | '.join(f'(uintptr_t){name}' for name in aligned)}) & {ALIGNMENT - 1})"
        yield f"        return {stem.upper()}_ERROR_ALIGNMENT;"
    if not plan.arena_bytes:
        yield "    PJ_UNUSED(arena);"
    for i, node in enumerate(program.nodes):
        if not _is_free(plan, node):
            yield from _call(plan, i, node)
    yield "    return 0;"
    yield "}"


def _call(plan: Plan, index: int, node: Node) -> Iterator[str]:
    inputs = ", ".join(_address(plan, name) for name in node.inputs)
    outputs = ", ".join(_address(plan, name) for name in node.outputs)
    scratch = plan.scratch.get(index)
    where = f"(uint8_t *)arena + {scratch.offset}" if scratch else "0"
    yield "    {"
    yield f"        const void *const i[] = {{{inputs}}};"
    yield f"        void *const o[] = {{{outputs}}};"
    yield f"        pj_{node.op.name}(&pj_node_{index}, i, o, {where});"
    yield "    }"


def _address(plan: Plan, name: str) -> str:
    place = plan.places[name]
    kind = "const uint8_t *" if place.base in ("in", "weights") else "uint8_t *"
    return f"({kind}){place.base} + {place.offset}"


def _self_test(stem: str) -> Iterator[str]:
    """A sum that comes out one step apart when a compiler contracts it, and rounding at exact ties."""
    yield f"int {stem}_self_test(void)"
    yield "{"
    yield "    /* equal products cancel when both are rounded; a fused multiply-add keeps the tail of one */"
    yield "    volatile int32_t acc = 60, d = -60;"
    yield "    volatile float multiplier = 0.3f, scale = 0.3f, half = 0.5f;"
    yield "    volatile float sum = pj_scaled_sum(acc, multiplier, d, scale);"
    yield "    if (sum != 0.0f)"
    yield f"        return {stem.upper()}_ERROR_ARITHMETIC;"
    yield "    if (pj_round(half, -255.0f, 255.0f) != 0 || pj_round(3.0f * half, -255.0f, 255.0f) != 2 ||"
    yield "        pj_round(-5.0f * half, -255.0f, 255.0f) != -2 || pj_round(1000.0f * half, -3.0f, 255.0f) != 255)"
    yield f"        return {stem.upper()}_ERROR_ARITHMETIC;"
    yield "    return 0;"
    yield "}"
