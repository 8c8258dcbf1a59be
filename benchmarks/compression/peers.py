"""Other tools' quantizers on the given ResNet-20, side by side: the same network, calibration images and test images.

    python benchmarks/compression/peers.py [--tools onnxruntime,nncf,torchao,aimet] [--quick]

Every tool works in an environment of its own (the first run installs them, AIMET's takes some GB) and is given its own
best: each of its settings below is tried, and all are in the table. Forms that were made once are kept in the cache.
Writes docs/results/compression/peers.json.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from _peer import made_by

from _record import RESULTS, load_average, parser, table, write_record
from _subjects import BATCH, CALIBRATION_SAMPLES, library_model
from engines.environments import engines_folder
from engines.subjects import to_onnx
from penjing import api
from penjing.measure.correct import correct
from penjing.measure.intervals import accuracy_interval, paired_drop
from penjing.zoo import data, weights

TOOLS = ("onnxruntime", "nncf", "torchao", "aimet")
QUICK_IMAGES = 500
NOTES = (
    f"post-training, {CALIBRATION_SAMPLES} calibration images of the training part (seed 0), no labels",
    "weights per output channel, activations 8 bits per tensor; AIMET simulates in floats, the others compute integers",
    "drops are paired with the float network on the same images; standard error of one accuracy here is 0.34 points",
)


def main() -> None:
    """Quantize with every tool, classify the test images, print, write."""
    options = parser("compression/peers", __doc__)
    options.set_defaults(output=RESULTS / "compression" / "peers.json")
    options.add_argument("--tools", default=",".join(TOOLS), help="which, joined by commas")
    options.add_argument("--quick", action="store_true", help=f"{QUICK_IMAGES} test images only")
    given = options.parse_args()
    load = load_average()
    dataset, module = data.load("cifar10"), weights.trained("resnet20")
    count = QUICK_IMAGES if given.quick else len(dataset.test_y)
    folder = _prepared(dataset, module, count)
    y = dataset.test_y[:count]
    x = np.load(folder / "test.npy", mmap_mode="r")
    with torch.inference_mode():
        before = correct(lambda part: module(torch.from_numpy(np.array(part))).numpy(), x, y)
    results = [_row("penjing", "w8a8, mse ranges", before, _ours(folder, module, x, y))]
    for tool in given.tools.split(","):
        for form, made in _forms(tool, folder).items():
            if "failed" in made:
                results.append({"tool": tool, "form": form, "failed": made["failed"]})
            else:
                results.append(_row(tool, form, before, made["classes"] == y))
    print(_shown(results, float(before.mean())))
    write_record(
        given.output, "compression/peers", results, NOTES, load, f"--tools {given.tools}" + " --quick" * given.quick
    )


def _prepared(dataset: data.Dataset, module: torch.nn.Module, count: int) -> Path:
    """The folder that `peers/contract.py` describes."""
    folder = engines_folder() / "compression" / f"resnet20-{count}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "test.npy").is_file():
        chosen = np.sort(np.random.default_rng(0).permutation(len(dataset.train_x))[:CALIBRATION_SAMPLES])
        example = dataset.normalise(dataset.test_x[:1])
        (folder / "model.onnx").write_bytes(to_onnx(module, example))
        torch.export.save(torch.export.export(module, (torch.from_numpy(example),)), folder / "model.pt2")
        np.save(folder / "calibration.npy", dataset.normalise(dataset.train_x[chosen]))
        np.save(folder / "test.npy", dataset.normalise(dataset.test_x[:count]))  # the last: what is whole has it
    return folder


def _ours(folder: Path, module: torch.nn.Module, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    inputs = np.load(folder / "calibration.npy")
    graph = api.capture(module, torch.from_numpy(inputs[:2]), name="resnet20")
    batches = (inputs[i : i + BATCH] for i in range(0, len(inputs), BATCH))
    program = api.lower(api.quantize(graph, batches))
    return correct(library_model(api.build(program, api.BuildOptions(with_source=False))).run, x, y)


def _forms(tool: str, folder: Path) -> dict[str, Any]:
    """Form -> {"classes": array} or {"failed": reason}."""
    output = folder / tool
    return {
        name: {"classes": np.load(output / made["classes"])} if "classes" in made else made
        for name, made in made_by(tool, "quantize.py", folder, output).items()
    }


def _row(tool: str, form: str, before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    drop = paired_drop(before, after)
    interval = accuracy_interval(int(after.sum()), len(after))
    return {
        "tool": tool,
        "form": form,
        "n": len(after),
        "accuracy": interval.value,
        "low": interval.low,
        "high": interval.high,
        "drop": {"value": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value},
    }


def _shown(results: list[dict[str, Any]], floats: float) -> str:
    rows = [("float network", "", f"{100 * floats:.2f} %", "")]
    for r in results:
        if "failed" in r:
            rows.append((r["tool"], r["form"], r["failed"], ""))
            continue
        d = r["drop"]
        drop = f"{100 * d['value']:+.2f} ({100 * d['low']:+.2f} .. {100 * d['high']:+.2f})"
        rows.append((r["tool"], r["form"], f"{100 * r['accuracy']:.2f} %", drop))
    return table(("tool", "form", "accuracy", "drop in points (95 %)"), rows)


if __name__ == "__main__":
    main()
