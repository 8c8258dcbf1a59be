"""The choice of an instruction set where the library runs."""

from collections.abc import Iterator, Sequence

from penjing.emit.c.forms import FormFunction
from penjing.emit.c.kernels import kernel_text


def dispatch_lines(stem: str, isas: Sequence[str], functions: Sequence[FormFunction]) -> Iterator[str]:
    """`<stem>_use`, `<stem>_isa`, and `functions` that call those of the chosen form.

    `isas` are sorted best first; `pj_detect` counts from the last, which every processor runs.
    """
    up = stem.upper()
    yield kernel_text("isa/x86_detect.h").rstrip()
    yield ""
    for isa in isas:
        yield from (f"void {stem}_{one.name}_{isa}({one.parameters});" for one in functions)
    yield ""
    yield "/* The form in use, -1 until the first call. */"
    yield "static int pj_form = -1;"
    yield ""
    yield f"int {stem}_isa(void)"
    yield "{"
    yield "    int form = __atomic_load_n(&pj_form, __ATOMIC_RELAXED);"
    yield "    if (form < 0) {"
    yield "        const int best = pj_detect();"
    yield "        /* where another thread was first, `form` becomes its choice */"
    yield "        if (__atomic_compare_exchange_n(&pj_form, &form, best, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))"
    yield "            form = best;"
    yield "    }"
    yield "    return form;"
    yield "}"
    yield ""
    yield f"int {stem}_use(int isa)"
    yield "{"
    yield "    if (isa < 0 || isa > pj_detect())"
    yield f"        return {up}_ERROR_ISA;"
    yield "    __atomic_store_n(&pj_form, isa, __ATOMIC_RELAXED);"
    yield "    return 0;"
    yield "}"
    for one in functions:
        yield ""
        yield f"static void pj_{one.name}({one.parameters})"
        yield "{"
        yield f"    switch ({stem}_isa()) {{"
        for number, isa in enumerate(reversed(isas)):
            yield f"    case {number}:" if number + 1 < len(isas) else "    default:"
            yield f"        {stem}_{one.name}_{isa}({one.arguments});"
            yield "        break;"
        yield "    }"
        yield "}"
