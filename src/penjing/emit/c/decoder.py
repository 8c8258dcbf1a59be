"""The decoder of packs that goes with a library whose weights a tray holds: a C file and its header."""

from importlib.resources import files

# Decoding is a matter of milliseconds, once: small code is worth more here than the last of its speed.
_OPENING = """\
#if defined(__clang__)
#pragma clang attribute push(__attribute__((minsize)), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC optimize("Os", "no-inline-functions-called-once")
#endif
"""
_CLOSING = """\
#if defined(__clang__)
#pragma clang attribute pop
#endif
"""


def decoder_texts(stem: str) -> dict[str, str]:
    """`<stem>_decode.h` and `<stem>_decode.c`: `pj_decode` under the name of the model, and seen from outside."""
    header, code = (_renamed(f"pj_decode{ending}", stem) for ending in (".h", ".c"))
    opening = f'#include "{stem}.h"\n\n#define PJ_DECODE_API {stem.upper()}_API\n'
    return {f"{stem}_decode.h": header, f"{stem}_decode.c": f"{opening}{_OPENING}\n{code}\n{_CLOSING}"}


def _renamed(name: str, stem: str) -> str:
    text = files("penjing.kernels").joinpath("decode").joinpath(name).read_text(encoding="utf-8")
    words = {
        "pj_pack_": f"{stem}_pack_",
        "pj_decode.h": f"{stem}_decode.h",
        "PENJING_PJ_DECODE_H": f"{stem.upper()}_DECODE_H",
    }
    for word, value in words.items():
        text = text.replace(word, value)
    return text
