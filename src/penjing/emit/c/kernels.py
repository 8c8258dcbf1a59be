"""The C texts of the package: which file holds an operator's kernel, and what it has to follow."""

from collections.abc import Iterable
from importlib.resources import files

# The parts of a vocabulary, in the order in which they build upon each other.
FAMILIES = ("base", "linear", "sparse", "elementwise", "recurrent", "depthwise", "attention")


def kernel_text(name: str) -> str:
    """The text of `pj.h` or of a kernel: `q_add.c` is generic, others name their folder, as `simd/v_conv2d.c`.

    The vocabulary of an instruction set, `isa/<isa>.h`, is a folder of parts.
    """
    folder, _, file = name.rpartition("/")
    there = files("penjing.kernels").joinpath(folder or "generic")
    parts = there.joinpath(file.removesuffix(".h"))
    if folder == "isa" and parts.is_dir():
        return "\n".join(parts.joinpath(f"{part}.h").read_text(encoding="utf-8") for part in FAMILIES)
    return there.joinpath(file).read_text(encoding="utf-8")


def kernel_file(op: str, *, simd: bool) -> str:
    """The name of an operator's kernel, as `kernel_text` takes it: the SIMD one where there is one and it is wanted."""
    if simd and files("penjing.kernels").joinpath("simd").joinpath(f"{op}.c").is_file():
        return f"simd/{op}.c"
    return f"{op}.c"


# What SIMD kernels share, in the order in which it is included.
SIMD_HEADERS = (
    "simd/pj_simd.h",
    "simd/pj_elementwise.h",
    "simd/pj_linear.h",
    "simd/pj_sparse.h",
    "simd/pj_recurrent.h",
    "simd/pj_attention.h",
    "simd/pj_norm.h",
)

FLOATS = "pj_floats.h"  # what kernels in float32 share: compiled for an instruction set, so behind its vocabulary


def uses_floats(names: Iterable[str]) -> bool:
    """Whether one of these operators computes in float32."""
    return any(name.startswith("f_") for name in names)


def opening_files(*, isa: str | None) -> list[str]:
    """What stands before the kernels: the shared headers, and the vocabulary of an instruction set."""
    return ["pj.h", *([f"isa/{isa}.h", *SIMD_HEADERS] if isa else []), FLOATS]


# An instruction set is switched on for all functions up to the end of its file. gcc needs no word for that end.
CLOSING = """\
#if defined(__clang__) && defined(PJ_TARGETED)
#pragma clang attribute pop
#endif"""
