"""Layer by layer: multiply-accumulates per second of the compiled kernels, against what the dot instruction could do.

The ceiling is measured, not quoted: the vocabulary's own dot word over independent sums in registers, timed beside each
kernel, so that a slow moment of a shared machine hits both. Shapes come from `shapes/*.txt`, the layers of the zoo's
networks, and layers with zeros, whose rate counts the zeros as work: above 100 % means that they pay. Weights and codes
are hot in the cache. Every kernel is compared with its definition before it is timed. Writes docs/results/kernels.json.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _record import RESULTS, load_average, table, write_record
from penjing.core.targets import host_target
from penjing.emit.c.kernels import CLOSING, kernel_file, kernel_text, opening_files
from penjing.emit.c.steps import struct_literal
from penjing.ops.conv2d import QConv2d
from penjing.ops.depthwise import QDepthwise
from penjing.ops.linear import QLinear
from penjing.ops.operator import IntegerOperator, Sample
from penjing.testing.isas import runnable_isas
from penjing.testing.op_suite import OpCase, op_case, run_op_cases
from penjing.toolchain import compile_executable, run_executable
from penjing.vector.sparse_samples import Prune, pruned_anywhere, pruned_blocks, pruned_n_of_m
from penjing.vector.specialise import choose

SHAPES = Path(__file__).resolve().parent / "shapes"
ROUNDS = 200
NOTES = (
    "one thread, hot caches, a single layer again and again; `ceiling` is the rate of the dot instruction alone",
    f"quantile 0.2 over {ROUNDS} rounds of each kernel, each beside a measurement of the ceiling",
    "layers with zeros count them as work",
)


@dataclass(frozen=True)
class Layer:
    """One line of a file of shapes."""

    text: str
    op: IntegerOperator
    inputs: tuple[np.ndarray, ...]
    macs: int


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=Path, nargs="*", default=sorted(SHAPES.glob("*.txt")), help="files of shapes")
    parser.add_argument("--isa", action="append", help="only this instruction set; can be repeated")
    parser.add_argument("--output", type=Path, default=RESULTS / "kernels.json", help="the JSON file to write")
    options = parser.parse_args()
    load = load_average()
    results: dict[str, Any] = {}
    for isa in options.isa or runnable_isas(host_target()):
        results[isa] = {}
        for file in options.shapes:
            rows = measured(list(layers(file)), isa)
            results[isa][file.stem] = rows
            head = (f"{file.stem} on {isa}", "kernel", "us", "GMAC/s", "of the ceiling")
            print("\n" + table(head, [_shown(row) for row in rows]), flush=True)
    write_record(options.output, "kernels", results, NOTES, load)


def layers(file: Path) -> Iterator[Layer]:
    """The layers that a file lists, with random codes and weights."""
    for line in file.read_text().splitlines():
        if line and not line.startswith("#"):
            yield layer(line)


def layer(line: str) -> Layer:
    """`kind shape channels [kernel stride] [zeros]`."""
    kind, shape, oc, *rest = line.split()
    rng = np.random.default_rng(0)
    if kind == "linear":
        w = rng.integers(-127, 128, (int(oc), int(shape)), dtype=np.int8)
        op: IntegerOperator = QLinear(7, 3, 0, 255)
        return _with_zeros(line, op, (1, int(shape)), w, rest[0] if rest else "", rng, 1)
    h, w_, c = map(int, shape.split("x"))
    kh, kw = map(int, rest[0].split("x"))
    stride = int(rest[1])
    pads = ((kh - 1) // 2, (kw - 1) // 2, kh // 2, kw // 2) if kh == kw else (0, 0, 0, 0)
    geometry = ((stride, stride), pads, (1, 1))
    pixels = (
        (-(-h // stride)) * (-(-w_ // stride)) if kh == kw else ((h - kh) // stride + 1) * ((w_ - kw) // stride + 1)
    )
    if kind == "depthwise":
        taps = rng.integers(-127, 128, (kh, kw, c), dtype=np.int8)
        return _with_zeros(line, QDepthwise(*geometry, 7, 3, 0, 255), (1, h, w_, c), taps, "", rng, pixels)
    weights = rng.integers(-127, 128, (int(oc), kh, kw, c), dtype=np.int8)
    op = QConv2d(*geometry, 1, 7, 3, 0, 255)
    return _with_zeros(line, op, (1, h, w_, c), weights, rest[2] if len(rest) > 2 else "", rng, pixels)


def _with_zeros(
    line: str,
    op: IntegerOperator,
    x: tuple[int, ...],
    w: np.ndarray,
    zeros: str,
    rng: np.random.Generator,
    pixels: int,
) -> Layer:
    channels = w.shape[-1] if isinstance(op, QDepthwise) else w.shape[0]
    bias = rng.integers(-9999, 9999, channels, dtype=np.int32)
    multiplier = rng.uniform(0.001, 0.004, channels).astype(np.float32)
    kept = pattern(zeros)(rng, w.reshape(len(w), -1)).reshape(w.shape) if zeros else w
    codes = rng.integers(0, 256, x, dtype=np.uint8)
    return Layer(line, op, (codes, kept, bias, multiplier), w.size * pixels)


def pattern(zeros: str) -> Prune:
    """Which weights go: `4:16` keeps 4 of 16, `blocks:SHARE` zeroes that share of 16 x 4, `random:SHARE` anywhere."""
    kind, _, number = zeros.partition(":")
    if kind == "random":
        return pruned_anywhere(float(number))
    return pruned_blocks(16, 4, float(number)) if kind == "blocks" else pruned_n_of_m(int(kind), int(number))


def measured(found: list[Layer], isa: str) -> list[dict[str, Any]]:
    """One row for each layer."""
    cases = [chosen_case(one) for one in found]
    problems = run_op_cases(cases, host_target(), isa=isa, optimize="-O2")
    if problems:
        raise SystemExit("\n".join(problems))
    program = compile_executable({"bench.c": source(cases, isa)}, host_target(), optimize="-O2")
    stdin = b"".join(x.tobytes() for case in cases for x in case.inputs)
    times = json.loads(run_executable(program, host_target(), stdin=stdin, timeout_s=600))
    rows = []
    for one, case, (us, ceiling) in zip(found, cases, times, strict=True):
        rate = one.macs / us / 1000
        rows.append(
            {
                "layer": one.text,
                "kernel": case.op.name,
                "us": us,
                "gmacs_per_s": rate,
                "ceiling_gmacs_per_s": ceiling,
                "of_ceiling": rate / ceiling,
            }
        )
    return rows


def chosen_case(one: Layer) -> OpCase:
    """The layer as the kernel that a build would choose takes it."""
    sample = Sample(one.op, one.inputs, constant=(1, 2, 3))
    taken, reasons = choose(one.op, sample.types, [None, *one.inputs[1:]])
    if taken is None:
        raise SystemExit(f"no kernel takes {one.text}: {'; '.join(reasons)}")
    inputs = tuple(taken.constants.get(i, x) for i, x in enumerate(one.inputs))
    return op_case(taken.op.name, 0, Sample(taken.op, inputs, constant=(1, 2, 3)))


def source(cases: list[OpCase], isa: str) -> str:
    """A C program that times every case and prints [[us, ceiling in GMAC/s], ...]."""
    names = sorted({case.name for case in cases})
    texts = [kernel_text(name) for name in (*opening_files(isa=isa), *(kernel_file(n, simd=True) for n in names))]
    body = []
    for i, case in enumerate(cases):
        types = case.sample.types
        params = struct_literal(case.op.kernel_params(types, case.outputs))
        sizes = ", ".join(str(t.nbytes) for t in (*types, *case.outputs))
        scratch = case.op.scratch_bytes(types, case.outputs)
        body += [
            "    {",
            f"        static const struct pj_{case.name} p = {params};",
            f"        static const size_t bytes[] = {{{sizes}}};",
            f"        bench_load(bytes, {len(types)}, {scratch});",
            f"        BENCH({i}, pj_{case.name}(&p, in, out, scratch));",
            "    }",
        ]
    start, end = "int main(void)\n{", '    puts("]");\n    return 0;\n}'
    return "\n".join(["#define _POSIX_C_SOURCE 200112L", *texts, BENCH, start, *body, end, CLOSING])


BENCH = (Path(__file__).resolve().parent / "_kernels.c").read_text().replace("@ROUNDS@", str(ROUNDS))


def _shown(row: dict[str, Any]) -> tuple[str, ...]:
    rate, share = f"{row['gmacs_per_s']:.0f}", f"{100 * row['of_ceiling']:.0f} %"
    return row["layer"], row["kernel"], f"{row['us']:.2f}", rate, share


if __name__ == "__main__":
    main()
