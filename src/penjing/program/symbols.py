"""The C names of a generated library."""

import re

from penjing.core.errors import InvalidInput

ABI = 1


def c_stem(name: str) -> str:
    """`penjing_<name>` with everything that C does not allow in a name replaced by `_`."""
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if not clean.strip("_"):
        raise InvalidInput(f"{name!r} leaves nothing to name C functions by", hint="give the model a name of letters")
    return f"penjing_{clean}"
