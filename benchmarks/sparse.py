"""What zeros are worth: whole networks with dense weights, and with zeros in the patterns that pruning can make.

The networks are those of the zoo in w8a8; weights are zeroed at random by the pattern, in every convolution but the
first and the depthwise ones, so the speed is that of a pruned network and the accuracy is nobody's. Every library is
compared with the interpreter before it is timed; all forms of a network take turns. Writes docs/results/sparse.json.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from _record import arguments, load_average, table, write_record
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
NETWORKS = {"resnet20": lambda op, kernel: True, "mobilenetv2": lambda op, kernel: kernel == (1, 1)}
ROUNDS = 40
NOTES = (
    "batch 1, one thread, codes in and out, processor time, medians over interleaved rounds of at least 10 ms",
    "MobileNetV2: zeros in its 1x1 convolutions only",
    "weights are zeroed at random by the pattern: the figures are of speed, not of accuracy",
)


def main() -> None:
    """Measure, print, write."""
    options = arguments("sparse", __doc__)
    load = load_average()
    results = []
    for name, takes_part in NETWORKS.items():
        rows = compared(lowered(name), takes_part)
        results.append({"network": catalog.find(name).title, "forms": rows})
        head = (catalog.find(name).title, "us", "faster than dense", "zeros")
        shown = [(r["form"], f"{r['median_us']:.1f}", f"{r['gain']:.2f}x", f"{100 * r['zeros']:.0f} %") for r in rows]
        print("\n" + table(head, shown), flush=True)
    write_record(options.output, "sparse", results, NOTES, load)


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
        if not takes_part(node.op, w.shape[1:3]):
            continue
        if words:
            w = pattern(words)(rng, w.reshape(len(w), -1)).reshape(w.shape)
            pruned.constants[node.inputs[1]] = Constant(w, quant=constant.quant)
        zero, total = zero + int((w == 0).sum()), total + w.size
    return pruned, zero / total


if __name__ == "__main__":
    main()
