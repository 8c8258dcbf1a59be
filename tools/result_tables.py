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

import compression_tables
import performance_tables as tables
import sparse_tables

from penjing.core.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "compression.md",
    ROOT / "docs" / "limits.md",
    ROOT / "docs" / "performance.md",
)

_PLACE = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_NOT_MEASURED = "Not measured in this checkout yet: `python benchmarks/{command}` does it.\n"
_COMMANDS = {
    "models-avx2": "models.py --isa avx2 --output docs/results/models-avx2.json",
    "recurrent": "models.py --models lstm,gru --output docs/results/recurrent.json",
    "transformers": "models.py --models encoder --output docs/results/transformers.json",
    "compression/pruned_resnet20": "compression/pruned_resnets.py",
    "compression/pruned_resnet20_short": "compression/pruned_resnets.py --forms n-of-m:0.25 --epochs 6 "
    "--output docs/results/compression/pruned_resnet20_short.json",
    "compression/pruned_resnet56": "compression/pruned_resnets.py --network resnet56",
}


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


# place -> (file in docs/results, what makes the text)
FIGURES: dict[str, tuple[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    "accuracy": ("accuracy", accuracy),
    "ranking": ("models", tables.ranking),
    "speed": ("models", tables.speed),
    "behind": ("models", tables.behind),
    "besides": ("models", tables.besides),
    "engines": ("models", tables.engines),
    "forms": ("models", tables.every_form),
    "setting": ("models", tables.setting),
    "ranking-avx2": ("models-avx2", tables.ranking),
    "behind-avx2": ("models-avx2", tables.behind),
    "engines-avx2": ("models-avx2", tables.engines),
    "recurrent": ("recurrent", tables.ranking),
    "recurrent-engines": ("recurrent", tables.by_engine),
    "ranking-encoder": ("transformers", tables.ranking),
    "raced-encoder": ("transformers", tables.raced),
    "kernels": ("kernels", tables.kernels),
    "sparse": ("sparse", sparse_tables.sparse),
    "sparse-peers": ("sparse", sparse_tables.sparse_peers),
    "sparse-line": ("sparse", sparse_tables.sparse_line),
    "small-mnist": ("compression/mnist", compression_tables.mnist),
    "four-bits": ("compression/resnet20_w4a8", compression_tables.four_bits),
    "pruned-resnet20": ("compression/pruned_resnet20", compression_tables.trained_forms),
    "pruned-resnet20-short": ("compression/pruned_resnet20_short", compression_tables.trained_forms),
    "pruned-resnet56": ("compression/pruned_resnet56", compression_tables.trained_forms),
    "channels-peer": ("compression/channels_peer", compression_tables.channels_peer),
    "photographs": ("compression/efficientnet_lite0", compression_tables.photographs),
    "quantizers": ("compression/peers", compression_tables.peers),
    "coding": ("compression/coding", compression_tables.coding),
}


def filled(text: str) -> str:
    """A page's text with the figures of the files in each of its places."""
    return _PLACE.sub(lambda m: m[1] + _figures(m[2]) + m[3], text)


def _figures(name: str) -> str:
    file, make = FIGURES[name]
    path = RESULTS / f"{file}.json"
    if not path.is_file():
        return _NOT_MEASURED.format(command=_COMMANDS.get(file, f"{file}.py"))
    return "\n".join(make(json.loads(path.read_text(encoding="utf-8")))) + "\n"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"


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
