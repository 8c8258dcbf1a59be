"""The command line as its users meet it: in a folder with a model, samples, an image and a tray.

`penjing` runs a command in this process, which is quick; `process` runs it in one of its own.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penjing.cli import main
from penjing.toolchain import compile_library

NET = """
import torch
from torch import nn


class TinyNet(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 16, 3)

    def forward(self, x):
        return self.fc(nn.functional.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1))


class NotANumber(TinyNet):
    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.fc.weight[0, 0] = float("nan")


class Uncarried(nn.Module):
    def forward(self, x):
        y = torch.cumsum(x, 1)
        return torch.sort(y, 1)[0]


def failing():
    raise ValueError("this factory fails")


def number():
    return 3
"""


@dataclass(frozen=True)
class Outcome:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


@pytest.fixture
def penjing(monkeypatch, capsys) -> Callable[..., Outcome]:
    """`penjing("run", "edgecnn.tray", "digit.png")` in this process."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["penjing", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        return Outcome(done.value.code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def compiled() -> dict[tuple[object, ...], bytes]:
    return {}


@pytest.fixture(autouse=True)
def compiled_once(compiled, monkeypatch) -> None:
    """In this process no library is compiled twice: that it has the same bytes again is shown by tests/toolchain."""

    def library(sources, target, *, optimize, compiler) -> bytes:
        key = (tuple(sorted(sources.items())), target.name, optimize, compiler.command)
        if key not in compiled:
            compiled[key] = compile_library(sources, target, optimize=optimize, compiler=compiler)
        return compiled[key]

    monkeypatch.setattr("penjing.assembly.compile_library", library)


@pytest.fixture
def process(place) -> Callable[..., Outcome]:
    """The same in a process of its own; `environment` is added to this one's."""

    def run(*arguments: str, **environment: str) -> Outcome:
        command = [sys.executable, "-m", "penjing.cli", *map(str, arguments)]
        environment = {**os.environ, "COLUMNS": "80", **environment}
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def material(tmp_path_factory) -> Path:
    """A folder with files that commands take: made once, copied for each test."""
    folder = tmp_path_factory.mktemp("material")
    rng = np.random.default_rng(0)
    (folder / "net.py").write_text(NET)
    (folder / "labels.txt").write_text("ant\nbee\ncat\n")
    np.save(folder / "samples.npy", rng.random((40, 1, 8, 8), dtype=np.float32))
    np.savez(folder / "tested.npz", x=rng.random((40, 1, 8, 8), dtype=np.float32), y=rng.integers(0, 3, 40))
    np.save(folder / "digits.npy", rng.integers(0, 256, (5, 1, 32, 32), dtype=np.uint8))
    _image(folder / "digit.png", rng)
    command = ["build", "zoo:edgecnn", "--calibrate", "digits", "--samples", "32", "-o", "edgecnn.tray"]
    subprocess.run([sys.executable, "-m", "penjing.cli", *command], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def place(material, tmp_path, monkeypatch) -> Path:
    """The current folder, with a copy of that material."""
    folder = tmp_path / "place"
    shutil.copytree(material, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def exported(place, monkeypatch) -> Path:
    """TinyNet as an exported program, net.pt2."""
    import torch

    monkeypatch.syspath_prepend(place)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    network = importlib.import_module("net").TinyNet().eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 1, 8, 8),)), place / "net.pt2")
    return place / "net.pt2"


@pytest.fixture
def refused(penjing, place) -> Callable[..., Outcome]:
    """Run a command that must fail: cleanly, in text and in JSON, with every file as it was."""

    def run(*arguments: str, error: str, code: int = 1) -> Outcome:
        before = contents(place)
        told = penjing(*arguments)
        assert (told.code, told.out) == (code, ""), told
        assert told.err.startswith(f"{error}: ") or f"\n{error}: " in told.err, told.err
        assert "Traceback" not in told.err
        assert "\n  try  " in told.err or "\n  at   " in told.err, "it says neither where nor what to do"
        document = penjing(*arguments, "--json")
        assert document.code == code
        assert document.json().keys() == {"error", "what", "where", "hint", "slug"}
        assert document.json()["error"] == error
        assert document.json()["what"].splitlines()[0] in told.err
        assert contents(place) == before
        return told

    return run


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB, which only root can mount."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, but for what Python caches."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _image(path: Path, rng: np.random.Generator) -> None:
    from PIL import Image

    Image.fromarray(rng.integers(0, 256, (40, 30), dtype=np.uint8)).save(path)
