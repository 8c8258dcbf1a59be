"""The wheel in an environment of its own: with its base dependencies the command line, with numpy alone the Python API.

The environments are made once per run of the tests, by pip, from the network or whatever pip is configured to use.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "sklearn", "onnx", "onnxruntime", "scipy"}
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the sources, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, folder / name)
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"], folder)
    (found,) = (folder / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="session")
def base(wheel, tmp_path_factory) -> Path:
    """Folder of the programs of an environment with the wheel and its base dependencies."""
    return environment(tmp_path_factory.mktemp("base"), [str(wheel)])


@pytest.fixture(scope="session")
def numpy_alone(wheel, tmp_path_factory) -> Path:
    """The same with the wheel and numpy, and nothing else."""
    programs = environment(tmp_path_factory.mktemp("numpy"), ["numpy"])
    run([str(programs / "python"), "-m", "pip", "install", "-q", "--no-deps", str(wheel)], programs)
    return programs


def environment(folder: Path, packages: list[str]) -> Path:
    venv.create(folder, with_pip=True, clear=True)
    programs = folder / "bin"
    run([str(programs / "python"), "-m", "pip", "install", "-q", *packages], folder)
    return programs


def run(command: list[str], folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Without this environment's own packages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def installed(base, place) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`installed("run", ...)`: the installed command, in the folder with the material."""
    return lambda *arguments, code=0: run([str(base / "penjing"), *arguments], place, code)


def test_the_base_environment_has_nothing_heavy(base):
    program = f"import importlib.util as i; print([n for n in {sorted(HEAVY)} if i.find_spec(n)])"
    assert run([str(base / "python"), "-c", program], base).stdout == "[]\n"


def test_a_tray_runs_on_an_image(installed, penjing):
    told = installed("run", "edgecnn.tray", "digit.png")
    assert told.stderr == ""
    assert told.stdout == penjing("run", "edgecnn.tray", "digit.png").out


def test_every_command_that_needs_no_training_works(installed):
    assert (
        json.loads(installed("inspect", "edgecnn.tray", "--self-test", "--json").stdout)["self_test"]["differing_bytes"]
        == 0
    )
    assert "GMAC/s" in installed("bench", "edgecnn.tray", "--rounds", "1").stdout
    assert "conv2d" in installed("ops").stdout
    assert "PENJING_CACHE" in installed("knobs").stdout
    assert "Examples:" in installed("build", "--help").stdout


@pytest.mark.parametrize(
    "arguments",
    [("build", "zoo:edgecnn", "--calibrate", "digits"), ("demo", "-o", "new"), ("ops", "zoo:edgecnn")],
    ids=lambda arguments: arguments[0],
)
def test_commands_that_need_torch_say_what_to_install(installed, place, arguments):
    before = sorted(place.iterdir())
    told = installed(*arguments, code=1)
    assert told.stderr.startswith("MissingDependency: ")
    assert "pip install 'penjing[compress]'" in told.stderr
    assert json.loads(installed(*arguments, "--json", code=1).stdout)["error"] == "MissingDependency"
    assert sorted(place.iterdir()) == before


def test_the_python_api_needs_numpy_alone(numpy_alone, place):
    program = """
import sys
import numpy as np
import penjing
model = penjing.load("edgecnn.tray")
assert model.engine.name.startswith("library"), model.engine.name
pixels = np.load("digits.npy")
scores = model.run(model.prepare(pixels))
assert scores.shape == (5, 10)
assert model.self_test() == 0
assert (penjing.load("edgecnn.tray", engine="interpreter").run(model.prepare(pixels)) == scores).all()
print(model.classify(pixels[0], top=1)[0][0])
"""
    assert run([str(numpy_alone / "python"), "-c", program], place).stdout.strip() in set("0123456789")


@pytest.mark.parametrize("started", ["script", "module"])
def test_the_command_line_without_its_dependencies_says_so(numpy_alone, place, started):
    command = (
        [str(numpy_alone / "penjing")] if started == "script" else [str(numpy_alone / "python"), "-m", "penjing.cli"]
    )
    told = run([*command, "run", "edgecnn.tray", "digit.png"], place, code=1)
    assert told.stderr.startswith("MissingDependency: the command line needs typer and rich")
    assert "pip install penjing" in told.stderr
    as_json = run([*command, "knobs", "--json"], place, code=1)
    assert json.loads(as_json.stdout)["error"] == "MissingDependency"


def test_importing_the_commands_without_their_dependencies_is_a_clear_error(numpy_alone, place):
    program = """
from penjing.core.errors import MissingDependency
try:
    import penjing.cli.app
except MissingDependency as error:
    print(error.what)
"""
    told = run([str(numpy_alone / "python"), "-c", program], place)
    assert told.stdout.startswith("the command line needs typer and rich")
