"""States in C: the memory that a caller keeps from call to call, and how it begins."""

from collections.abc import Iterator

from penjing.ir.graph import Graph
from penjing.program.plan import ALIGNMENT, Plan
from penjing.program.states import initial_code

_C_TYPES = {"u8": "uint8_t", "s8": "int8_t", "s16": "int16_t", "s32": "int32_t"}


def keep_states(plan: Plan, threads: int) -> Iterator[str]:
    """The end of a call: the next states become the states."""
    half = plan.session_bytes // 2
    copy = [f"for (i = 0; i < {half}; i++)", f"    state[i] = state[{half} + i];"]
    yield "    {"
    yield "        int32_t i;"
    if threads > 1:
        yield "        if (team->part.index == 0)"
        copy = [f"    {line}" for line in copy]
    yield from (f"        {line}" for line in copy)
    if threads > 1:
        yield "        pj_meet(team);"
    yield "    }"


def reset_lines(program: Graph, plan: Plan, stem: str) -> Iterator[str]:
    """`<stem>_reset`."""
    yield f"int {stem}_reset(void *state)"
    yield "{"
    yield "    int32_t i;"
    yield "    if (!state)"
    yield f"        return {stem.upper()}_ERROR_NULL;"
    yield f"    if ((uintptr_t)state & {ALIGNMENT - 1})"
    yield f"        return {stem.upper()}_ERROR_ALIGNMENT;"
    yield f"    for (i = 0; i < {plan.session_bytes}; i++)"
    yield "        ((uint8_t *)state)[i] = 0;"
    for name, state in program.states.items():
        code, kind = initial_code(name, state), _C_TYPES[state.type.dtype]
        if code:
            offset = plan.places[name].offset
            yield f"    for (i = 0; i < {state.type.elements}; i++)"
            yield f"        (({kind} *)((uint8_t *)state + {offset}))[i] = {code};"
    yield "    return 0;"
    yield "}"


def state_header(plan: Plan, stem: str) -> str:
    """Their part of the header."""
    up = stem.upper()
    return f"""
/* Memory of one session, which the caller keeps from call to call, at a {ALIGNMENT}-byte aligned address. Its first
 * half is worth saving. This begins a session. */
#define {up}_STATE_BYTES {plan.session_bytes}
{up}_API int {stem}_reset(void *state);
"""
