"""Every environment variable that penjing reads, in one table; nothing else may touch `os.environ`."""

import os
from dataclasses import dataclass
from pathlib import Path

from penjing.core.errors import InvalidInput


@dataclass(frozen=True)
class Knob:
    """One environment variable: its name, what it does, and its default as text ('' means unset)."""

    name: str
    meaning: str
    default: str = ""

    def text(self) -> str:
        """The value as set by the user, or the default."""
        return os.environ.get(self.name, self.default)

    def path(self) -> Path | None:
        """The value as a path; None when unset."""
        text = self.text()
        return Path(text) if text else None

    def integer(self) -> int:
        """The value as an integer."""
        text = self.text()
        try:
            return int(text)
        except ValueError:
            raise InvalidInput(f"{self.name} must be an integer, not {text!r}", hint=f"unset {self.name}") from None


DATA = Knob("PENJING_DATA", "folder with the data sets of tests and benchmarks (mnist.npz, ...)")
DUMP = Knob("PENJING_DUMP", "folder that receives the text form of every stage")
VERIFY = Knob("PENJING_VERIFY", "0: never verify graphs, 1: after every pass", "1")
SEED = Knob("PENJING_SEED", "seed of every random choice", "0")
KEEP = Knob("PENJING_KEEP", "folder that keeps generated C and compiler logs")
CC = Knob("PENJING_CC", "host C compiler to use instead of the first of cc, gcc, clang, zig")
ISA = Knob("PENJING_ISA", "instruction set that libraries run with, of those in core/targets.py; unset: the best here")
CACHE = Knob("PENJING_CACHE", "folder for compiler caches and measured tiles", "~/.cache/penjing")

ZIG_GLOBAL_CACHE = Knob("ZIG_GLOBAL_CACHE_DIR", "zig's own variable, which wins over the folder in PENJING_CACHE")

ALL: tuple[Knob, ...] = (DATA, DUMP, VERIFY, SEED, KEEP, CC, ISA, CACHE, ZIG_GLOBAL_CACHE)


def cache_dir() -> Path:
    """The cache folder, created on demand with access for its owner only."""
    folder = Path(CACHE.text()).expanduser()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
