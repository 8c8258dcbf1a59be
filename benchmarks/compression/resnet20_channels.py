"""ResNet-20 with half of its multiply-accumulates gone from the shapes: accuracy and speed against its dense int8.

1. Of the given network, the residual block goes that does least (`RemoveBlocks`), then channels in one shot until a
   share of multiply-accumulates is left, those first that the rest of a layer's inputs can replace; layers that lose
   inputs are refitted (`PruneChannels`).
2. The small network is trained to classify and to agree with the given one.
3. Statistics of the batch norms are measured anew, the graph is folded, quantized (w8a8), lowered and compiled; the
   library classifies all test images, and races with the library of the given network in w8a8.

The dense network gets the same training, as a baseline (--no-baseline leaves it out). An interrupted run goes on from
its checkpoint in PENJING_CACHE; --stop-after 1 ends after each epoch with exit status 75, so that others get a turn:

    until python benchmarks/compression/resnet20_channels.py --stop-after 1; do :; done

Writes docs/results/compression/resnet20_channels.json. An epoch takes 2 minutes of one core with bfloat16 products.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from _record import RESULTS, load_average, parser, table, write_record
from _subjects import BATCH, CALIBRATION_SAMPLES, Subject, library_model
from penjing import api
from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.prune.channel_plan import total_macs as float_macs
from penjing.compress.prune.prune_channels import PruneChannels
from penjing.compress.structure.remove_blocks import RemoveBlocks
from penjing.compress.structure.residual_blocks import block_effects
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
from penjing.zoo import catalog, data, weights
from penjing.zoo.data import Dataset

NAME = "compression/resnet20_channels"
UNFINISHED = 75
NOTES = (
    "accuracy: compiled integer programs on the test images; drops are paired with the given float network",
    "speed: batch 1, one thread, codes in and out, processor time, interleaved rounds of at least 10 ms",
    "CIFAR-10 (JPEG) is CIFAR-10 re-encoded with loss: its figures lie some points under the literature's",
)


@dataclass(frozen=True)
class Work:
    """The given network as a graph with its batch norms, its data, and how much of them a run takes."""

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


def main() -> None:
    """Prune, train, measure, print, write."""
    options = _options()
    load = load_average()
    torch.set_num_threads(1)
    work = _work(options)
    pruned = _pruned(work)
    programs = {"given": _program(work.given, work), "pruned": _program(_trained(pruned, "pruned", work), work)}
    if options.baseline:
        programs["dense, trained further"] = _program(_trained(work.given, "dense", work), work)
    result = _measured(programs, pruned, work)
    print(_shown(result))
    if options.output is not None:
        write_record(options.output, NAME, result, NOTES, load, _asked(options))


def _options() -> argparse.Namespace:
    found = parser(NAME, __doc__)
    found.add_argument("--blocks", type=int, default=1, help="residual blocks that go")
    found.add_argument("--macs", type=float, default=0.44, help="share of multiply-accumulates that may be left")
    found.add_argument("--round-to", type=int, default=8, help="channels are kept in multiples of this")
    found.add_argument("--epochs", type=int, default=12)
    found.add_argument("--rate", type=float, default=0.05, help="highest learning rate")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--no-baseline", dest="baseline", action="store_false", help="leave out the dense network")
    found.add_argument("--stop-after", type=int, default=0, help="epochs after which to end, to be called again")
    found.add_argument("--quick", action="store_true", help="try the road on a few images; writes only to an --output")
    options = found.parse_args()
    if options.quick:
        options.epochs, options.stop_after, options.baseline = 1, 0, False
        if options.output == RESULTS / f"{NAME}.json":
            options.output = None
    return options


def _asked(options: argparse.Namespace) -> str:
    names = ("blocks", "macs", "round_to", "epochs", "rate", "seed")
    words = " ".join(f"--{name.replace('_', '-')} {getattr(options, name)}" for name in names)
    return words + ("" if options.baseline else " --no-baseline")


def _work(options: argparse.Namespace) -> Work:
    dataset = data.load("cifar10")
    given = api.capture(weights.trained("resnet20"), catalog.find("resnet20").random_inputs(2), name="resnet20")
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


def _pruned(work: Work) -> Graph:
    """The given network without what costs most and matters least, its batch norms measured anew after each step."""
    options, batches = work.options, work.batches(work.calibration_images)
    effects = block_effects(work.given, batches)
    fewer, (blocks,) = run_passes(work.given, [RemoveBlocks(effects, options.blocks)])
    fewer = reestimate_batch_norm(fewer, batches)
    share = options.macs * float_macs(work.given) / float_macs(fewer)
    prune = PruneChannels(macs=min(share, 1.0), round_to=options.round_to, inputs=collect_layer_inputs(fewer, batches))
    pruned, (channels,) = run_passes(fewer, [prune])
    for remark in (*blocks.changed, *channels.changed):
        print(f"{remark.where}: {remark.text}")
    return reestimate_batch_norm(pruned, batches)


class EnoughForNow(KeyboardInterrupt):
    """As many epochs as one call was to do; `fit` saves its state as it does on Ctrl-C."""


def _trained(graph: Graph, name: str, work: Work) -> Graph:
    """The graph after training as a student of the given network."""
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
        loss=Distillation(trainable(work.given), share=0.7, precision="bfloat16"),
        precision="bfloat16",
        seed=options.seed,
        progress=_reporter(name, options),
        checkpoint=None if options.quick else _checkpoint(name, options),
    )
    return reestimate_batch_norm(student.to_graph(), work.batches(8 * work.calibration_images, seed=1))


def _checkpoint(name: str, options: argparse.Namespace) -> Path:
    folder = knobs.cache_dir() / "compression"
    folder.mkdir(parents=True, exist_ok=True)
    form = "" if name == "dense" else f"-{options.blocks}-{options.macs}-{options.round_to}"
    return folder / f"resnet20-channels-{name}{form}-{options.epochs}-{options.rate}-{options.seed}.checkpoint"


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


def _measured(programs: dict[str, Graph], pruned: Graph, work: Work) -> dict[str, Any]:
    """Accuracies and times of compiled programs."""
    module = weights.trained("resnet20")
    subject = Subject("resnet20", "ResNet-20", "", module, work.dataset)
    with torch.inference_mode():
        before = subject.right(lambda x: module(torch.from_numpy(x)).numpy(), work.test_images)
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
        rows.append(
            {
                "form": f"{name}, w8a8",
                "accuracy": _interval(right),
                "drop": {"value": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value},
                "median_us": timings[name].median_us,
                "time_ratio": ratio(timings[name], timings["given"]),
                "tray_bytes": len(trays[name]),
                "macs": total_macs(programs[name]),
            }
        )
    given = work.given.constants
    shapes = {name: constant.array.shape for name, constant in pruned.constants.items() if constant.array.ndim > 1}
    return {
        "network": "ResNet-20",
        "dataset": work.dataset.name,
        "images": work.test_images,
        "blocks": work.options.blocks,
        "macs": work.options.macs,
        "round_to": work.options.round_to,
        "epochs": work.options.epochs,
        "shapes": {name: {"given": given[name].array.shape, "pruned": shape} for name, shape in shapes.items()},
        "float": _interval(before),
        "rows": rows,
    }


def _interval(right: np.ndarray) -> dict[str, float]:
    found = accuracy_interval(int(right.sum()), len(right))
    return {"accuracy": found.value, "low": found.low, "high": found.high}


def _shown(result: dict[str, Any]) -> str:
    head = (f"ResNet-20, float {100 * result['float']['accuracy']:.2f} %", "accuracy", "drop", "us", "time", "MMAC")
    return "\n" + table(
        head,
        [
            (
                row["form"],
                f"{100 * row['accuracy']['accuracy']:.2f} %",
                "{value:+.2f} ({low:+.2f} .. {high:+.2f})".format(**{k: 100 * v for k, v in row["drop"].items()}),
                f"{row['median_us']:.1f}",
                f"{row['time_ratio']:.3f}",
                f"{row['macs'] / 1e6:.1f}",
            )
            for row in result["rows"]
        ],
    )


if __name__ == "__main__":
    try:
        main()
    except EnoughForNow:
        sys.exit(UNFINISHED)
