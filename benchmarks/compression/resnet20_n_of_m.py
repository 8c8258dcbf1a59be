"""ResNet-20 with most weights zero, in a pattern that kernels run, and int8: accuracy and speed against its dense int8.

1. The given network is pruned in one shot with compensation (`PruneObs`): N:M with n chosen for each layer by its error
   (`choose_n`), or blocks of 16 x 4.
2. It is trained for a few epochs with its masks held, to classify and to agree with the given network.
3. Statistics of the batch norms are measured anew, the graph is folded, quantized (w8a8), lowered and compiled; the
   library classifies all test images, and races with the library of the given network in w8a8.

The dense network gets the same training, as a baseline (--no-baseline leaves it out). An interrupted run goes on from
its checkpoint in PENJING_CACHE; --stop-after 1 ends after each epoch with exit status 75, so that others get a turn:

    until python benchmarks/compression/resnet20_n_of_m.py --stop-after 1; do :; done

Writes docs/results/compression/resnet20_n_of_m.json. An epoch takes 2 minutes of one core with bfloat16 products.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[1]))

from _record import RESULTS, load_average, parser, table, write_record
from _subjects import BATCH, CALIBRATION_SAMPLES, Subject, library_model
from penjing import api
from penjing.compress.layer_inputs import LayerInputs, collect_layer_inputs
from penjing.compress.prune.choose_n import choose_n, n_of_m_errors
from penjing.compress.prune.pattern_layers import pattern_layers
from penjing.compress.prune.patterns import Blocks, NOfM, Pattern
from penjing.compress.prune.prune_obs import PruneObs
from penjing.core import knobs
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.measure.intervals import accuracy_interval, paired_drop
from penjing.measure.timing import ratio, time_interleaved
from penjing.program.cost import total_macs
from penjing.train.augment import crop_and_flip
from penjing.train.batch_norm import reestimate_batch_norm
from penjing.train.distil import Distillation
from penjing.train.fit import Progress, fit
from penjing.train.module import trainable
from penjing.train.precision import Precision
from penjing.zoo import catalog, data, weights
from penjing.zoo.data import Dataset

UNFINISHED = 75
PRECISION: Precision = "bfloat16"
TEACHER_SHARE = 0.7
STATISTICS = 4096  # images for the batch norms
NOTES = (
    "accuracy: compiled integer programs on the test images; drops are paired with the given float network",
    "speed: batch 1, one thread, codes in and out, processor time, interleaved rounds of at least 10 ms",
    "CIFAR-10 (JPEG) is CIFAR-10 re-encoded with loss: its figures lie some points under the literature's",
)


@dataclass(frozen=True)
class Work:
    """The given network, its data, and how much of them a run takes."""

    given: nn.Module
    dataset: Dataset
    test_images: int
    calibration_images: int
    rounds: int
    options: argparse.Namespace

    def batches(self, count: int, seed: int = 0) -> Iterator[np.ndarray]:
        """Training images, normalised."""
        chosen = np.random.default_rng(seed).permutation(len(self.dataset.train_x))[:count]
        for start in range(0, len(chosen), BATCH):
            yield self.dataset.normalise(self.dataset.train_x[chosen[start : start + BATCH]])


def main() -> None:
    """Prune, train, measure, print, write."""
    options = _options()
    load = load_average()
    torch.set_num_threads(1)
    work = _work(options)
    example = catalog.find("resnet20").random_inputs(2)
    graph = api.capture(work.given, example, name="resnet20")
    pruned, patterns = _pruned(graph, work)
    forms = {"given": graph, "pruned": _trained(pruned, "pruned", graph, work)}
    if options.baseline:
        forms["dense, trained further"] = _trained(graph, "dense", graph, work)
    programs = {name: _program(form, work) for name, form in forms.items()}
    result = _measured(programs, patterns, work)
    print(_shown(result))
    if options.output is not None:
        write_record(options.output, "compression/resnet20_n_of_m", result, NOTES, load, _asked(options))


def _options() -> argparse.Namespace:
    found = parser("compression/resnet20_n_of_m", __doc__)
    found.add_argument("--form", choices=("n-of-m", "blocks"), default="n-of-m", help="the pattern of zeros")
    found.add_argument("--density", type=float, default=0.25, help="of weights that stay, on average over MACs")
    found.add_argument("--epochs", type=int, default=12)
    found.add_argument("--rate", type=float, default=0.05, help="highest learning rate")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--no-baseline", dest="baseline", action="store_false", help="leave out the dense network")
    found.add_argument("--stop-after", type=int, default=0, help="epochs after which to end, to be called again")
    found.add_argument("--quick", action="store_true", help="try the road on a few images; writes only to an --output")
    options = found.parse_args()
    if options.quick:
        options.epochs, options.stop_after, options.baseline = 1, 0, False
        if options.output == RESULTS / "compression/resnet20_n_of_m.json":
            options.output = None
    return options


def _asked(options: argparse.Namespace) -> str:
    words = f"--form {options.form} --density {options.density} --epochs {options.epochs} --rate {options.rate}"
    return f"{words} --seed {options.seed}" + ("" if options.baseline else " --no-baseline")


def _work(options: argparse.Namespace) -> Work:
    dataset, given = data.load("cifar10"), weights.trained("resnet20")
    if not options.quick:
        return Work(given, dataset, len(dataset.test_y), CALIBRATION_SAMPLES, 40, options)
    few = Dataset(
        dataset.name,
        *(part[:512] for part in (dataset.train_x, dataset.train_y)),
        *(part[:200] for part in (dataset.test_x, dataset.test_y)),
        dataset.labels,
        dataset.mean,
        dataset.std,
    )
    return Work(given, few, 200, 64, 3, options)


def _pruned(graph: Graph, work: Work) -> tuple[Graph, dict[str, Pattern]]:
    """The graph with zeros, and the pattern of each layer that has one."""
    inputs = collect_layer_inputs(graph, work.batches(work.calibration_images))
    patterns = _patterns(graph, inputs, work.options)
    pruned, (log,) = run_passes(graph, [PruneObs(inputs, per_layer=patterns)])
    for remark in log.changed:
        print(f"{remark.where}: {remark.text}")
    return pruned, patterns


def _patterns(graph: Graph, inputs: dict[str, LayerInputs], options: argparse.Namespace) -> dict[str, Pattern]:
    layers = {name: layer for name, layer in pattern_layers(graph).items() if layer.reason is None}
    if options.form == "blocks":
        return {name: Blocks(1 - options.density) for name in layers}
    errors = n_of_m_errors(graph, inputs)
    chosen = choose_n(errors, {name: layer.macs for name, layer in layers.items()}, options.density)
    return {name: NOfM(n) for name, n in chosen.items()}


class EnoughForNow(KeyboardInterrupt):
    """As many epochs as one call was to do; `fit` saves its state as it does on Ctrl-C."""


def _trained(graph: Graph, name: str, given: Graph, work: Work) -> Graph:
    """`graph` after training, its zeros where they were, with batch norms measured on images as they are."""
    options = work.options
    student = trainable(graph, batch_norm="train")
    fit(
        student,
        work.dataset,
        epochs=options.epochs,
        batch_size=128,
        learning_rate=options.rate,
        schedule="one-cycle",
        weight_decay=1e-4,
        augment=crop_and_flip,
        loss=Distillation(trainable(given), share=TEACHER_SHARE, precision=PRECISION),
        seed=options.seed,
        precision=PRECISION,
        progress=_reporter(name, options),
        checkpoint=None if options.quick else _checkpoint(name, options),
    )
    return reestimate_batch_norm(student.to_graph(), work.batches(STATISTICS, seed=1))


def _checkpoint(name: str, options: argparse.Namespace) -> Path:
    folder = knobs.cache_dir() / "compression"
    folder.mkdir(parents=True, exist_ok=True)
    form = "" if name == "dense" else f"-{options.form}-{options.density}"
    return folder / f"resnet20-{name}{form}-{options.epochs}-{options.rate}-{options.seed}.checkpoint"


def _reporter(name: str, options: argparse.Namespace) -> Callable[[Progress], None]:
    done, losses, started = 0, 0.0, time.monotonic()

    def report(step: Progress) -> None:
        nonlocal done, losses
        losses += step.loss
        if step.step < step.steps:
            return
        done += 1
        seconds = time.monotonic() - started
        where = f"{name}: epoch {step.epoch} of {step.epochs}"
        print(f"{where}, mean loss {losses / done / step.steps:.3f}, {seconds:.0f} s", flush=True)
        if done == options.stop_after and step.epoch < step.epochs:
            raise EnoughForNow

    return report


def _program(graph: Graph, work: Work) -> Graph:
    return api.lower(api.quantize(graph, work.batches(work.calibration_images)))


def _measured(programs: dict[str, Graph], patterns: dict[str, Pattern], work: Work) -> dict[str, Any]:
    """Accuracies and times of compiled programs."""
    subject = Subject("resnet20", "ResNet-20", "", work.given, work.dataset)
    with torch.inference_mode():
        before = subject.right(lambda x: work.given(torch.from_numpy(x)).numpy(), work.test_images)
    trays = {name: api.build(program, api.BuildOptions(with_source=False)) for name, program in programs.items()}
    models = {name: library_model(tray) for name, tray in trays.items()}
    for name, model in models.items():
        if model.self_test() != 0:
            raise SystemExit(f"{name}: the library differs from its definition")
    calls = {name: model.bind().run for name, model in models.items()}
    timings = time_interleaved(calls, rounds=work.rounds, min_time_ms=10, clock=time.process_time_ns)
    rows = []
    for name, model in models.items():
        right = subject.right(model.run, work.test_images)
        drop = paired_drop(before, right)
        zeros, total = _zeros(programs[name])
        rows.append(
            {
                "form": f"{name}, w8a8",
                "accuracy": _interval(right),
                "drop": {"value": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value},
                "median_us": timings[name].median_us,
                "faster": ratio(timings["given"], timings[name]),
                "tray_bytes": len(trays[name]),
                "zeros": zeros / total,
                "macs": total_macs(programs[name]),
            }
        )
    options = work.options
    return {
        "network": "ResNet-20",
        "dataset": work.dataset.name,
        "images": work.test_images,
        "form": options.form,
        "density": options.density,
        "epochs": options.epochs,
        "patterns": {name: str(pattern) for name, pattern in patterns.items()},
        "float": _interval(before),
        "rows": rows,
    }


def _zeros(program: Graph) -> tuple[int, int]:
    found = [constant.array for constant in program.constants.values() if constant.array.dtype == np.int8]
    return sum(int((array == 0).sum()) for array in found), sum(array.size for array in found)


def _interval(right: np.ndarray) -> dict[str, float]:
    found = accuracy_interval(int(right.sum()), len(right))
    return {"accuracy": found.value, "low": found.low, "high": found.high}


def _shown(result: dict[str, Any]) -> str:
    head = (f"ResNet-20, float {100 * result['float']['accuracy']:.2f} %", "accuracy", "drop", "us", "faster", "zeros")
    return "\n" + table(
        head,
        [
            (
                row["form"],
                f"{100 * row['accuracy']['accuracy']:.2f} %",
                "{value:+.2f} ({low:+.2f} .. {high:+.2f})".format(**{k: 100 * v for k, v in row["drop"].items()}),
                f"{row['median_us']:.1f}",
                f"{row['faster']:.2f}x",
                f"{100 * row['zeros']:.1f} %",
            )
            for row in result["rows"]
        ],
    )


if __name__ == "__main__":
    try:
        main()
    except EnoughForNow:
        sys.exit(UNFINISHED)
