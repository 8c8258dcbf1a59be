"""One virtual environment per engine, made once and kept in the cache folder.

`requirements.txt` beside a worker says what is asked for and `constraints.txt` pins everything that it brings. Where
making models needs more than running them, `convert.txt` and `convert-constraints.txt` describe a second environment,
which is not counted in the engine's size.
"""

import compileall
import hashlib
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from penjing.core.knobs import cache_dir

HERE = Path(__file__).resolve().parent
_NOT_COUNTED = ("numpy", "pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "distutils-precedence")


class SetupFailed(Exception):
    """An environment could not be made; the text is the last line that pip said."""


def engines_folder() -> Path:
    """Where environments and converted models are kept."""
    folder = cache_dir() / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_python(engine: str) -> Path:
    """The interpreter that runs an engine's worker, its environment made if need be.

    Raises:
        SetupFailed: pip could not install it.
    """
    if engine == "ours":
        _compile_ours()
        return Path(sys.executable)
    return environment(HERE / engine, "requirements.txt", "constraints.txt")


def convert_python(engine: str) -> Path:
    """The interpreter that runs an engine's converter."""
    if (HERE / engine / "convert.txt").is_file():
        return environment(HERE / engine, "convert.txt", "convert-constraints.txt")
    return run_python(engine)


@cache
def _compile_ours() -> None:
    """To bytecode, as pip did with the other engines: a checkout may have none, and cold starts would compile it."""
    import penjing

    compileall.compile_dir(Path(str(penjing.__file__)).parent, quiet=1)


def environment(of: Path, requirements: str, constraints: str) -> Path:
    """The interpreter of the environment that the two files in the folder `of` describe, made if need be.

    Raises:
        SetupFailed: pip could not install it.
    """
    wanted, pins = of / requirements, of / constraints
    identity = sys.version.encode() + wanted.read_bytes() + pins.read_bytes()
    folder = engines_folder() / f"{of.name}-{wanted.stem}-{hashlib.sha256(identity).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if (folder / "complete").is_file():
        return python
    print(f"installing {of.name} ({requirements})", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    _run([str(python), "-m", "pip", "install", "--quiet", "-r", str(wanted), "-c", str(pins)])
    (folder / "complete").touch()
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupFailed(str(error)) from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise SetupFailed(said[-1] if said else f"{command[0]} ended with status {done.returncode}")


def worker_environment(python: Path) -> dict[str, str]:
    """Environment variables of a worker: its own programs first, and one thread for every library that asks."""
    return {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }


def installed_version(engine: str, package: str) -> str:
    """The version of an engine that is installed."""
    if engine == "ours":
        return distribution(package).version
    asks = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    python = str(run_python(engine))
    return subprocess.run([python, "-c", asks, package], capture_output=True, text=True, check=True).stdout.strip()


def installed_bytes(engine: str) -> int:
    """Bytes of an engine with all that it depends on, without Python, numpy and compiled bytecode."""
    if engine == "ours":
        return _ours_bytes()
    site = next((run_python(engine).parents[1] / "lib").glob("python*/site-packages"))
    return sum(_bytes(item) for item in site.iterdir() if not item.name.startswith(_NOT_COUNTED))


def _ours_bytes() -> int:
    import penjing

    left, seen, total = ["penjing"], set(_NOT_COUNTED), 0
    while left:
        name = left.pop()
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        files = [Path(str(found.locate_file(file))) for file in found.files or ()]
        total += sum(_bytes(file) for file in files)
        left += [re.split(r"[^\w.-]", need)[0] for need in found.requires or () if "extra ==" not in need]
    return total + _bytes(Path(str(penjing.__file__)).parent)


def _bytes(item: Path) -> int:
    if item.is_file() and not item.is_symlink():
        return item.stat().st_size
    return sum(
        file.stat().st_size
        for file in item.rglob("*")
        if file.is_file() and not file.is_symlink() and "__pycache__" not in file.parts
    )
