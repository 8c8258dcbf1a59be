"""Write the measured figures of docs/results/*.json into the pages that quote them.

    python tools/result_tables.py            write
    python tools/result_tables.py --check    exit 1 when a page quotes other figures than the files hold

A page marks the place with `<!-- figures: NAME -->` and `<!-- end of figures -->`; what stands between is replaced.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from penjing.core.files import write_atomically
from penjing.measure.sizes import bytes_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "limits.md")

_PLACE = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_NOT_MEASURED = "Not measured in this checkout yet: `python benchmarks/{file}.py` does it.\n"


def accuracy(record: dict[str, Any]) -> Iterator[str]:
    """Float against int8 on whole test sets."""
    yield "| Network | Test images | Float | int8 (95 % interval) | Lost, in points (95 % interval) |"
    yield "|---|---:|---:|---:|---:|"
    for r in record["results"]:
        f, q, d = r["float"], r["int8"], r["drop"]
        yield (
            f"| {r['network']} on {r['dataset']} | {r['n']:,} | {_percent(f['accuracy'])} "
            f"| {_percent(q['accuracy'])} ({_percent(q['low'])} .. {_percent(q['high'])}) "
            f"| {_points(d['value'])} ({_points(d['low'])} .. {_points(d['high'])}) |"
        )


def peers(record: dict[str, Any]) -> Iterator[str]:
    """penjing against other engines on the same networks: one table per network."""
    results = record["results"]
    for r in results["networks"]:
        yield f"**{r['network']}**, {r['macs'] / 1e6:.1f} million MACs, on {r['dataset']}"
        yield ""
        yield "| Engine | One image | Against penjing | Accuracy | Model file |"
        yield "|---|---:|---:|---:|---:|"
        for name, e in r["engines"].items():
            if name.startswith("ORT int8") and name != r["fastest_ort_int8"]:
                continue
            yield (
                f"| {_engine(name)} | {e['median_us']:.0f} us | {_against(e['time_over_penjing'])} "
                f"| {_percent(e['accuracy'])} | {bytes_text(e['model_bytes'])} |"
            )
        yield ""
    sizes = ", ".join(f"{name} {bytes_text(size)}" for name, size in results["installed_bytes"].items())
    yield f"Installed, without what each depends on: {sizes}. Measured on {_machine(record)}."


def speed(record: dict[str, Any]) -> Iterator[str]:
    """One sentence: how the generic kernels compare with the fastest int8 form of ONNX Runtime."""
    parts = []
    for r in record["results"]["networks"]:
        ours, theirs = r["engines"]["penjing int8, codes"], r["engines"][r["fastest_ort_int8"]]
        parts.append(
            f"{r['network']} takes {ours['median_us']:.0f} us, with ONNX Runtime's int8 {theirs['median_us']:.0f} us"
        )
    yield f"Measured: {'; '.join(parts)}, one thread, on {_machine(record)}."


# place -> (file in docs/results, what makes the text)
FIGURES: dict[str, tuple[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    "accuracy": ("accuracy", accuracy),
    "peers": ("peers", peers),
    "speed": ("peers", speed),
}


def filled(text: str) -> str:
    """A page's text with the figures of the files in each of its places."""
    return _PLACE.sub(lambda m: m[1] + _figures(m[2]) + m[3], text)


def _figures(name: str) -> str:
    file, make = FIGURES[name]
    path = RESULTS / f"{file}.json"
    if not path.is_file():
        return _NOT_MEASURED.format(file=file)
    return "\n".join(make(json.loads(path.read_text(encoding="utf-8")))) + "\n"


def _machine(record: dict[str, Any]) -> str:
    isa = ", ".join(record["machine"]["isa"])
    return f"{record['machine']['cpu']}{f' with {isa}' if isa else ''}, at revision {record['revision']}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"


def _engine(name: str) -> str:
    known = {
        "torch fp32": "torch, float",
        "ORT fp32": "ONNX Runtime, float",
        "penjing int8": "**penjing, int8**",
        "penjing int8, codes": "**penjing, int8**, codes in and out",
    }
    return known.get(name, name.replace("ORT int8", "ONNX Runtime, int8:"))


def _against(time_over_penjing: float) -> str:
    if round(time_over_penjing, 2) == 1:
        return "1"
    if time_over_penjing > 1:
        return f"{time_over_penjing:.2f}x slower"
    return f"{1 / time_over_penjing:.2f}x faster"


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description="Write the measured figures into the pages that quote them.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is not up to date")
    check = parser.parse_args().check
    status = 0
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        if after == before:
            continue
        if not check:
            write_atomically(page, after.encode(), force=True)
            continue
        sys.stderr.write(f"{page.relative_to(ROOT)} is not up to date: run python tools/result_tables.py\n")
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
