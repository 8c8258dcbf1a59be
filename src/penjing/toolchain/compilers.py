"""Which C compiler serves a target.

For the machine itself: the one that `PENJING_CC` names, then cc, gcc or clang on PATH, then zig. For every other
machine: zig, which the `ziglang` package brings along and which carries the C libraries of all targets.
"""

import functools
import importlib.util
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from penjing.core import knobs
from penjing.core.errors import MissingCompiler, ToolchainError
from penjing.core.targets import Target, host_target

Family = Literal["gcc", "clang", "zig"]
Product = Literal["executable", "library"]

_ON_PATH = ("cc", "gcc", "clang")
_ZIG = (sys.executable, "-m", "ziglang", "cc")
_ZIG_NAMES = ("zig", "ziglang", "python-zig")
_VERSION_TIMEOUT_S = 60
_INSTALL_ZIG = "pip install 'penjing[compress]', which brings the ziglang compiler for every target"


@dataclass(frozen=True)
class Compiler:
    """A C compiler that answered when asked for its version.

    Attributes:
        command: its words, without any option.
        family: whose options it takes.
        target: what it is to build for.
    """

    command: tuple[str, ...]
    family: Family
    target: Target

    def version(self) -> str:
        """What it calls itself: name and version, one line, no path of this machine."""
        first = _first_line(self.command, "--version") or "unknown"
        if self.family != "zig":
            return first
        return f"zig {_first_line(self.command[:-1], 'version')} ({first})"

    @property
    def identity(self) -> str:
        """What the manifest records: the version and, where the compiler serves several targets, the target."""
        return f"{self.version()} -target {self.target.library_triple}" if self.family == "zig" else self.version()

    def target_flags(self, product: Product) -> tuple[str, ...]:
        """The options that choose the target and its baseline CPU."""
        if self.family != "zig":
            return self.target.cflags
        triple = self.target.library_triple if product == "library" else self.target.triple
        return ("-target", triple, *self.target.zig_cflags)


def find_compiler(target: Target) -> Compiler:
    """The compiler for `target`.

    Raises:
        MissingCompiler: none is installed, or the one that `PENJING_CC` names does not run.
    """
    if not is_host(target):
        return _zig_for(target)
    named = knobs.CC.text()
    if named:
        return _named_compiler(named, target)
    for name in _ON_PATH:
        path = shutil.which(name)
        if path is not None and _first_line((path,), "--version") is not None:
            return Compiler((path,), _family((path,)), target)
    return _zig_for(target)


def is_host(target: Target) -> bool:
    """Whether `target` is the machine that this runs on."""
    return target.system != "" and target == _host_or_none()


def _host_or_none() -> Target | None:
    """A machine that the table does not know can still build for others."""
    try:
        return host_target()
    except ToolchainError:
        return None


def _named_compiler(text: str, target: Target) -> Compiler:
    where = f"{knobs.CC.name}={text}"
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise MissingCompiler(f"{knobs.CC.name} cannot be read as a command: {error}", where=where) from None
    program = shutil.which(words[0]) if words else None
    command = (program, *words[1:]) if program is not None else ()
    if program is None or _first_line(command, "--version") is None:
        raise MissingCompiler(
            f"the compiler that {knobs.CC.name} names does not run",
            where=where,
            hint=f"name a C compiler, such as gcc, or unset {knobs.CC.name}",
        )
    return Compiler(command, _family(command), target)


def _zig_for(target: Target) -> Compiler:
    if importlib.util.find_spec("ziglang") is None or _first_line(_ZIG, "--version") is None:
        raise MissingCompiler(
            f"no C compiler for {target.name} was found",
            where=f"target {target.name}; looked for {_searched(target)}",
            hint=_INSTALL_ZIG,
        )
    return Compiler(_ZIG, "zig", target)


def _searched(target: Target) -> str:
    zig = "the Python package ziglang"
    return f"{', '.join(_ON_PATH)} on PATH, {zig}" if is_host(target) else zig


def _family(command: tuple[str, ...]) -> Family:
    if command[-1] == "cc" and len(command) > 1 and Path(command[-2]).stem in _ZIG_NAMES:
        return "zig"
    return "clang" if "clang" in (_first_line(command, "--version") or "") else "gcc"


@functools.lru_cache(maxsize=32)
def _first_line(command: tuple[str, ...], question: str) -> str | None:
    """The first line of the answer; None when the program does not run or refuses."""
    try:
        answer = subprocess.run(
            [*command, question],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = answer.stdout.decode("utf-8", errors="replace").splitlines()
    return lines[0].strip() if answer.returncode == 0 and lines else None
