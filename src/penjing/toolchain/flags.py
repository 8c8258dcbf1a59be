"""The options of every compilation: what the exactness of the arithmetic and the size of the result ask for.

No option may let a compiler change a result. `-fno-math-errno` drops the error variable of mathematical functions, not
a bit of their values, and saves the call of a library for a square root. `-ffast-math` is never among these options.
"""

from penjing.toolchain.compilers import Compiler, Product

_LANGUAGE = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
_ARITHMETIC = ("-ffp-contract=off", "-fno-math-errno")
_QUIET = (
    "-g0",  # zig adds debug information, and with it paths of this machine, unless told not to
    "-fno-sanitize=undefined",  # zig adds it to unoptimised code; callers ask for it by name
)
_SMALL = (
    # C unwinds nothing; on 32-bit Arm these tables pull in an unwinder a hundred times the size of a small model.
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    "-fdata-sections",
    "-fvisibility=hidden",
)

# Bytes. wasm-ld puts the stack first, so that an overflow traps instead of overwriting data.
_WASM_STACK_BYTES = 256 * 1024

_LINK_LIBRARY = {
    "elf": ("-shared", "-s", "-Wl,--gc-sections", "-Wl,--as-needed", "-Wl,-z,defs"),
    "macho": ("-shared", "-Wl,-x", "-Wl,-dead_strip"),
    # A reactor: functions to call, no main. Its caller owns the memory above __heap_base.
    "wasm": (
        "-mexec-model=reactor",
        "-s",
        "-Wl,--export-dynamic",
        "-Wl,--export=__heap_base",
        f"-Wl,-z,stack-size={_WASM_STACK_BYTES}",
    ),
}
# GNU ld pads segments to whole pages for protections that code without data to write does not need; zig's linker is
# compact as it is. Nothing runs at loading, and the manifest has the digest that a build id would repeat.
_COMPACT_ELF = ("-nostartfiles", "-Wl,-z,noseparate-code", "-Wl,-z,norelro", "-Wl,--build-id=none")
_LINK_EXECUTABLE = {
    "elf": ("-s", "-Wl,--gc-sections", "-Wl,--as-needed"),
    "macho": ("-Wl,-x", "-Wl,-dead_strip"),
    "wasm": ("-s",),
}


def compile_flags(compiler: Compiler, product: Product, optimize: str) -> tuple[str, ...]:
    """Options that turn one C or assembly file into an object."""
    independent = product == "library" and compiler.target.kind != "wasm"
    return (
        *compiler.target_flags(product),
        *_LANGUAGE,
        *_ARITHMETIC,
        *_QUIET,
        *_SMALL,
        *(("-fPIC",) if independent else ()),
        optimize,
    )


def libraries(compiler: Compiler) -> tuple[str, ...]:
    """What to link after the objects; libraries that nothing needs leave no trace."""
    return ("-lm", "-lpthread") if compiler.target.kind == "elf" else ("-lm",)


def link_flags(compiler: Compiler, product: Product) -> tuple[str, ...]:
    """Options, before the objects, that make the product from them."""
    kind = compiler.target.kind
    if product == "library":
        compact = _COMPACT_ELF if kind == "elf" and compiler.family != "zig" else ()
        return (*compiler.target_flags(product), *_LINK_LIBRARY[kind], *compact)
    static = ("-static",) if compiler.family == "zig" and kind == "elf" else ()
    return (*compiler.target_flags(product), *static, *_LINK_EXECUTABLE[kind])
