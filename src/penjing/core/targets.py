"""The table of targets: what penjing can build for, how a compiler is told so, and what runs the result elsewhere.

To add a target, add a row. A row says which machine it is, which baseline CPU every such machine has (kernels for more
than the baseline are chosen at run time), and which C library the two products are linked with:

* executables are static (musl), so that an emulator needs no copy of the target's system;
* libraries bind to the oldest glibc that the compiler supports, so that they load on every system of the last ten
  years.
"""

import platform
import sys
from dataclasses import dataclass, field
from typing import Literal

from penjing.core.errors import InvalidInput, ToolchainError

HOST = "host"

Kind = Literal["elf", "macho", "wasm"]


@dataclass(frozen=True)
class Target:
    """One kind of machine.

    Attributes:
        name: the name in commands, file names and the manifest: processor, dash, system.
        triple: what zig calls it for executables.
        library_triple: the same for shared libraries.
        kind: format of object files.
        emulator: programs that can run its executables on another machine; the first that is installed serves.
        emulator_package: what to install when none is.
        library_suffix: ending of a shared library's file name.
        cflags: the baseline CPU, in the words of gcc and clang.
        zig_cflags: the same in the words of zig, where its default for the triple is something else.
        system: `platform.system()` in lower case; '' where Python does not run.
        machines: values of `platform.machine()`, in lower case.
        isas: instruction sets with SIMD kernels, best first, of which the library chooses one where it runs; none means
            plain C for the baseline CPU.
        pointer_bits: 32 or 64. A 64-bit kernel may run a 32-bit system, and then names itself by the kernel.
    """

    name: str
    triple: str
    library_triple: str
    kind: Kind
    emulator: tuple[str, ...]
    emulator_package: str
    library_suffix: str
    cflags: tuple[str, ...] = ()
    zig_cflags: tuple[str, ...] = ()
    isas: tuple[str, ...] = ()
    system: str = field(default="", repr=False)
    machines: tuple[str, ...] = field(default=(), repr=False)
    pointer_bits: int = field(default=64, repr=False)

    @property
    def optimize(self) -> str:
        """How kernels are compiled. Where vectors are written by hand, -O3 makes code larger and not faster."""
        return "-O2" if self.isas else "-O3"


TARGETS: tuple[Target, ...] = (
    Target(
        name="x86_64-linux",
        triple="x86_64-linux-musl",
        library_triple="x86_64-linux-gnu.2.17",
        kind="elf",
        emulator=("qemu-x86_64", "qemu-x86_64-static"),
        emulator_package="qemu-user",
        library_suffix=".so",
        cflags=("-march=x86-64",),
        zig_cflags=("-mcpu=x86_64",),
        isas=("x86_avx512vnni", "x86_avx2", "scalar"),
        system="linux",
        machines=("x86_64", "amd64"),
    ),
    Target(
        name="aarch64-linux",
        triple="aarch64-linux-musl",
        library_triple="aarch64-linux-gnu.2.17",
        kind="elf",
        emulator=("qemu-aarch64", "qemu-aarch64-static"),
        emulator_package="qemu-user",
        library_suffix=".so",
        cflags=("-march=armv8-a",),
        system="linux",
        machines=("aarch64", "arm64"),
    ),
    Target(
        name="armv7-linux",
        triple="arm-linux-musleabihf",
        library_triple="arm-linux-gnueabihf.2.17",
        kind="elf",
        emulator=("qemu-arm", "qemu-arm-static"),
        emulator_package="qemu-user",
        library_suffix=".so",
        cflags=("-march=armv7-a", "-mfpu=neon", "-mfloat-abi=hard"),
        zig_cflags=("-mcpu=generic+v7a+vfp3+neon",),
        system="linux",
        machines=("armv7l", "armv8l", "aarch64"),
        pointer_bits=32,
    ),
    Target(
        name="riscv64-linux",
        triple="riscv64-linux-musl",
        library_triple="riscv64-linux-gnu.2.27",  # the first glibc for this processor
        kind="elf",
        emulator=("qemu-riscv64", "qemu-riscv64-static"),
        emulator_package="qemu-user",
        library_suffix=".so",
        cflags=("-march=rv64gc", "-mabi=lp64d"),
        zig_cflags=("-mcpu=baseline_rv64",),
        system="linux",
        machines=("riscv64",),
    ),
    Target(
        name="aarch64-macos",
        triple="aarch64-macos",
        library_triple="aarch64-macos",
        kind="macho",
        emulator=(),
        emulator_package="",
        library_suffix=".dylib",
        system="darwin",
        machines=("arm64",),
    ),
    Target(
        name="wasm32",
        triple="wasm32-wasi",
        library_triple="wasm32-wasi",
        kind="wasm",
        emulator=("node", "nodejs"),
        emulator_package="nodejs (20 or later)",
        library_suffix=".wasm",
        zig_cflags=("-msimd128",),
        pointer_bits=32,
    ),
)


def target_names() -> tuple[str, ...]:
    """Every name that `find_target` knows."""
    return (HOST, *(target.name for target in TARGETS))


def find_target(name: str) -> Target:
    """The target called `name`; `host` is the machine this runs on.

    Raises:
        InvalidInput: no target has that name.
        ToolchainError: `host` on a machine that is not in the table.
    """
    if name == HOST:
        return host_target()
    for target in TARGETS:
        if target.name == name:
            return target
    raise InvalidInput(f"there is no target {name[:80]!r}", hint=f"choose one of {', '.join(target_names())}")


def host_target() -> Target:
    """The target that this Python runs on.

    Raises:
        ToolchainError: the machine is not in the table.
    """
    system, machine = platform.system().lower(), platform.machine().lower()
    bits = 64 if sys.maxsize > 2**32 else 32
    for target in TARGETS:
        if target.system == system and machine in target.machines and target.pointer_bits == bits:
            return target
    raise ToolchainError(
        f"penjing has no target for this machine: {bits}-bit {machine or 'unknown processor'}, {system or 'no system'}",
        hint="name a target to build for another machine; trays also run here without a library, by the interpreter",
    )
