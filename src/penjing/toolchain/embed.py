"""Binary data in an object file: assembly text that draws a file in by `.incbin`.

Integer text for the same bytes takes a compiler seconds for each megabyte; this takes it no time.
"""

import re

from penjing.core.errors import InvalidInput
from penjing.core.targets import Target
from penjing.toolchain.source_names import check_source_name

BLOB_ALIGNMENT_BYTES = 64

_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_ELF = """\
\t.section .rodata.{symbol},"a",%progbits
\t.globl {symbol}
\t.hidden {symbol}
\t.type {symbol}, %object
\t.p2align 6
{symbol}:
\t.incbin "{file_name}"
.L{symbol}_end:
\t.size {symbol}, .L{symbol}_end - {symbol}
\t.section .note.GNU-stack,"",%progbits
"""

_WASM = """\
\t.section .rodata.{symbol},"",@
\t.globl {symbol}
\t.hidden {symbol}
\t.type {symbol}, @object
\t.p2align 6
{symbol}:
\t.incbin "{file_name}"
.L{symbol}_end:
\t.size {symbol}, .L{symbol}_end - {symbol}
"""

_MACHO = """\
\t.section __TEXT,__const
\t.globl _{symbol}
\t.private_extern _{symbol}
\t.p2align 6
_{symbol}:
\t.incbin "{file_name}"
\t.subsections_via_symbols
"""

_TEXTS = {"elf": _ELF, "wasm": _WASM, "macho": _MACHO}


def assembly_for_blob(symbol: str, file_name: str, target: Target) -> str:
    """The text of a `.S` file that defines `symbol` as the contents of `file_name`.

    The data is read-only, aligned to 64 bytes, and visible inside the library alone. C declares it as
    `extern const unsigned char symbol[];`. `file_name` is the name of another source of the same build.

    Raises:
        InvalidInput: `symbol` is no C identifier, or `file_name` no plain relative name.
    """
    if _SYMBOL.fullmatch(symbol) is None:
        raise InvalidInput(f"{symbol[:80]!r} is not a C identifier")
    check_source_name(file_name)
    return _TEXTS[target.kind].format(symbol=symbol, file_name=file_name)
