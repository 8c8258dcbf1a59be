"""Channels removed by penjing and by Torch-Pruning: the same ResNet-20, images and share of multiply-accumulates.

    python benchmarks/compression/channels_peer.py [--epochs 2] [--share 0.5] [--quick]

1. Ours is `channels-only` of `_forms.py`; `peers/torch_pruning/prune.py` says how the peer is used. It is given each of
   its importances, any number of channels as well as multiples of 8, and labels where it wants them.
2. Batch norms are measured anew on the same images, and nothing is trained.
3. Ours and three forms of the peer are trained as in `pruned_resnets.py`. These three are the best without training on
   the test images, which favours the peer: two with multiples of 8, one of all others.
4. All are quantized (w8a8), lowered and compiled; the libraries classify all test images and race in one run.

Writes docs/results/compression/channels_peer.json. An epoch of one form takes 2 minutes of one core, four are trained;
checkpoints, --device and --stop-after are as in `pruned_resnets.py`.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from _forms import CHANNELS_TOGETHER, Form
from _peer import HERE, made_by
from _resnets import (
    UNFINISHED,
    Built,
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
from engines.environments import engines_folder
from penjing import api
from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.prune.channel_scores import removal_scores
from penjing.compress.prune.prune_channels import PruneChannels
from penjing.core.digests import digest_bytes
from penjing.frontends.torch_files import load_exported
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.measure.intervals import paired_drop
from penjing.ops.layers import float_weights
from penjing.train.batch_norm import reestimate_batch_norm

OURS, PEER = "penjing", "torch_pruning"
IMPORTANCES = "L1,L2,BN scale,FPGM,Taylor,Hessian"
TRAINED_OF_8, TRAINED_OF_OTHERS = 2, 1
NOTES = (
    "accuracy: compiled integer programs on the test images; drops are paired with the given float network",
    "batch norms of all forms are measured anew on the same 512 training images before anything else",
    "Taylor and Hessian importances use the labels of these images, ours use the images alone, the others neither",
    "macs: of the compiled program, with the 1x1 convolutions that stand for shortcuts in 'shortcuts as conv'",
    "speed: batch 1, one thread, codes in and out, processor time, interleaved rounds of at least 10 ms",
)
Key = tuple[str, str]  # tool, form
OF_8 = f"multiples of {CHANNELS_TOGETHER}"
OUR_BEST = (OURS, f"removal scores, the rest refitted, {OF_8}")


def main() -> None:
    """Prune with both, train, measure, print, write."""
    options = _options()
    load = load_average()
    torch.set_num_threads(1)
    work = work_of(options)
    made, failed = _peers_forms(work)
    graphs = {**_our_forms(work), **made}
    direct = {key: built(graph, work) for key, graph in graphs.items()}
    try:
        later = {key: built(trained(graphs[key], None, _file(key, work), work), work) for key in _best(direct, work)}
    except EnoughForNow:
        sys.exit(UNFINISHED)
    result = _result(graphs, direct, later, work)
    result["failed"] = [{"tool": PEER, "form": name, "reason": reason} for name, reason in failed.items()]
    print(_shown(result))
    if options.output is not None:
        asked = f"--share {options.share} --epochs {options.epochs} --rate {options.rate} --seed {options.seed}"
        write_record(options.output, "compression/channels_peer", result, NOTES, load, asked)


def _options() -> argparse.Namespace:
    found = parser("compression/channels_peer", __doc__)
    found.set_defaults(output=None, network="resnet20")
    found.add_argument("--share", type=float, default=0.5, help="of the multiply-accumulates that may be left")
    found.add_argument("--epochs", type=int, default=2, help="0 trains nothing")
    add_training_options(found)
    options = found.parse_args()
    options.importances = IMPORTANCES
    if options.quick:
        options.epochs, options.stop_after, options.importances = 1, 0, "L1"
    elif options.output is None:
        options.output = RESULTS / "compression" / "channels_peer.json"
    return options


def _our_forms(work: Work) -> dict[Key, Graph]:
    """The form that is trained, any number of channels, and the choice of channels without refitting what is left."""
    share, batches = work.options.share, work.calibration()
    inputs = collect_layer_inputs(work.given, batches)
    others = {
        (OURS, "removal scores, the rest refitted, any number"): PruneChannels(macs=share, round_to=1, inputs=inputs),
        (OURS, f"removal scores alone, {OF_8}"): PruneChannels(
            macs=share, round_to=CHANNELS_TOGETHER, scores=removal_scores(work.given, inputs)
        ),
    }
    return {
        OUR_BEST: untrained(Form("channels-only", share), work),
        **{key: reestimate_batch_norm(run_passes(work.given, [one])[0], batches) for key, one in others.items()},
    }


def _peers_forms(work: Work) -> tuple[dict[Key, Graph], dict[str, str]]:
    """Those that could be made, and why others could not."""
    folder = engines_folder() / "compression" / f"resnet20-channels-{work.calibration_images}"
    _prepare(folder, work)
    share = f"{work.options.share:g}"
    script = HERE / PEER / "prune.py"
    output = folder / f"{PEER}-{share}-{digest_bytes(script.read_bytes())[:8]}"
    graphs, failed = {}, {}
    for name, form in made_by(PEER, script.name, folder, output, share, work.options.importances).items():
        if "failed" in form:
            failed[name] = form["failed"]
            continue
        module, examples = load_exported(output / form["model"])
        graph = api.capture(module, torch.from_numpy(examples[0]), name="resnet20")
        graphs[PEER, name] = reestimate_batch_norm(graph, work.calibration())
    return graphs, failed


def _prepare(folder: Path, work: Work) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    chosen = np.random.default_rng(0).permutation(len(work.dataset.train_x))[: work.calibration_images]
    np.save(folder / "calibration.npy", np.concatenate(work.calibration()))
    np.save(folder / "labels.npy", work.dataset.train_y[chosen])
    np.savez(folder / "weights.npz", **{name: tensor.numpy() for name, tensor in work.module.state_dict().items()})


def _best(networks: Mapping[Key, Built], work: Work) -> list[Key]:
    """What is trained."""
    if work.options.epochs == 0:
        return []
    right = {key: work.right(one.model.run).mean() for key, one in networks.items() if key[0] == PEER}
    peers = sorted(right, key=right.__getitem__, reverse=True)
    of_8 = [key for key in peers if key[1].endswith(OF_8)]
    others = [key for key in peers if key not in of_8]
    return [OUR_BEST, *of_8[:TRAINED_OF_8], *others[:TRAINED_OF_OTHERS]]


def _file(key: Key, work: Work) -> str:
    """The name of a form in that of its checkpoint; ours is the one of `pruned_resnets.py`."""
    tool, form = key
    if tool == OURS:
        return f"channels-only:{work.options.share:g}"
    return f"{tool}-{work.options.share:g}-{form.replace(', ', '-').replace(' ', '_')}"


def _result(
    graphs: Mapping[Key, Graph], direct: Mapping[Key, Built], later: Mapping[Key, Built], work: Work
) -> dict[str, Any]:
    before = work.right_before()
    networks = {"given": built(work.given, work)}
    networks |= {_title(key, "before"): one for key, one in direct.items()}
    networks |= {_title(key, "after"): one for key, one in later.items()}
    rows = {row.pop("form"): row for row in measured(networks, before, work)}
    for key, one in later.items():
        rows[_title(key, "after")]["against_ours"] = _against(later[OUR_BEST], one, work)
    return {
        "network": "ResNet-20",
        "dataset": work.dataset.name,
        "images": work.test_images,
        "share": work.options.share,
        "epochs": work.options.epochs,
        "float": interval(before),
        "dense": rows["given"],
        "rows": [
            {
                "tool": key[0],
                "form": key[1],
                "share": rows[_title(key, "before")]["macs"] / rows["given"]["macs"],
                "untrained": rows[_title(key, "before")],
                "trained": rows.get(_title(key, "after")),
                "channels": {name: len(array) for name, array in float_weights(graph).items()},
            }
            for key, graph in graphs.items()
        ],
    }


def _against(ours: Built, other: Built, work: Work) -> dict[str, float]:
    """What `other` loses against ours, image by image."""
    drop = paired_drop(work.right(ours.model.run), work.right(other.model.run))
    return {"value": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value}


def _title(key: Key, when: str) -> str:
    return f"{key[0]}: {key[1]}, {when} training"


def _shown(result: Mapping[str, Any]) -> str:
    head = (f"{result['epochs']} epochs", "form", "macs", "faster", "untrained", "drop", "trained", "drop")
    rows = []
    for r in result["rows"]:
        cells = [r["tool"], r["form"], f"{100 * r['share']:.1f} %", f"{r['untrained']['faster']:.2f}x"]
        for one in (r["untrained"], r["trained"]):
            cells += _accuracy_cells(one) if one else ("", "")
        rows.append(tuple(cells))
    rows += [(r["tool"], r["form"], r["reason"], *[""] * 5) for r in result["failed"]]
    return table(head, rows)


def _accuracy_cells(row: Mapping[str, Any]) -> tuple[str, str]:
    drop = {name: 100 * value for name, value in row["drop"].items()}
    return f"{100 * row['accuracy']['accuracy']:.2f} %", "{value:+.2f} ({low:+.2f} .. {high:+.2f})".format(**drop)


if __name__ == "__main__":
    main()
