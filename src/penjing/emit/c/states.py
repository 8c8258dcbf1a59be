"""States in C: the memory that a caller keeps from call to call, and how it begins."""

from collections.abc import Iterator

import numpy as np

from penjing.ir.graph import Graph
from penjing.program.plan import ALIGNMENT, Plan
from penjing.program.states import initial_codes

_C_TYPES = {"u8": "uint8_t", "s8": "int8_t", "s16": "int16_t", "s32": "int32_t"}
_PER_LINE = 16  # codes in a table


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


def state_header(plan: Plan, stem: str) -> str:
    """Their part of the header."""
    up = stem.upper()
    return f"""
/* Memory of one session, which the caller keeps from call to call, at a {ALIGNMENT}-byte aligned address. Its first
 * half is worth saving. This begins a session. */
#define {up}_STATE_BYTES {plan.session_bytes}
{up}_API int {stem}_reset(void *state);
"""
