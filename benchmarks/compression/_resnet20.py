"""The road that the scripts for a pruned ResNet-20 share: options, training with a teacher, programs, measurements.

The given network, smaller in some way, is trained to classify and to agree with the given one; statistics of the
batch norms are measured anew, the graph is folded, quantized (w8a8), lowered and compiled; the library classifies all
test images, and races with the library of the given network in w8a8. The dense network gets the same training, as a
baseline.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[1]))

from _record import RESULTS, load_average, parser, table, write_record
from _subjects import BATCH, CALIBRATION_SAMPLES, Subject, library_model
from penjing import api
from penjing.core import knobs
from penjing.ir.graph import Graph
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
DENSE = "dense"
NOTES = (
    "accuracy: compiled integer programs on the test images; drops are paired with the given float network",
    "speed: batch 1, one thread, codes in and out, processor time, interleaved rounds of at least 10 ms",
    "CIFAR-10 (JPEG) is CIFAR-10 re-encoded with loss: its figures lie some points under the literature's",
)


@dataclass(frozen=True, eq=False)
class Work:
    """The given network, also as a graph with its batch norms, its data, and how much of them a run takes."""

    module: nn.Module
    given: Graph
    dataset: Dataset
    test_images: int
    calibration_images: int
    rounds: int
    options: argparse.Namespace

    def batches(self, images: int, seed: int = 0) -> list[np.ndarray]:
        """Normalised training images in batches."""
        chosen = np.random.default_rng(seed).permutation(len(self.dataset.train_x))[:images]
        inputs = self.dataset.normalise(self.dataset.train_x[chosen])
        return [inputs[i : i + BATCH] for i in range(0, len(inputs), BATCH)]

    def calibration(self) -> list[np.ndarray]:
        """The images that statistics and ranges come from."""
        return self.batches(self.calibration_images)


@dataclass(frozen=True)
class Smaller:
    """A network that was pruned.

    Attributes:
        graph: to be trained.
        form: tells its checkpoint from others.
        facts: what the record says of it.
    """

    graph: Graph
    form: str
    facts: Mapping[str, Any]


class EnoughForNow(KeyboardInterrupt):
    """As many epochs as one call was to do; `fit` saves its state as it does on Ctrl-C."""


def run(
    name: str, description: str | None, own: Callable[[argparse.ArgumentParser], None], make: Callable[[Work], Smaller]
) -> None:
    """The whole of a script; ends the process.

    Args:
        name: of the script below `benchmarks/`, without `.py`.
        description: its docstring.
        own: adds its options.
        make: prunes the given network.
    """
    found = parser(name, description)
    own(found)
    _add_options(found)
    options = found.parse_args()
    if options.quick:
        options.epochs, options.stop_after, options.baseline = 1, 0, False
        if options.output == RESULTS / f"{name}.json":
            options.output = None
    load = load_average()
    torch.set_num_threads(1)
    work = _work(options)
    smaller = make(work)
    try:
        result = {**smaller.facts, **_result(smaller, work)}
    except EnoughForNow:
        sys.exit(UNFINISHED)
    print(_shown(result))
    if options.output is not None:
        write_record(options.output, name, result, NOTES, load, _asked(found, options))


def _add_options(found: argparse.ArgumentParser) -> None:
    found.add_argument("--epochs", type=int, default=12)
    found.add_argument("--rate", type=float, default=0.05, help="highest learning rate")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--no-baseline", dest="baseline", action="store_false", help="leave out the dense network")
    found.add_argument("--stop-after", type=int, default=0, help="epochs after which to end, to be called again")
    found.add_argument("--quick", action="store_true", help="try the road on a few images; writes only to an --output")


def _asked(found: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """The options that decided what was measured, as they are given."""
    left_out = ("output", "stop_after", "quick", "baseline")
    words = [f"--{n.replace('_', '-')} {value}" for n, value in vars(options).items() if n not in left_out]
    return " ".join(words) + ("" if options.baseline else " --no-baseline")


def _work(options: argparse.Namespace) -> Work:
    dataset, module = data.load("cifar10"), weights.trained("resnet20")
    given = api.capture(module, catalog.find("resnet20").random_inputs(2), name="resnet20")
    if not options.quick:
        return Work(module, given, dataset, len(dataset.test_y), CALIBRATION_SAMPLES, 40, options)
    few = replace(
        dataset,
        train_x=dataset.train_x[:512],
        train_y=dataset.train_y[:512],
        test_x=dataset.test_x[:200],
        test_y=dataset.test_y[:200],
    )
    return Work(module, given, few, 200, 64, 3, options)


def _result(smaller: Smaller, work: Work) -> dict[str, Any]:
    forms = {"given": work.given, "pruned": _trained(smaller.graph, "pruned", smaller.form, work)}
    if work.options.baseline:
        forms["dense, trained further"] = _trained(work.given, DENSE, "", work)
    programs = {name: api.lower(api.quantize(graph, work.calibration())) for name, graph in forms.items()}
    before, rows = _measured(programs, work)
    return {
        "network": "ResNet-20",
        "dataset": work.dataset.name,
        "images": work.test_images,
        "epochs": work.options.epochs,
        "float": before,
        "rows": rows,
    }


def _trained(graph: Graph, name: str, form: str, work: Work) -> Graph:
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
        loss=Distillation(trainable(work.given), share=TEACHER_SHARE, precision=PRECISION),
        seed=options.seed,
        precision=PRECISION,
        progress=_reporter(name, options),
        checkpoint=None if options.quick else _checkpoint(name, form, options),
    )
    return reestimate_batch_norm(student.to_graph(), work.batches(8 * work.calibration_images, seed=1))


def _checkpoint(name: str, form: str, options: argparse.Namespace) -> Path:
    folder = knobs.cache_dir() / "compression"
    folder.mkdir(parents=True, exist_ok=True)
    words = [word for word in ("resnet20", name, form) if word]
    return folder / f"{'-'.join(words)}-{options.epochs}-{options.rate}-{options.seed}.checkpoint"


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


def _measured(programs: Mapping[str, Graph], work: Work) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Accuracy of the float network; accuracies and times of compiled programs."""
    subject = Subject("resnet20", "ResNet-20", "", work.module, work.dataset)
    with torch.inference_mode():
        before = subject.right(lambda x: work.module(torch.from_numpy(x)).numpy(), work.test_images)
    trays = {name: api.build(program, api.BuildOptions(with_source=False)) for name, program in programs.items()}
    models = {name: library_model(tray) for name, tray in trays.items()}
    for name, model in models.items():
        if model.self_test() != 0:
            raise SystemExit(f"{name}: the library differs from its definition")
    bound = {name: model.bind() for name, model in models.items()}
    calls = {name: one.run for name, one in bound.items()}
    timings = time_interleaved(calls, rounds=work.rounds, min_time_ms=10, clock=time.process_time_ns)
    rows = []
    for name, model in models.items():
        right = subject.right(model.run, work.test_images)
        drop = paired_drop(before, right)
        codes = [c.array for c in programs[name].constants.values() if c.array.dtype == np.int8]
        rows.append(
            {
                "form": f"{name}, w8a8",
                "accuracy": _interval(right),
                "drop": {"value": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value},
                "median_us": timings[name].median_us,
                "faster": ratio(timings["given"], timings[name]),
                "tray_bytes": len(trays[name]),
                "zeros": sum(int((array == 0).sum()) for array in codes) / sum(array.size for array in codes),
                "macs": total_macs(programs[name]),
            }
        )
    return _interval(before), rows


def _interval(right: np.ndarray) -> dict[str, float]:
    found = accuracy_interval(int(right.sum()), len(right))
    return {"accuracy": found.value, "low": found.low, "high": found.high}


def _shown(result: Mapping[str, Any]) -> str:
    floats = f"ResNet-20, float {100 * result['float']['accuracy']:.2f} %"
    return "\n" + table(
        (floats, "accuracy", "drop", "us", "faster", "zeros", "MMAC"),
        [
            (
                row["form"],
                f"{100 * row['accuracy']['accuracy']:.2f} %",
                "{value:+.2f} ({low:+.2f} .. {high:+.2f})".format(**{k: 100 * v for k, v in row["drop"].items()}),
                f"{row['median_us']:.1f}",
                f"{row['faster']:.2f}x",
                f"{100 * row['zeros']:.1f} %",
                f"{row['macs'] / 1e6:.1f}",
            )
            for row in result["rows"]
        ],
    )
