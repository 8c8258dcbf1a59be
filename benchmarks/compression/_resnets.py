"""What the scripts for smaller ResNets share: the network and its data, trainings with a teacher, measurements."""

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

from _forms import Form, pruned

from _subjects import BATCH, CALIBRATION_SAMPLES, Subject, library_model
from penjing import api
from penjing.core import knobs
from penjing.ir.graph import Graph
from penjing.measure.intervals import accuracy_interval, paired_drop
from penjing.measure.timing import ratio, time_interleaved
from penjing.program.cost import total_macs
from penjing.recipe.graph_file import SavedGraph, load_graph, save_graph
from penjing.runtime.model import Model
from penjing.train.augment import crop_and_flip
from penjing.train.batch_norm import reestimate_batch_norm
from penjing.train.checkpoint import digest_state
from penjing.train.distil import Distillation
from penjing.train.fit import Progress, fit
from penjing.train.gradual_pruning import GradualPruning
from penjing.train.module import trainable
from penjing.train.precision import Precision
from penjing.zoo import catalog, data, weights
from penjing.zoo.data import Dataset

UNFINISHED = 75  # the exit status of a script that has done as many epochs as it was to do in one call
PRECISION: Precision = "bfloat16"
TEACHER_SHARE = 0.7


@dataclass(frozen=True)
class Plan:
    """What is measured of one network unless the command line says otherwise."""

    title: str
    forms: str
    epochs: int
    given_epochs: int


PLANS = {
    "resnet20": Plan("ResNet-20", "channels:0.44,gradual-blocks:0.2,gradual-n-of-m:0.07", 45, 0),
    "resnet56": Plan("ResNet-56", "n-of-m:0.25", 6, 20),
}


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

    def right(self, run: Callable[[np.ndarray], np.ndarray | tuple[np.ndarray, ...]]) -> np.ndarray:
        """Which of the test images `run` gets right; it takes normalised images."""
        name = self.options.network
        return Subject(name, PLANS[name].title, "", self.module, self.dataset).right(run, self.test_images)

    def right_before(self) -> np.ndarray:
        """Likewise for the given network in floats."""
        with torch.inference_mode():
            return self.right(lambda x: self.module(torch.from_numpy(x)).numpy())


@dataclass(frozen=True, eq=False)
class Built:
    """A network as a compiled integer program."""

    program: Graph
    tray: bytes
    model: Model


class EnoughForNow(KeyboardInterrupt):
    """As many epochs as one call was to do; `fit` saves its state as it does on Ctrl-C."""


def add_training_options(found: argparse.ArgumentParser) -> None:
    """The options of `trained`, except for the number of epochs."""
    found.add_argument("--rate", type=float, default=0.05, help="highest learning rate")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--device", default="cpu", help="where networks are trained, as torch names it")
    found.add_argument("--stop-after", type=int, default=0, help="epochs after which to end, to be called again")
    found.add_argument("--quick", action="store_true", help="try the road on a few images; writes only to an --output")


def work_of(options: argparse.Namespace) -> Work:
    """What the options ask for; a network without weights in the data folder is trained now."""
    dataset = data.load("cifar10")
    if options.quick:
        dataset = replace(
            dataset,
            train_x=dataset.train_x[:512],
            train_y=dataset.train_y[:512],
            test_x=dataset.test_x[:200],
            test_y=dataset.test_y[:200],
        )
    module = _given(dataset, options)
    given = api.capture(module, catalog.find(options.network).random_inputs(2), name=options.network)
    if options.quick:
        return Work(module, given, dataset, 200, 64, 3, options)
    return Work(module, given, dataset, len(dataset.test_y), CALIBRATION_SAMPLES, 40, options)


