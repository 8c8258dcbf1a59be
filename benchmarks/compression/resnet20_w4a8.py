"""ResNet-20 with 4-bit weights, without labels: learned rounding against rounding to nearest, in the integer program.

Writes docs/results/compression/resnet20_w4a8.json and prints a table. Needs PENJING_DATA with CIFAR-10 (JPEG) and the
trained ResNet-20; takes three to seven minutes on a core. Blocks that are done are kept in the folder `compression` of
PENJING_CACHE, so that the same command goes on where it was cut short. `--quick` shows in half a minute that all of it
works; its figures say little.
"""

import argparse
import dataclasses
import io
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from _record import RESULTS, load_average, parser, table, write_record
from penjing import api
from penjing.bundle.tray import read_tray
from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.gptq import Gptq
from penjing.core import files, knobs
from penjing.core.digests import digest_bytes
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ir.text import print_graph
from penjing.ir.types import Constant, Quant
from penjing.measure.correct import correct
from penjing.measure.intervals import accuracy_interval, paired_drop
from penjing.runtime.loading import from_tray
from penjing.train.block_training import Tuning
from penjing.train.fit import predict
from penjing.train.reconstruct import BlockProgress, reconstruct
from penjing.train.rounding import LearnedRounding
from penjing.zoo import data, weights
from penjing.zoo.data import Dataset

BITS = 4
SAMPLES = 1024
RANGE_SAMPLES = 512
BATCH = 32
SEED = 0
TUNING = Tuning()
NOTES = (
    "w4a8: all weights, first and last layer too, in codes -7..7 with one scale per output channel; activations u8",
    f"{SAMPLES} images of the training part (seed {SEED}) without labels; ranges (mse) from the first {RANGE_SAMPLES}",
    "measured in the compiled integer program on the whole test part; float is the network that was given, in torch",
    "nearest: scales of least squared error; GPTQ: codes that make up for one another's errors, in seconds",
    "reconstructed: roundings, scales and biases learned block by block",
    "the drop is paired: both networks see the same images; its interval is Newcombe's, p is McNemar's, exact",
    "CIFAR-10 (JPEG) is CIFAR-10 re-encoded with loss: its figures lie some points under the literature's",
)


def main() -> None:
    """Reconstruct, measure, print, write."""
    options = _options()
    load = load_average()
    tuning = dataclasses.replace(TUNING, steps=4) if options.quick else TUNING
    samples, tested = (64, 500) if options.quick else (SAMPLES, 10_000)
    dataset, module = data.load("cifar10"), weights.trained("resnet20")
    graph = api.clean(api.capture(module, torch.zeros(2, 3, 32, 32), name="resnet20"))
    inputs = calibration(dataset, samples)
    ranges = calibrate(graph, _batches(inputs))
    known = Known(graph, tuning, samples)
    learned = reconstruct(
        graph,
        inputs,
        bits=BITS,
        ranges=ranges.ranges,
        tuning=tuning,
        seed=SEED,
        progress=_show,
        known=known.constants,
        found=known.keep,
    )
    x, y = dataset.test_x[:tested], dataset.test_y[:tested]
    print("measuring in floats and in integers", flush=True)
    right = {"float": correct(lambda part: predict(module, dataset.normalise(part)), x, y)}
    forms = {
        "w8a8": graph,
        "w4a8 nearest": nearest(graph),
        "w4a8 GPTQ": run_passes(graph, [Gptq(collect_layer_inputs(graph, _batches(inputs)), bits=BITS)])[0],
        "w4a8 reconstructed": learned,
    }
    for name, changed in forms.items():
        model = from_tray(read_tray(tray(changed, inputs)), engine="library")
        right[name] = correct(lambda part, model=model: model.run(dataset.normalise(part)), x, y)
    rows = {name: _measured(right["float"], found) for name, found in right.items()}
    results = {
        "network": "ResNet-20",
        "weights": weights.FILES["resnet20"],
        "dataset": dataset.name,
        "n": tested,
        "settings": {"bits": BITS, "samples": samples, "seed": SEED, **dataclasses.asdict(tuning)},
        "threads": torch.get_num_threads(),
        "reconstruction_s": round(known.seconds, 1),
        "forms": rows,
    }
    print(table(("ResNet-20 on " + dataset.name, "accuracy (95 %)", "drop in points (95 %)", "p"), _rows(rows)))
    write_record(options.output, "compression/resnet20_w4a8", results, NOTES, load, "--quick" if options.quick else "")


