"""The C names of a generated library, and what its callers agree on."""

import re

from penjing.core.errors import InvalidInput

ABI = 2

STATUS_FULL = -8  # a session has no room for the steps of a call

# What a pool of threads takes of its caller's memory, with any C library: checked where the pool is compiled.
POOL_BYTES = 1024


def c_stem(name: str) -> str:
    """`penjing_<name>` with everything that C does not allow in a name replaced by `_`."""
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if not clean.strip("_"):
        raise InvalidInput(f"{name!r} leaves nothing to name C functions by", hint="give the model a name of letters")
    return f"penjing_{clean}"
