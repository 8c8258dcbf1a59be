"""The functions that a library holds once for each instruction set, and how they are called."""

from collections.abc import Iterator
from dataclasses import dataclass

from penjing.ir.graph import Graph
from penjing.ir.lengths import length_bound
from penjing.ops.embedding import id_rows
from penjing.program.lengths import elements_of
from penjing.program.plan import ALIGNMENT, Plan


@dataclass(frozen=True)
class FormFunction:
    """`pj_<name>` in the file of the kernels; `<stem>_<name>_<isa>` calls it for one instruction set."""

    name: str
    parameters: str
    arguments: str


def form_functions(threads: int, states: bool = False, *, length: bool = False) -> tuple[FormFunction, ...]:
    """All of them, in the order in which they are written.

    `states`: whether calls get memory for states; `length`: whether they get the length of a sequence.

    `reals` is null, or what the first nodes quantize and transpose in one go instead of moving codes.
    """
    memory, call = "const uint8_t *weights, const uint8_t *in, uint8_t *out, uint8_t *arena", "weights, in, out, arena"
    if states:
        memory, call = f"{memory}, uint8_t *state", f"{call}, state"
    team = (", const struct pj_team *team", ", team") if threads > 1 else ("", "")
    steps = (", int32_t length", ", length") if length else ("", "")
    memory, call = f"{memory}, const float *reals", f"{call}, reals"
    return (
        FormFunction("run", memory + steps[0] + team[0], call + steps[1] + team[1]),
        FormFunction("inputs", "const float *reals, uint8_t *codes" + steps[0], "reals, codes" + steps[1]),
        FormFunction("outputs", "const uint8_t *codes, float *reals" + steps[0], "codes, reals" + steps[1]),
        FormFunction("check", "int *wrong", "wrong"),
    )


def state_words(plan: Plan) -> tuple[str, str]:
    """The memory of a session in a function's parameters and in its calls, behind the arena; '' without states."""
    return (", void *state", ", state") if plan.states_bytes else ("", "")


def id_lines(program: Graph, plan: Plan, stem: str, memory: str) -> Iterator[str]:
    """An error for ids that name no row of their table; `memory` points to the codes of all inputs."""
    for name, rows in id_rows(program).items():
        at, n = plan.places[name].offset, elements_of(program.types[name], length_bound(program) or 1)
        yield f"    if (pj_wrong_ids((const uint8_t *){memory} + {at}, {n}, {rows}))"
        yield f"        return {stem.upper()}_ERROR_ID;"


def length_words(program: Graph) -> tuple[str, str]:
    """The length of a sequence as the last parameter of a function, and in its calls; '' where lengths are fixed."""
    return (", int32_t length", ", length") if length_bound(program) else ("", "")


def length_check(program: Graph, stem: str) -> Iterator[str]:
    """An error for a sequence of no steps or of more than there is memory for."""
    longest = length_bound(program)
    if longest is not None:
        yield f"    if (length < 1 || length > {longest})"
        yield f"        return {stem.upper()}_ERROR_LENGTH;"


def check_lines(plan: Plan, stem: str, *, standalone: bool, arena: bool) -> Iterator[str]:
    """Errors for null and misaligned pointers; `arena`: whether the call needs one."""
    if standalone:
        yield f"    const uint8_t *weights = {stem}_weights;"
    checked = ["in", "out", *(["arena"] if arena else []), *([] if standalone else ["weights"])]
    checked += ["state"] if plan.states_bytes else []
    yield f"    if ({' || '.join(f'!{name}' for name in checked)})"
    yield f"        return {stem.upper()}_ERROR_NULL;"
    aligned = [name for name in checked if name in ("arena", "weights", "state")]
    if aligned:
        yield f"    if (({' | '.join(f'(uintptr_t){name}' for name in aligned)}) & {ALIGNMENT - 1})"
        yield f"        return {stem.upper()}_ERROR_ALIGNMENT;"
