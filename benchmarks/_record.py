"""What every benchmark writes: its figures, the command that made them, and the machine they were made on."""

import argparse
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from penjing.core.files import write_atomically
from penjing.core.targets import host_target
from penjing.toolchain import find_compiler

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
_PACKAGES = ("penjing", "numpy", "torch", "onnx", "onnxruntime")
_ISAS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "asimd", "asimddp", "i8mm")


def arguments(name: str, description: str | None) -> argparse.Namespace:
    """The command line of a benchmark without options of its own."""
    return parser(name, description).parse_args()


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks share: `--output` is where the JSON goes."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--output", type=Path, default=RESULTS / f"{name}.json", help="the JSON file to write")
    return found


def write_record(
    path: Path, name: str, results: Any, notes: tuple[str, ...], load_before: float, options: str = ""
) -> None:
    """Write one JSON file; an older one is replaced.

    Args:
        path: where.
        name: of the benchmark's file, without `.py`.
        results: the figures.
        notes: what a reader has to know to read them.
        load_before: the machine's load when the benchmark began.
        options: of the command line, that decided what was measured.
    """
    record = {
        "benchmark": name,
        "command": f"PENJING_DATA=<data folder> python benchmarks/{name}.py {options}".rstrip(),
        "revision": revision(),
        "notes": list(notes),
        "machine": {**machine(), "load_average": {"before": load_before, "after": load_average()}},
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode(), force=True)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    print(f"\nwritten: {shown}")


def machine() -> dict[str, Any]:
    """Processor and its vector extensions, cores, memory, system, compiler and versions; nothing names the machine."""
    cpu, flags = _cpu()
    return {
        "cpu": cpu,
        "isa": [name for name in _ISAS if name in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "compiler": find_compiler(host_target()).identity,
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def load_average() -> float:
    """Processes that wanted to run, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; the first column is text, all others are figures."""
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cpu() -> tuple[str, set[str]]:
    facts = Path("/proc/cpuinfo")
    if not facts.is_file():
        return platform.processor() or platform.machine(), set()
    found: dict[str, str] = {}
    for line in facts.read_text().splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    name = found.get("model name", platform.machine())
    family = f"family {found['cpu family']}, model {found['model']}" if "cpu family" in found else ""
    return f"{name} ({family})" if family else name, set(found.get("flags", found.get("Features", "")).split())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def revision() -> str:
    """Of the checkout; "-dirty" at its end where files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
