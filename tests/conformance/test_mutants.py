"""Every seeded fault in a kernel is caught by the samples of some operator, on this machine alone.

A fault in what SIMD kernels are made of is tried on one instruction set and one operator after the other until a sample
catches it, those operators first whose kernels use the faulty function.

To judge all faults takes minutes. Of a kernel that has not changed since all of its faults were caught, the tests judge
some. What they were caught in is in judged.json, to which this adds, when all faults of what has changed are caught:

    python tests/conformance/test_mutants.py
"""

import hashlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from penjing.emit.c.kernels import SIMD_HEADERS, kernel_file, kernel_text
from penjing.ops import integer_operators
from penjing.testing.isas import native_isas
from penjing.testing.op_suite import OpCase, op_cases, run_op_cases, runnable_operators
from penjing.toolchain import host_target

pytestmark = pytest.mark.slow

TIMEOUT_S = 5  # a fault may run wild; without one, the longest takes a quarter of a second
LEAST = 3
LEAST_OF_A_VOCABULARY = 6
HOST = host_target()
HERE = Path(__file__).parent
JUDGED = HERE / "judged.json"
SHARE = 5  # of the faults of an unchanged kernel, one in so many is judged again
# judged by test_dispatch.py, test_reals.py and test_models.py
NO_KERNELS = {"isa/x86_detect.h", "pj_reals.h", "simd/pj_reals.h", "pj_steps.h"}
FUNCTION = re.compile(r"^(?:#define|PJ_\w+|static)\b[^(\n]*?\b(\w+)\(", re.MULTILINE)

Mutant = tuple[str, str, str]


def _mutants() -> dict[str, tuple[Mutant, ...]]:
    found: dict[str, tuple[Mutant, ...]] = {}
    plain = [HERE / f"{name}.py" for name in ("mutants", "mutants_recurrent", "mutants_float")]
    for path in [*plain, *sorted((HERE / "mutants_simd").glob("*.py"))]:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for file, mutants in module.MUTANTS.items():
            found[file] = found.get(file, ()) + mutants
    return found


def _isas_of(file: str) -> tuple[str | None, ...]:
    """The instruction sets on which a fault in `file` can show here; None is plain C."""
    folder, _, name = file.rpartition("/")
    *better, least = native_isas(HOST) or (None,)
    in_order = (least, *better)  # the least compiles fastest; what shows not there shows in the tiles of the best
    if folder == "isa":
        return tuple(isa for isa in native_isas(HOST) if name == f"{isa}.h")
    if folder:
        return in_order
    return (None, *in_order) if name.endswith(".h") else (None,)


MUTANTS = _mutants()
FILES = [file for file in MUTANTS if _isas_of(file)]


@pytest.mark.parametrize("file", FILES)
def test_every_fault_is_caught(file):
    digest = digest_of(file)
    first, step = (int(digest, 16) % SHARE, SHARE) if judged().get(file) == digest else (0, 1)
    chosen = MUTANTS[file][min(first, len(MUTANTS[file]) - 1) :: step]
    survivors = survivors_of(file, chosen)
    assert not survivors, f"{file}: no sample catches: {'; '.join(survivors)}"


def survivors_of(file: str, mutants: Sequence[Mutant]) -> list[str]:
    """Faults of `file` that no sample shows; none where only instruction sets that do not run here may show them."""
    text, survivors = kernel_text(file), []
    for what, old, new in mutants:
        assert text.count(old) == 1, f"{file}: {what}: the old text occurs {text.count(old)} times:\n{old}"
        mutated = text.replace(old, new)
        suspects = [*_suspects(file, text.index(old))]
        if suspects and not any(is_caught(file, mutated, op_cases(op), isa) for op, isa in suspects):
            survivors.append(what)
    return survivors if _is_judged_here(file) else []


def judged() -> dict[str, str]:
    """File of kernels -> the digest with which all of its faults were caught."""
    return json.loads(JUDGED.read_text()) if JUDGED.is_file() else {}


def digest_of(file: str) -> str:
    """Of all that decides which faults are caught: the faults, the kernels that may show them, and their samples."""
    found = hashlib.sha256(repr((MUTANTS[file], kernel_text(file), _isas_of(file))).encode())
    headers = ["pj.h", *SIMD_HEADERS, *(f"isa/{isa}.h" for isa in native_isas(HOST))]
    for header in headers if _isas_of(file) != (None,) else headers[:1]:
        found.update(kernel_text(header).encode())
    for op in [file.rpartition("/")[2].removesuffix(".c")] if file.endswith(".c") else sorted(runnable_operators()):
        found.update(_samples_digest(op))
    return found.hexdigest()


