"""What the documentation's tests do with a page: write its files, run its code, and compare what it prints.

A fenced block says by its first line what it is:

    ```python            runs; the blocks of a page share their names
    ```sh                runs in bash and must succeed; ```sh fails must not
    ```c file=main.c     is written to that file (any language)
    ```text              is what the block before it printed: numbers may differ, and a line `...` stands for any lines
    ```console           is shown and not run
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penjing.core.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"0x[0-9a-f.p+-]+|[0-9a-f]{12,}|[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
_TARGET = re.compile(r"\b(?:" + "|".join(target.name for target in TARGETS) + r")\b")
_ISA = re.compile(r" \((?:" + "|".join(isa for target in TARGETS for isa in target.isas) + r")\)")
_WIDTH = "120"


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its fence."""

    language: str
    info: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that it is, if it says so."""
        found = re.search(r"\bfile=(\S+)", self.info)
        return found[1] if found else None


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(m[1], m[2].strip(), m[3], text.count("\n", 0, m.start()) + 1) for m in _FENCE.finditer(text)]


def shape_of(text: str) -> list[str]:
    """Its lines without what may differ from machine to machine: target, instruction set, numbers, digests, spaces."""
    masked = _NUMBER.sub("#", _TARGET.sub("TARGET", _ISA.sub("", text)))
    return [" ".join(line.split()) for line in masked.splitlines() if line.strip()]


def assert_prints(printed: str, shown: str, where: str) -> None:
    """Every run of lines between `...` in `shown` stands in `printed`, in that order."""
    left = shape_of(printed)
    for part in re.split(r"^\s*\.\.\.\s*$", shown, flags=re.MULTILINE):
        wanted = shape_of(part)
        starts = [i for i in range(len(left) - len(wanted) + 1) if left[i : i + len(wanted)] == wanted]
        assert starts, f"{where} shows:\n{part}\nbut the code printed:\n{printed}"
        left = left[starts[0] + len(wanted) :]


class PageRunner:
    """Runs a page's blocks in one folder; `names` are the Python names that they share."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__page__"}

    def run(self) -> None:
        """All blocks, in order."""
        printed = ""
        for block in blocks_of(self.page):
            where = f"{self.page.relative_to(ROOT)}:{block.line}"
            if block.file is not None:
                (self.folder / block.file).write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                printed = self._python(block, where)
            elif block.language == "sh":
                printed = self._shell(block, where)
            elif block.language == "text":
                assert_prints(printed, block.text, where)

    def _python(self, block: Block, where: str) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            exec(compile("\n" * block.line + block.text, where, "exec"), self.names)
        return stdout.getvalue()

    def _shell(self, block: Block, where: str) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "COLUMNS": _WIDTH}
        command = ["bash", "-euc", block.text]
        found = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        printed = found.stdout + found.stderr
        assert (found.returncode != 0) == ("fails" in block.info), f"{where}: status {found.returncode}\n{printed}"
        return printed


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def blocks() -> Callable[[str], list[Block]]:
    """`blocks("README.md")`: the fenced blocks of a page."""
    return lambda name: blocks_of(ROOT / name)


@pytest.fixture
def run_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], PageRunner]]:
    """`run_page("docs/tutorial.md")`: its blocks, run in an empty folder; modules that it wrote are forgotten again."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(name: str) -> PageRunner:
        runner = PageRunner(ROOT / name, tmp_path)
        runner.run()
        return runner

    yield run
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[str], Path]:
    """`copy_of("examples/c_caller")`: a copy of a folder of the checkout in which a test may build."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(ROOT / name, tmp_path / Path(name).name))

    return copy
