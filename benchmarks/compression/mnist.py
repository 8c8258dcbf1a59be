"""MNIST networks made as small as their accuracy allows: LeNet-300-100, LeNet-5 (Caffe) and EdgeCNN, whole files.

    python benchmarks/compression/mnist.py [--models lenet300,lenet5,edgecnn] [--quick]

1. The network is trained (Adam, images shifted by a pixel), and trained as long again with all weights: the baseline,
   which had the epochs that the compressed network gets.
2. From the first network on, weights go while it is trained (`GradualPruning`, LAMP scores), with it as the teacher;
   channels that are left without a part are removed (`RemoveDeadChannels`).
3. Weights are rounded to few bits with one scale per layer and trained so (`quantization_aware`).
4. The integer program is packed without libraries and sources: manifest, program, weights and self-test, all that a
   device with the runtime needs. The compiled library classifies the 10,000 test images.

Errors are of that program; sizes are whole files, beside them the tray with a library for this machine and the coded
weights alone, which is what papers count. The ratio is to the float parameters, 4 bytes each. An interrupted run goes
on from its checkpoints in PENJING_CACHE. Writes docs/results/compression/mnist.json; a quarter of an hour of one core
for each convolutional network.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
from _record import RESULTS, load_average, parser, table, write_record
from penjing import api
from penjing.bundle.coding.tensors import pack_tensors
from penjing.bundle.pack import without_libraries
from penjing.bundle.tray import read_tray
from penjing.compress.prune.magnitude import lamp_masks
from penjing.compress.prune.remove_dead_channels import RemoveDeadChannels
from penjing.compress.quantize.calibrate import Ranges, calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.core import knobs
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.measure.correct import correct
from penjing.measure.intervals import accuracy_interval, paired_drop
from penjing.runtime.loading import from_tray
from penjing.train.augment import shift
from penjing.train.distil import Distillation
from penjing.train.fit import Progress, evaluate, fit
from penjing.train.gradual_pruning import GradualPruning
from penjing.train.module import trainable
from penjing.train.precision import Precision
from penjing.train.qat import quantization_aware
from penjing.zoo import catalog, data
from penjing.zoo.data import Dataset

CALIBRATION, BATCH, RATE = 512, 128, 0.002
QUICK_SAMPLES = 2048
SHIFT = partial(shift, pixels=1)


@dataclass(frozen=True)
class Plan:
    """How one network is compressed.

    Attributes:
        name: in the catalogue.
        density: share of weights that stay.
        bits: of their codes.
        dense_epochs, prune_epochs, code_epochs: of the three trainings.
        precision: of all trainings.
        bar: the ratio asked for, and the highest error in percent (None: no significant loss).
    """

    name: str
    density: float
    bits: int
    dense_epochs: int
    prune_epochs: int
    code_epochs: int
    precision: Precision
    bar: tuple[float, float | None]


PLANS = (
    Plan("lenet300", 0.02, 4, 20, 30, 10, "float32", (64, 1.6)),
    Plan("lenet5", 0.01, 4, 8, 14, 5, "bfloat16", (160, 0.9)),
    Plan("edgecnn", 0.04, 4, 6, 16, 8, "bfloat16", (60, None)),
)
NOTES = (
    "errors: the compiled integer program on all 10,000 test images; drops are paired with the baseline",
    "the baseline is dense, in floats, trained for all epochs together that the compressed network had",
    "ratio: 4 bytes for each parameter of the float network, over the whole file without libraries and sources",
)


def main() -> None:
    """Train, compress, measure, print, write."""
    options = parser("compression/mnist", __doc__)
    options.set_defaults(output=RESULTS / "compression" / "mnist.json")
    options.add_argument("--models", default=",".join(plan.name for plan in PLANS), help="which, joined by commas")
    options.add_argument("--device", default="cpu", help="where networks are trained, as torch names it")
    options.add_argument("--quick", action="store_true", help=f"{QUICK_SAMPLES} training images and single epochs")
    given = options.parse_args()
    load = load_average()
    torch.set_num_threads(1)
    plans = [plan for plan in PLANS if plan.name in given.models.split(",")]
    results = [measured(quick(plan) if given.quick else plan, given.device, quick=given.quick) for plan in plans]
    rows = [shown(r) for r in results]
    head = (
        "network",
        "float bytes",
        "whole file",
        "ratio",
        "with library",
        "weights alone",
        "error",
        "baseline",
        "bar",
    )
    print(table(head, rows))
    named = f"--models {given.models}" + " --quick" * given.quick
    write_record(given.output, "compression/mnist", results, NOTES, load, named)


def quick(plan: Plan) -> Plan:
    """The directions in seconds: less training, and more weights so that so little training can use them."""
    return replace(plan, density=0.1, dense_epochs=3, prune_epochs=4, code_epochs=1)


def measured(plan: Plan, device: str = "cpu", *, quick: bool) -> dict[str, Any]:
    """Compress one network and say what it cost."""
    model = catalog.find(plan.name)
    dataset = data.mnist(model.input_shape[-1])
    if quick:
        train = slice(QUICK_SAMPLES)
        dataset = replace(dataset, train_x=dataset.train_x[train], train_y=dataset.train_y[train])
    run = _Run(plan, dataset, "-quick" * quick, device)
    dense, baseline = run.dense()
    small = run.pruned(dense)
    graph, ranges = run.coded(small, dense)
    program = api.lower(run_passes(graph, [QuantizeStatic(ranges)])[0])
    tray = api.build(program, run.options())
    whole = without_libraries(read_tray(tray))
    classes = correct(from_tray(read_tray(tray)).run, dataset.normalise(dataset.test_x), dataset.test_y)
    drop = paired_drop(baseline, classes)
    weights = {name: c.array for name, c in program.constants.items()}
    codes = {name: array for name, array in weights.items() if array.dtype == np.int8}
    floats = 4 * sum(p.numel() for p in catalog.create(plan.name).parameters())
    error = accuracy_interval(int((~classes).sum()), len(classes))
    return {
        "network": model.title,
        "model": plan.name,
        "n": len(classes),
        "float_bytes": floats,
        "file_bytes": len(whole),
        "ratio": floats / len(whole),
        "file_with_library_bytes": len(tray),
        "packed_tensors_bytes": len(pack_tensors(weights)),
        "packed_weights_bytes": len(pack_tensors(codes)),
        "weights_ratio": floats / len(pack_tensors(codes)),
        "nonzero_weights": int(sum(np.count_nonzero(array) for array in codes.values())),
        "weights": int(sum(array.size for array in codes.values())),
        "bits": plan.bits,
        "error": {"value": error.value, "low": error.low, "high": error.high},
        "baseline_error": float((~baseline).mean()),
        "drop": {"value": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value},
        "bar": {"ratio": plan.bar[0], "error_percent": plan.bar[1]},
        "epochs": {"dense": plan.dense_epochs, "prune": plan.prune_epochs, "code": plan.code_epochs},
    }


def shown(r: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    e, bar = r["error"], r["bar"]
    limit = "no significant loss" if bar["error_percent"] is None else f"<= {bar['error_percent']} %"
    return (
        r["network"],
        f"{r['float_bytes']:,}",
        f"{r['file_bytes']:,}",
        f"{r['ratio']:.0f}x",
        f"{r['file_with_library_bytes']:,}",
        f"{r['packed_weights_bytes']:,} ({r['weights_ratio']:.0f}x)",
        f"{100 * e['value']:.2f} % ({100 * e['low']:.2f} .. {100 * e['high']:.2f})",
        f"{100 * r['baseline_error']:.2f} % (p = {r['drop']['p_value']:.2g})",
        f"{bar['ratio']:g}x at {limit}",
    )


class _Run:
    """The trainings of one network, each with its checkpoint."""

    def __init__(self, plan: Plan, dataset: Dataset, suffix: str, device: str) -> None:
        self.plan = plan
        self.dataset = dataset
        self.device = device
        self.folder = knobs.cache_dir() / "compression" / f"mnist-{plan.name}{suffix}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def dense(self) -> tuple[Graph, np.ndarray]:
        """The trained network, and which test images the baseline gets right that was trained on as long again."""
        plan = self.plan
        module = catalog.create(plan.name)
        self._fit(module, "dense", plan.dense_epochs, RATE)
        example = torch.from_numpy(self.dataset.normalise(self.dataset.test_x[:2]))
        graph = api.clean(api.capture(module.cpu().eval(), example, name=plan.name))
        self._fit(module, "baseline", plan.prune_epochs + plan.code_epochs, RATE / 2)
        right = evaluate(module.eval(), self.dataset.test_x, self.dataset.test_y, normalise=self.dataset.normalise)
        return graph, right

    def pruned(self, dense: Graph) -> Graph:
        """With few weights, and no channels that have no part in the result."""
        module = trainable(dense)
        hook = GradualPruning(lamp_masks, 1 - self.plan.density, end=0.6, every=50)
        teacher = Distillation(trainable(dense).to(self.device), temperature=3.0, share=0.7)
        self._fit(module, "prune", self.plan.prune_epochs, RATE / 2, on_step=hook, loss=teacher)
        small, (log,) = run_passes(module.to_graph(), [RemoveDeadChannels()])
        print(*(f"  {remark.where}: {remark.text}" for remark in log.changed), sep="\n", flush=True)
        return small

    def coded(self, small: Graph, dense: Graph) -> tuple[Graph, Ranges]:
        """On grids of few codes, and the ranges of its activations."""
        plan, dataset = self.plan, self.dataset
        rounded, _ = run_passes(small, [RoundWeights(bits=plan.bits, per="tensor", clip="mse")])
        ranges = calibrate(rounded, [dataset.normalise(dataset.train_x[:CALIBRATION])])
        module = quantization_aware(rounded, ranges.ranges, bits=plan.bits)
        teacher = Distillation(trainable(dense).to(self.device), temperature=3.0, share=0.7)
        self._fit(module, "code", plan.code_epochs, RATE / 4, loss=teacher)
        return module.to_graph(), Ranges(module.ranges, ranges.samples)

    def options(self) -> api.BuildOptions:
        """Of the tray."""
        port = api.Port(self.dataset.mean, self.dataset.std, (0.0, 1.0), "gray")
        return api.BuildOptions(ports=[port], labels=self.dataset.labels, with_source=False)

    def _fit(self, module: torch.nn.Module, step: str, epochs: int, rate: float, **options: Any) -> None:
        def told(p: Progress) -> None:
            if p.step == p.steps:
                print(f"  {self.plan.name}, {step}: epoch {p.epoch} of {p.epochs}, loss {p.loss:.4f}", flush=True)

        fit(
            module.to(self.device),
            self.dataset,
            epochs=epochs,
            batch_size=BATCH,
            learning_rate=rate,
            optimizer="adam",
            schedule="one-cycle",
            augment=SHIFT,
            precision=self.plan.precision,
            progress=told,
            checkpoint=self.folder / f"{step}-{epochs}-{self.plan.density}-{self.plan.bits}.checkpoint",
            **options,
        )


if __name__ == "__main__":
    main()