@cache
def _samples_digest(op: str) -> bytes:
    kernels = {kernel_file(op, simd=True), *([f"{op}.c"] if op in integer_operators() else [])}
    found = hashlib.sha256("".join(map(kernel_text, sorted(kernels))).encode())
    for case in op_cases(op):
        found.update(str(case).encode())
        for array in (*case.inputs, *case.expected):
            found.update(array.tobytes())
    return found.digest()


def test_what_was_judged_is_still_there():
    assert judged().keys() <= MUTANTS.keys()


def _is_judged_here(file: str) -> bool:
    """Whether every instruction set runs here that may show a fault: some show in the largest tiles only."""
    return not file.startswith("simd/") or set(native_isas(HOST)) == set(HOST.isas)


def _suspects(file: str, place: int) -> Iterator[tuple[str, str | None]]:
    """Operators and instruction sets that may show a fault at `place` of `file`, in the order in which to try them."""
    name = file.rpartition("/")[2]
    if name.endswith(".c"):
        yield from ((name.removesuffix(".c"), isa) for isa in _isas_of(file))
        return
    faulty = _users(_functions(kernel_text(file)[:place])[-1:], [file, *SIMD_HEADERS])
    if None in _isas_of(file):
        yield from ((op, None) for op in integer_operators() if _uses(kernel_text(f"{op}.c"), faulty))
    simd = [op for op in runnable_operators() if kernel_file(op, simd=True).startswith("simd/")]
    users = [op for op in simd if _uses(kernel_text(f"simd/{op}.c"), faulty)]
    if file.startswith("isa/"):  # a small word: any user shows a fault in it, and short ones compile fast
        users.sort(key=lambda op: len(kernel_text(f"simd/{op}.c")))
    others = [op for op in simd if op not in users] if _is_judged_here(file) else []
    yield from ((op, isa) for op in [*users, *others] for isa in _isas_of(file) if isa is not None)


def _functions(text: str) -> list[tuple[str, str]]:
    """(name, what follows up to the next) of each function and macro in a file."""
    starts = list(FUNCTION.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [(start[1], text[start.start() : end]) for start, end in zip(starts, ends, strict=False)]


def _users(functions: list[tuple[str, str]], headers: list[str]) -> set[str]:
    """Their names, and those of all functions in these headers through which they are called."""
    names = {name for name, _ in functions}
    others = [function for header in headers for function in _functions(kernel_text(header))]
    while more := {name for name, body in others if name not in names and _uses(body, names)}:
        names |= more
    return names


def _uses(text: str, names: set[str]) -> bool:
    return any(re.search(rf"\b{name}\b", text) for name in names)


def is_caught(file: str, text: str, cases: tuple[OpCase, ...], isa: str | None) -> bool:
    def mutated(name: str) -> str:
        return text if name == file else kernel_text(name)

    return bool(
        run_op_cases(
            cases,
            HOST,
            ("-w",),  # warnings are no matter here
            optimize="-O1",
            kernels=mutated,
            isa=isa,
            timeout_s=TIMEOUT_S,
            locate_crashes=False,
        )
    )


def test_every_kernel_has_seeded_faults(package_kernels):
    assert set(MUTANTS) == set(package_kernels)
    few = [file for file, mutants in MUTANTS.items() if len(mutants) < least(file)]
    assert not few, f"too few: {few}"
    names = [(file, mutant[0]) for file, mutants in MUTANTS.items() for mutant in mutants]
    assert len(set(names)) == len(names)


def least(file: str) -> int:
    return LEAST_OF_A_VOCABULARY if file.startswith("isa/") else LEAST


@pytest.fixture
def package_kernels() -> set[str]:
    found = set()
    for folder in ("generic", "simd", "isa"):
        for entry in files("penjing.kernels").joinpath(folder).iterdir():
            name = f"{entry.name}.h" if entry.is_dir() else entry.name
            if name.endswith((".c", ".h")):
                found.add(name if folder == "generic" else f"{folder}/{name}")
    return found - NO_KERNELS


def main() -> int:
    """Judge all faults of what has changed, and record what they were caught in."""
    known = judged()
    changed = {file: digest for file in FILES if known.get(file) != (digest := digest_of(file))}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for file, survivors in zip(changed, pool.map(_all_survivors, changed), strict=True):
            print(f"{file}: {len(MUTANTS[file])} faults, not caught: {'; '.join(survivors) or 'none'}", flush=True)
            known |= {} if survivors else {file: changed[file]}
    JUDGED.write_text(json.dumps({file: known[file] for file in sorted(known) if file in MUTANTS}, indent=1) + "\n")
    return 0 if all(known.get(file) == digest for file, digest in changed.items()) else 1


def _all_survivors(file: str) -> list[str]:
    return survivors_of(file, MUTANTS[file])


if __name__ == "__main__":
    sys.exit(main())
