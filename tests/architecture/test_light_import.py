"""A device imports the runtime: that must need numpy alone, and take no time worth noticing."""

import json
import subprocess
import sys

import pytest

OWN_SHARE_MS = 30.0  # beyond numpy, which alone takes 60-140 ms: with it the whole stays near 100 ms
MOST_RUNS = 25

IMPORTED = """
import importlib, json, pkgutil, sys
before = set(sys.modules)
package = importlib.import_module(sys.argv[1])
if len(sys.argv) > 2:
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
real = {name for name, module in sys.modules.items() if getattr(module, "__spec__", None)}  # not Cython's own tables
print(json.dumps(sorted({name.partition(".")[0] for name in real - before})))
"""

TIMED = """
import time
import numpy
start = time.perf_counter()
import penjing.runtime
print(1000 * (time.perf_counter() - start))
"""


def in_a_fresh_process(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("penjing.runtime",),
        *((f"penjing.{layer}", "whole") for layer in ("runtime", "bundle", "program", "ops", "ir", "core")),
    ],
    ids=" ".join,
)
def test_what_a_device_imports_needs_the_standard_library_and_numpy_alone(arguments):
    loaded = set(json.loads(in_a_fresh_process(IMPORTED, *arguments)))
    assert loaded - set(sys.stdlib_module_names) <= {"numpy", "penjing"}


def test_importing_the_public_package_loads_no_heavy_library():
    loaded = set(json.loads(in_a_fresh_process(IMPORTED, "penjing")))
    assert not loaded & {"torch", "onnx", "onnxruntime", "scipy", "sklearn", "rich", "typer", "PIL"}


def test_importing_the_runtime_is_quick():
    best = float("inf")
    for _ in range(MOST_RUNS):  # the least of several runs is the import itself; the rest is what else the machine did
        best = min(best, float(in_a_fresh_process(TIMED)))
        if best < OWN_SHARE_MS:
            break
    print(f"import penjing.runtime takes {best:.1f} ms beyond numpy")
    assert best < OWN_SHARE_MS
