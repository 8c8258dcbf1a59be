"""Targets, the compilers that serve them, and emulators that run the result here.

    target = find_target("aarch64-linux")
    library = compile_library({"model.c": text}, target)      # bytes of a shared library

Nothing here knows what the C code means.
"""

from penjing.core.targets import HOST, TARGETS, Target, find_target, host_target, target_names
from penjing.toolchain.build import compile_executable, compile_library
from penjing.toolchain.compilers import Compiler, find_compiler
from penjing.toolchain.embed import assembly_for_blob
from penjing.toolchain.emulate import has_emulator, run_executable
from penjing.toolchain.environment import is_first_use

__all__ = [
    "HOST",
    "TARGETS",
    "Compiler",
    "Target",
    "assembly_for_blob",
    "compile_executable",
    "compile_library",
    "find_compiler",
    "find_target",
    "has_emulator",
    "host_target",
    "is_first_use",
    "run_executable",
    "target_names",
]