def _given(dataset: Dataset, options: argparse.Namespace) -> nn.Module:
    """The network that is made smaller: the weights of the data folder, or else trained from the start."""
    if options.network in weights.FILES:
        return weights.trained(options.network)
    epochs = 1 if options.quick else PLANS[options.network].given_epochs
    module = catalog.create(options.network).to(options.device)
    fit(
        module,
        dataset,
        epochs=epochs,
        batch_size=128,
        learning_rate=0.2,
        schedule="one-cycle",
        weight_decay=5e-4,
        augment=crop_and_flip,
        seed=options.seed,
        precision=PRECISION,
        progress=_reporter(f"{options.network}, given", options),
        checkpoint=_checkpoint(f"given-{epochs}", options),
    )
    return module.cpu()


def untrained(form: Form, work: Work) -> Graph:
    """In a form that is made in one shot, before it is trained.

    Kept beside the checkpoints: another machine may round otherwise, and its training could not be taken up here.
    """
    if work.options.quick:
        return pruned(form, work.given, work.calibration())
    path = _folder() / f"{work.options.network}-{digest_state(work.module)[:8]}-{form.kind}-{form.share:g}.graph"
    if path.exists():
        return load_graph(path).graph
    graph = pruned(form, work.given, work.calibration())
    save_graph(SavedGraph(graph), path)
    return graph


def trained(graph: Graph, hook: GradualPruning | None, form: str, work: Work) -> Graph:
    """`graph` after training, its zeros where they were, with batch norms measured on images as they are."""
    options = work.options
    student = trainable(graph, batch_norm="train").to(options.device)
    fit(
        student,
        work.dataset,
        epochs=options.epochs,
        batch_size=128,
        learning_rate=options.rate,
        schedule="one-cycle",
        weight_decay=1e-4,
        augment=crop_and_flip,
        loss=Distillation(trainable(work.given).to(options.device), share=TEACHER_SHARE, precision=PRECISION),
        seed=options.seed,
        precision=PRECISION,
        on_step=hook,
        progress=_reporter(f"{options.network}, {form}", options),
        checkpoint=_checkpoint(f"{form.replace(':', '-')}-{options.epochs}", options),
    )
    return reestimate_batch_norm(student.to_graph(), work.batches(8 * work.calibration_images, seed=1))


def _checkpoint(form: str, options: argparse.Namespace) -> Path | None:
    if options.quick:
        return None
    return _folder() / f"{options.network}-{form}-{options.rate}-{options.seed}.checkpoint"


def _folder() -> Path:
    folder = knobs.cache_dir() / "compression"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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


def built(graph: Graph, work: Work) -> Built:
    """Quantized, lowered and compiled; it answers as its definition says."""
    program = api.lower(api.quantize(graph, work.calibration()))
    tray = api.build(program, api.BuildOptions(with_source=False))
    model = library_model(tray)
    if model.self_test() != 0:
        raise SystemExit(f"{graph.name}: a library differs from its definition")
    return Built(program, tray, model)


def measured(networks: Mapping[str, Built], before: np.ndarray, work: Work) -> list[dict[str, Any]]:
    """Accuracies, paired with `before`, and times, all in one run; times are compared with the network "given"."""
    bound = {name: one.model.bind() for name, one in networks.items()}
    calls = {name: one.run for name, one in bound.items()}
    timings = time_interleaved(calls, rounds=work.rounds, min_time_ms=10, clock=time.process_time_ns)
    rows = []
    for name, one in networks.items():
        right = work.right(one.model.run)
        drop = paired_drop(before, right)
        codes = [c.array for c in one.program.constants.values() if c.array.dtype == np.int8]
        rows.append(
            {
                "form": name,
                "accuracy": interval(right),
                "drop": {"value": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value},
                "median_us": timings[name].median_us,
                "faster": ratio(timings["given"], timings[name]),
                "tray_bytes": len(one.tray),
                "zeros": sum(int((array == 0).sum()) for array in codes) / sum(array.size for array in codes),
                "macs": total_macs(one.program),
            }
        )
    return rows


def interval(right: np.ndarray) -> dict[str, float]:
    """The share of images that are right, with its 95 % interval."""
    found = accuracy_interval(int(right.sum()), len(right))
    return {"accuracy": found.value, "low": found.low, "high": found.high}
