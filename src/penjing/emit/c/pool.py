"""The pool of threads that goes with a library for more than one: a C file and its part of the header."""

from importlib.resources import files

from penjing.emit.c.forms import state_words
from penjing.program.plan import Plan
from penjing.program.symbols import POOL_BYTES


def pool_text(plan: Plan, stem: str, *, standalone: bool) -> str:
    """`<stem>_pool.c`, for systems with POSIX threads."""
    given = "" if standalone else "weights, "
    parameter, argument = state_words(plan)
    words = {
        "@STEM@": stem,
        "@UP@": stem.upper(),
        "@WEIGHTS@": "" if standalone else "pool->weights, ",
        "@KEEP_WEIGHTS@": "" if standalone else "pool->weights = weights, ",
        "@STATE@": ", pool->state" if plan.states_bytes else "",
        "@KEEP_STATE@": ", pool->state = state" if plan.states_bytes else "",
        "@PARAMETERS@": ("" if standalone else "const void *weights, ")
        + f"const void *in, void *out, void *arena{parameter}",
        "@ARGUMENTS@": f"{given}in, out, arena{argument}",
    }
    text = files("penjing.kernels").joinpath("pool").joinpath("pool.c").read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def pool_declarations(up: str, stem: str, weights_argument: str, state_argument: str) -> str:
    """The pool's part of the header."""
    return f"""
/* A pool of threads for {stem}_run_part, on systems that have POSIX threads: {stem}_pool.c. */
#define {up}_POOL_BYTES {POOL_BYTES}

/* Starts `threads` - 1 threads (the caller is the first) in {up}_POOL_BYTES of memory, aligned as malloc aligns.
 * Returns 0 or an error. */
{up}_API int {stem}_pool_start(void *pool, int threads);

/* {stem}_run on all threads of the pool; one call at a time. */
{up}_API int {stem}_pool_run(void *pool, {weights_argument}const void *in, void *out, void *arena{state_argument});

/* Ends the threads. Only a pool that was started may be stopped, once. */
{up}_API void {stem}_pool_stop(void *pool);
"""