def calibration(dataset: Dataset, samples: int) -> np.ndarray:
    """(samples, 3, 32, 32) normalised training images."""
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(dataset.train_x))[:samples])
    return dataset.normalise(dataset.train_x[chosen])


def nearest(graph: Graph) -> Graph:
    """Every weight at the nearest of its codes, with the scales that `reconstruct` starts from."""
    graph = graph.copy()
    for node in graph.nodes:
        name = node.inputs[1] if len(node.inputs) > 1 else ""
        if name in graph.constants:
            rounding = LearnedRounding(graph.constants[name].array, BITS, 0)
            graph.set_constant(name, rounding.constant(nearest=True))
    return graph


def tray(graph: Graph, inputs: np.ndarray) -> bytes:
    """The network as it is deployed, with the library for this machine."""
    program = api.lower(api.quantize(graph, _batches(inputs)))
    return api.build(program, api.BuildOptions(with_source=False))


class Known:
    """Constants of the blocks that are done, in one file that belongs to these settings and this network.

    `seconds` is how long they took, those of an earlier run included.
    """

    def __init__(self, graph: Graph, tuning: Tuning, samples: int) -> None:
        identity = (
            f"{print_graph(graph)} {tuning} {samples} {SEED} {BITS} {torch.get_num_threads()} {torch.__version__}"
        )
        self._path = knobs.cache_dir() / "compression" / f"resnet20-w4a8-{digest_bytes(identity.encode())[:16]}.npz"
        self.constants: dict[str, Constant] = {}
        self.seconds, self._last = 0.0, time.monotonic()
        if self._path.is_file():
            self._read()

    def keep(self, found: dict[str, Constant]) -> None:
        """Write the file anew, with `found` in it."""
        self.constants |= found
        now = time.monotonic()
        self.seconds, self._last = self.seconds + now - self._last, now
        arrays = {"seconds": np.asarray(self.seconds)}
        for name, constant in self.constants.items():
            arrays[f"array {name}"] = constant.array
            if constant.quant is not None:
                arrays[f"scales {name}"] = constant.quant.scale_array()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(self._path, _npz(arrays), force=True)

    def _read(self) -> None:
        with np.load(self._path, allow_pickle=False) as held:
            arrays = dict(held)
        self.seconds = float(arrays["seconds"])
        for key, array in arrays.items():
            kind, _, name = key.partition(" ")
            scales = arrays.get(f"scales {name}")
            if kind == "array":
                quant = None if scales is None else Quant(tuple(map(float, scales)), 0, 0)
                self.constants[name] = Constant(array, quant=quant)


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _options() -> argparse.Namespace:
    found = parser("compression/resnet20_w4a8", __doc__)
    found.add_argument("--quick", action="store_true", help="few images and steps; writes to the cache by default")
    options = found.parse_args()
    if options.quick and options.output == RESULTS / "compression" / "resnet20_w4a8.json":
        options.output = knobs.cache_dir() / "compression" / "resnet20_w4a8-quick.json"
    return options


def _batches(inputs: np.ndarray) -> list[np.ndarray]:
    return [inputs[i : i + BATCH] for i in range(0, min(len(inputs), RANGE_SAMPLES), BATCH)]


def _show(progress: BlockProgress) -> None:
    if progress.step == progress.steps:
        print(
            f"block {progress.block} of {progress.blocks}: error {progress.error:.2f} of rounding to nearest",
            flush=True,
        )


def _measured(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    interval, drop = accuracy_interval(int(after.sum()), len(after)), paired_drop(before, after)
    return {
        "accuracy": {"value": interval.value, "low": interval.low, "high": interval.high},
        "drop": {"value": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value},
    }


def _rows(forms: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    rows = []
    for name, form in forms.items():
        a, d = form["accuracy"], form["drop"]
        accuracy = f"{100 * a['value']:.2f} % ({100 * a['low']:.2f} .. {100 * a['high']:.2f})"
        drop = f"{100 * d['value']:+.2f} ({100 * d['low']:+.2f} .. {100 * d['high']:+.2f})"
        rows.append((name, accuracy, drop, f"{d['p_value']:.3f}"))
    return rows


if __name__ == "__main__":
    main()
