"""What zeros are worth: whole networks with dense weights, and with zeros in the patterns that pruning can make.

The networks are those of the zoo in w8a8; weights are zeroed at random by the pattern, in every convolution but the
first and the depthwise ones, so the speed is that of a pruned network and the accuracy is nobody's. Every library is
compared with the interpreter before it is timed; all forms of a network take turns. Then the networks of `PEERS` race
with the other engines of `engines/`, which get the dense network and the one with zeros, AMX refused; `--engines none`
leaves that out. Writes docs/results/sparse.json:

    results[].forms   form, median_us, p10_us, p90_us, gain (times as fast as dense), zeros (share), macs
    results[].peers   form, ends, ours_us, ours_passes, dense_peer and zeros_peer: engine, form, us, ours_over_it and
                      its 95 % interval (low, high)
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from _record import load_average, parser, table, write_record
from _sparse_peers import against_peers, usable
from engines.contest import Rules
from engines.forms import ENGINES
from kernels import pattern
from penjing import api
from penjing.bundle.tray import read_tray
from penjing.ir.graph import Graph
from penjing.ir.types import Constant
from penjing.measure.timing import ratio, time_interleaved
from penjing.ops.conv2d import QConv2d
from penjing.program.cost import total_macs
from penjing.runtime.loading import from_tray
from penjing.runtime.model import Model
from penjing.zoo import catalog

PATTERNS = {
    "dense": "",
    "75 % zeros, 4:16": "4:16",
    "87.5 % zeros, 2:16": "2:16",
    "70 % zeros, blocks 16x4": "blocks:0.7",
    "80 % zeros, blocks 16x4": "blocks:0.8",
    "90 % zeros, blocks 16x4": "blocks:0.9",
    "80 % zeros, anywhere": "random:0.8",
    "90 % zeros, anywhere": "random:0.9",
}
NETWORKS = {"resnet20": lambda kernel: True, "mobilenetv2": lambda kernel: kernel == (1, 1)}
PEERS = {"resnet20": ("75 % zeros, 4:16", "80 % zeros, blocks 16x4"), "mobilenetv2": ("75 % zeros, 4:16",)}
ROUNDS = 40
NOTES = (
    "batch 1, one thread, codes in and out, processor time, medians over interleaved rounds of at least 10 ms",
    "MobileNetV2: zeros in its 1x1 convolutions only",
    "weights are zeroed at random by the pattern: the figures are of speed, not of accuracy",
)


def main() -> None:
    """Measure, print, write."""
    options = _options()
    load = load_average()
    torch.set_num_threads(1)
    entries = usable(options.engines) if options.engines else []
    rules = Rules(("refused",), options.core, options.rounds)
    results = []
    for name, takes_part in NETWORKS.items():
        rows = compared(lowered(name), takes_part)
        title = catalog.find(name).title
        results.append({"network": title, "forms": rows, "peers": []})
        head = (title, "us", "faster than dense", "zeros")
        shown = [(r["form"], f"{r['median_us']:.1f}", f"{r['gain']:.2f}x", f"{100 * r['zeros']:.0f} %") for r in rows]
        print("\n" + table(head, shown), flush=True)
        if entries:
            patterns = {form: pattern(PATTERNS[form]) for form in PEERS[name]}
            results[-1]["peers"] = against_peers(name, patterns, takes_part, entries, rules)
            print("\n" + _peer_table(title, results[-1]["peers"]), flush=True)
    write_record(options.output, "sparse", results, NOTES, load)


def _peer_table(title: str, rows: list[dict[str, Any]]) -> str:
    head = (title, "ends", "ours us", "dense peer", "us", "ours over it", "peer with zeros", "us", "ours over it")
    return table(
        head,
        [
            (
                r["form"],
                r["ends"],
                f"{r['ours_us']:.1f}" + ("" if r["ours_passes"] else " WRONG"),
                *_peer(r["dense_peer"]),
                *_peer(r["zeros_peer"]),
            )
            for r in rows
        ],
    )


def _peer(p: dict[str, Any]) -> tuple[str, str, str]:
    over = f"{p['ours_over_it']:.3f} ({p['low']:.3f} .. {p['high']:.3f})"
    return f"{p['engine']}, {p['form']}", f"{p['us']:.1f}", over


def _options() -> argparse.Namespace:
    found = parser("sparse", __doc__)
    folders = [entry.folder for entry in ENGINES if entry.folder != "ours"]
    asked = f"some of {','.join(folders)}, or none"
    found.add_argument("--engines", default=",".join(folders), help=asked)
    found.add_argument("--rounds", type=int, default=60, help="of the race with other engines, at most")
    found.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="that all engines share")
    options = found.parse_args()
    options.engines = [] if options.engines == "none" else options.engines.split(",")
    if unknown := [name for name in options.engines if name not in folders]:
        found.error(f"--engines: unknown: {', '.join(unknown)}; give {asked}")
    return options


def lowered(name: str) -> Graph:
    """A network of the zoo as an integer program."""
    model = catalog.find(name)
    graph = api.capture(catalog.create(name, trained_batchnorm=True), model.random_inputs(2), name=name)
    return api.lower(api.quantize(graph, [model.random_inputs(16)], observer="min-max"))


def compared(program: Graph, takes_part: Callable[..., bool]) -> list[dict[str, Any]]:
    """One row for each pattern."""
    calls, zeros = {}, {}
    for title, words in PATTERNS.items():
        pruned, zeros[title] = with_zeros(program, words, takes_part)
        model = library(pruned)
        bound = model.bind()
        calls[title] = bound.run
    timings = time_interleaved(calls, rounds=ROUNDS, min_time_ms=10, clock=time.process_time_ns)
    dense = timings["dense"]
    return [
        {
            "form": title,
            "median_us": timing.median_us,
            "p10_us": timing.p10_us,
            "p90_us": timing.p90_us,
            "gain": ratio(dense, timing),
            "zeros": zeros[title],
            "macs": total_macs(program),
        }
        for title, timing in timings.items()
    ]


def library(program: Graph) -> Model:
    """The compiled program, after its golden vectors have come out right."""
    tray = read_tray(api.build(program, api.BuildOptions(with_source=False)))
    model = from_tray(tray, engine="library")
    if model.self_test() != 0:
        raise SystemExit(f"{program.name}: the library differs from its definition")
    return model


def with_zeros(program: Graph, words: str, takes_part: Callable[..., bool]) -> tuple[Graph, float]:
    """The program with weights zeroed by a pattern, and the share of zeros among the weights that took part."""
    pruned, rng = program.copy(), np.random.default_rng(0)
    zero = total = 0
    convolutions = [node for node in program.nodes if isinstance(node.op, QConv2d)]
    for node in convolutions[1:]:
        constant = program.constants[node.inputs[1]]
        w = constant.array
        if not takes_part(w.shape[1:3]):
            continue
        if words:
            w = pattern(words)(rng, w.reshape(len(w), -1)).reshape(w.shape)
            pruned.constants[node.inputs[1]] = Constant(w, quant=constant.quant)
        zero, total = zero + int((w == 0).sum()), total + w.size
    return pruned, zero / total


if __name__ == "__main__":
    main()
