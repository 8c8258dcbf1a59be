"""ResNet-20 or ResNet-56 made smaller, trained and quantized: accuracy and speed against their own dense int8.

    python benchmarks/compression/pruned_resnets.py [--network resnet56] [--forms n-of-m:0.25,blocks:0.2]

1. ResNet-20 has the weights of the data folder; ResNet-56 is trained first.
2. Each form of `_forms.py` that is asked for is made of the given network.
3. It is trained to classify and to agree with the given network, zeros held; batch norms are measured anew. The dense
   network gets the same training, as a baseline (--no-baseline leaves it out).
4. All are folded, quantized (w8a8), lowered and compiled; the libraries classify all test images and race in one run.

Writes docs/results/compression/pruned_resnet20.json or pruned_resnet56.json. An epoch of one form of ResNet-20 takes 2
minutes of one core with bfloat16 products, ResNet-56 three times that. Trainings have checkpoints in PENJING_CACHE:

    --device cuda       trains on a GPU; the checkpoints serve on any machine
    --train-only        ends when all is trained: form by form on several machines or cores, then once without it
    --stop-after 1      ends after each epoch with exit status 75, so that others get a turn:
                        until python benchmarks/compression/pruned_resnets.py --stop-after 1; do :; done
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from _forms import Form, layers, pruning
from _resnets import (
    PLANS,
    UNFINISHED,
    EnoughForNow,
    Work,
    add_training_options,
    built,
    interval,
    measured,
    trained,
    untrained,
    work_of,
)

from _record import RESULTS, load_average, parser, table, write_record
from penjing.ir.graph import Graph

NAME = "compression/pruned_resnets"
NOTES = (
    "accuracy: compiled integer programs on the test images; drops are paired with the given float network",
    "speed: batch 1, one thread, codes in and out, processor time, interleaved rounds of at least 10 ms",
    "CIFAR-10 (JPEG) is CIFAR-10 re-encoded with loss: its figures lie some points under the literature's",
)


def main() -> None:
    """Prune, train, measure, print, write."""
    options, asked = _options()
    load = load_average()
    torch.set_num_threads(1)
    forms = [Form.parse(text) for text in options.forms.split(",") if text]
    try:
        work = work_of(options)
        graphs = _trained_forms(forms, work)
    except EnoughForNow:
        sys.exit(UNFINISHED)
    if options.train_only:
        return
    result = _result(graphs, work)
    print(_shown(result))
    if options.output is not None:
        write_record(options.output, NAME, result, NOTES, load, asked)


def _options() -> tuple[argparse.Namespace, str]:
    """The options, and those that decide what is measured, as they are given."""
    found = parser(NAME, __doc__)
    found.set_defaults(output=None)
    found.add_argument("--network", choices=tuple(PLANS), default="resnet20")
    found.add_argument(
        "--forms", help="what is made of the network, joined by commas; an empty word: the baseline alone"
    )
    found.add_argument("--epochs", type=int)
    add_training_options(found)
    found.add_argument("--no-baseline", dest="baseline", action="store_false", help="leave out the dense network")
    found.add_argument("--train-only", action="store_true", help="measure nothing")
    options = found.parse_args()
    plan = PLANS[options.network]
    options.forms = plan.forms if options.forms is None else options.forms
    options.epochs = options.epochs or plan.epochs
    asked = (
        f"--network {options.network} --forms {options.forms} --epochs {options.epochs} --rate {options.rate} "
        f"--seed {options.seed}" + ("" if options.baseline else " --no-baseline")
    )
    if options.quick:
        options.epochs, options.stop_after, options.baseline = 1, 0, False
    elif options.output is None:
        options.output = RESULTS / "compression" / f"pruned_{options.network}.json"
    return options, asked


def _trained_forms(forms: list[Form], work: Work) -> dict[str, Graph]:
    graphs = {"given": work.given}
    for form in forms:
        hook = pruning(form, work.given, work.calibration()) if form.is_gradual else None
        graphs[str(form)] = trained(work.given if hook else untrained(form, work), hook, str(form), work)
    if work.options.baseline:
        graphs["dense, trained further"] = trained(work.given, None, "dense", work)
    return graphs


def _result(graphs: Mapping[str, Graph], work: Work) -> dict[str, Any]:
    before = work.right_before()
    return {
        "network": PLANS[work.options.network].title,
        "dataset": work.dataset.name,
        "images": work.test_images,
        "epochs": work.options.epochs,
        "float": interval(before),
        "rows": measured({name: built(graph, work) for name, graph in graphs.items()}, before, work),
        "layers": {name: layers(graph) for name, graph in graphs.items()},
    }


def _shown(result: Mapping[str, Any]) -> str:
    floats = f"{result['network']}, float {100 * result['float']['accuracy']:.2f} %, then w8a8"
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


if __name__ == "__main__":
    main()
