"""States in C: the memory that a caller keeps from call to call, and how it begins."""

from collections.abc import Iterator

import numpy as np

from penjing.ir.graph import Graph
from penjing.program.plan import ALIGNMENT, Plan
from penjing.program.states import counters, initial_codes, most_calls

_C_TYPES = {"u8": "uint8_t", "s8": "int8_t", "s16": "int16_t", "s32": "int32_t"}
_PER_LINE = 16  # codes in a table


def keep_states(plan: Plan, threads: int) -> Iterator[str]:
    """The end of a call: the next states become the states, but for those that lie there already."""
    moved = plan.session_bytes - plan.saved_bytes
    if not moved:
        return
    copy = [f"for (i = 0; i < {moved}; i++)", f"    state[i] = state[{plan.saved_bytes} + i];"]
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
    starts = {name: initial_codes(name, state).reshape(-1) for name, state in program.states.items()}
    yield f"int {stem}_reset(void *state)"
    yield "{"
    for k, (name, codes) in enumerate(starts.items()):
        if _varies(codes):
            kind = _C_TYPES[program.states[name].type.dtype]
            yield from _table(f"    static const {kind} start_{k}[{codes.size}] =", [int(code) for code in codes])
    yield "    int32_t i;"
    yield "    if (!state)"
    yield f"        return {stem.upper()}_ERROR_NULL;"
    yield f"    if ((uintptr_t)state & {ALIGNMENT - 1})"
    yield f"        return {stem.upper()}_ERROR_ALIGNMENT;"
    yield f"    for (i = 0; i < {plan.session_bytes}; i++)"
    yield "        ((uint8_t *)state)[i] = 0;"
    for k, (name, codes) in enumerate(starts.items()):
        if codes.any():
            kind, offset = _C_TYPES[program.states[name].type.dtype], plan.places[name].offset
            yield f"    for (i = 0; i < {program.states[name].type.elements}; i++)"
            code = f"start_{k}[i % {codes.size}]" if _varies(codes) else str(int(codes[0]))
            yield f"        (({kind} *)((uint8_t *)state + {offset}))[i] = {code};"
    yield "    return 0;"
    yield "}"


def _varies(codes: np.ndarray) -> bool:
    return bool((codes != codes[0]).any())


def _table(opening: str, values: list[int]) -> Iterator[str]:
    yield f"{opening} {{"
    for i in range(0, len(values), _PER_LINE):
        yield f"        {', '.join(map(str, values[i : i + _PER_LINE]))},"
    yield "    };"


def room_lines(program: Graph, plan: Plan, stem: str) -> Iterator[str]:
    """The error for a session that has no room for the steps of a call."""
    for name, op in counters(program).items():
        position = f"((const int32_t *)((const uint8_t *)state + {plan.places[name].offset}))[0]"
        yield f"    if ({position} < 0 || {position} > {op.last})"
        yield f"        return {stem.upper()}_ERROR_FULL;"


def state_header(program: Graph, plan: Plan, stem: str) -> str:
    """Their part of the header."""
    up = stem.upper()
    most = most_calls(program)
    room = f"There is room for {most} calls of a\n * session; more return {up}_ERROR_FULL. " if most else ""
    return f"""
/* Memory of one session, which the caller keeps from call to call, at a {ALIGNMENT}-byte aligned address; what is worth
 * saving of it are its first {up}_SAVED_BYTES. {room}{stem}_reset begins a session. */
#define {up}_STATE_BYTES {plan.session_bytes}
#define {up}_SAVED_BYTES {plan.saved_bytes}
{up}_API int {stem}_reset(void *state);
"""
