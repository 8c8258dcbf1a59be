"""`penjing demo`: the whole road on real digits, in about a minute."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.progress import Progress
from rich.table import Table

from penjing import api
from penjing.bundle.pack import save_tray
from penjing.bundle.schema import Accuracy
from penjing.bundle.tray import read_tray
from penjing.cli.build import correct
from penjing.cli.output import console, print_json, progress_bar
from penjing.core import knobs
from penjing.core.errors import BundleError
from penjing.core.files import refuse_to_overwrite, write_atomically
from penjing.ir.graph import Graph
from penjing.measure.intervals import Interval, accuracy_interval, paired_drop
from penjing.measure.sizes import bytes_text, ratio_text
from penjing.measure.timing import Timing, ratio, time_interleaved
from penjing.program.plan import peak_activation_bytes, plan
from penjing.runtime.load import from_tray

if TYPE_CHECKING:
    from penjing.zoo.data import Dataset

NAME = "edgecnn"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    right: np.ndarray
    nbytes: int
    ram_bytes: int
    timing: Timing

    @property
    def accuracy(self) -> Interval:
        """With its 95 % interval."""
        return accuracy_interval(int(self.right.sum()), len(self.right))


def demo(
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder for edgecnn.tray and digit.png.")] = Path(),
    data: Annotated[str, typer.Option(help="auto (MNIST where PENJING_DATA has it, else digits), mnist, digits.")] = "auto",
    ratio_: Annotated[float, typer.Option("--prune", help="Share of each layer's weights to zero.")] = 0.5,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the files of an earlier demo.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train EdgeCNN on handwritten digits, prune, quantize, compile, pack, reload, verify, and tell what it cost."""
    from penjing.zoo import data as datasets

    tray_path, image_path = folder / f"{NAME}.tray", folder / "digit.png"
    refuse_to_overwrite(tray_path, force=force)
    refuse_to_overwrite(image_path, force=force)
    chosen = _choose(data)
    dataset = datasets.load(chosen)
    with progress_bar(quiet=as_json) as bar:
        rows, tray, accuracy_of = _work(dataset, chosen, ratio_, bar)
        folder.mkdir(parents=True, exist_ok=True)
        save_tray(tray, tray_path, force=force)
        write_atomically(image_path, _png(dataset), force=force)
        task = bar.add_task("verifying in a fresh process", total=None)
        test = _verify(tray_path)
        bar.remove_task(task)
    if test["differing_bytes"]:
        raise BundleError(f"{test['differing_bytes']} bytes differ from the oracle", where=str(tray_path))
    result = _result(dataset, rows, tray, test, tray_path)
    if as_json:
        print_json(result | {"accuracy": accuracy_of})
        return
    _show(result, rows, tray_path, image_path)


def _choose(data: str) -> str:
    if data != "auto":
        return data
    folder = knobs.DATA.path()
    return "mnist" if folder is not None and (folder / "mnist.npz").is_file() else "digits"


def _work(dataset: "Dataset", chosen: str, ratio_: float, bar: Progress) -> tuple[list[Row], bytes, dict[str, Any]]:
    import torch

    from penjing.train.fit import predict
    from penjing.zoo import catalog, recipes

    entry = catalog.find(NAME)
    recipe = recipes.find(NAME, chosen)
    module = catalog.create(NAME, seed=knobs.SEED.integer())
    x, y = dataset.normalise(dataset.test_x), dataset.test_y
    task = bar.add_task(f"training on {dataset.name}", total=None)

    def show(report: Any) -> None:
        total = report.epochs * report.steps
        bar.update(task, total=total, completed=(report.epoch - 1) * report.steps + report.step)

    recipe.fit(module, dataset, seed=knobs.SEED.integer(), progress=show)
    float_right = predict(module, x).argmax(axis=1) == y

    bar.update(task, description="pruning and fine-tuning", completed=0)
    graph = api.capture(module, entry.random_inputs(1), name=NAME)
    pruned_module = api.trainable(api.prune(graph, ratio=ratio_))
    replace(recipe, learning_rate=recipe.learning_rate / 4).fit(pruned_module, dataset, progress=show)
    pruned: Graph = pruned_module.to_graph()  # type: ignore[operator]  # a TrainableGraph
    pruned_right = predict(pruned_module, x).argmax(axis=1) == y

    bar.update(task, description="quantizing", total=None)
    chosen_samples = np.random.default_rng(0).permutation(len(dataset.train_x))[:512]
    calibration = dataset.normalise(dataset.train_x[chosen_samples])
    program = api.lower(api.quantize(pruned, (calibration[i : i + 64] for i in range(0, len(calibration), 64))))
    options = api.BuildOptions(
        ports=[api.Port(dataset.mean, dataset.std, (0.0, 1.0), "gray")],
        labels=dataset.labels,
        card={
            "description": "EdgeCNN, handwritten digits",
            "source": f"penjing demo on {dataset.name}",
            "recipe": "w8a8",
            "pruning": f"{100 * ratio_:g} % of each layer's weights, fine-tuned",
        },
        golden_inputs=[x[:2]],
        with_source=False,
    )
    parts = api.assemble(program, options, progress=lambda text: bar.update(task, description=text))
    model = from_tray(read_tray(api.pack(parts)))
    bar.update(task, description="measuring int8 accuracy", total=len(x), completed=0)
    int8_right = correct(model, x, y, lambda n: bar.update(task, completed=n))
    interval = accuracy_interval(int(int8_right.sum()), len(int8_right))
    tray = api.pack(
        parts, accuracy=Accuracy("top-1", interval.value, interval.low, interval.high, len(x), dataset.name)
    )

    bar.update(task, description="timing", total=None)
    torch.set_num_threads(1)
    one, one_tensor = x[:1], torch.from_numpy(x[:1])
    with torch.inference_mode():
        timings = time_interleaved(
            {
                "float": lambda: module(one_tensor),
                "pruned": lambda: pruned_module(one_tensor),
                "int8": lambda: model.run(one),
            }
        )
    bar.remove_task(task)
    float_bytes = 4 * graph.parameters()
    float_ram = peak_activation_bytes(graph)
    rows = [
        Row("float (torch)", float_right, float_bytes, float_ram, timings["float"]),
        Row("pruned (torch)", pruned_right, float_bytes, float_ram, timings["pruned"]),
        Row("pruned, int8 (penjing)", int8_right, len(tray), plan(program).arena_bytes, timings["int8"]),
    ]
    drop = paired_drop(float_right, int8_right)
    return rows, tray, {"drop": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value}


def _verify(path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "penjing.cli", "inspect", str(path), "--self-test", "--samples", "1000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)["self_test"]
    except (ValueError, KeyError):
        raise BundleError(f"the fresh process failed: {done.stdout}{done.stderr}", where=str(path)) from None
    return found


def _png(dataset: "Dataset") -> bytes:
    import io

    from PIL import Image

    pixels = dataset.test_x[0, 0]
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _result(dataset: "Dataset", rows: list[Row], tray: bytes, test: dict[str, Any], path: Path) -> dict[str, Any]:
    first = rows[0]
    return {
        "tray": str(path),
        "dataset": dataset.name,
        "test_samples": len(first.right),
        "verified": test,
        "rows": [
            {
                "name": row.name,
                "accuracy": row.accuracy.value,
                "low": row.accuracy.low,
                "high": row.accuracy.high,
                "bytes": row.nbytes,
                "ram_bytes": row.ram_bytes,
                "latency_us": row.timing.median_us,
                "size_ratio": first.nbytes / row.nbytes,
                "ram_ratio": first.ram_bytes / row.ram_bytes,
                "speed_ratio": ratio(first.timing, row.timing),
            }
            for row in rows
        ],
    }


def _show(result: dict[str, Any], rows: list[Row], tray: Path, image: Path) -> None:
    table = Table(title=f"EdgeCNN on {result['dataset']}, {result['test_samples']} test images, batch 1, one thread")
    table.add_column("network")
    for head in ("accuracy (95 % interval)", "file", "RAM", "latency"):
        table.add_column(head, justify="right")
    for row, facts in zip(rows, result["rows"], strict=True):
        a = row.accuracy
        same = facts["name"] == result["rows"][0]["name"]
        table.add_row(
            row.name,
            f"{100 * a.value:.2f} % ({100 * a.low:.2f} .. {100 * a.high:.2f})",
            _with_ratio(bytes_text(row.nbytes), None if same else ratio_text(result["rows"][0]["bytes"], row.nbytes)),
            _with_ratio(bytes_text(row.ram_bytes), None if same else ratio_text(rows[0].ram_bytes, row.ram_bytes)),
            _with_ratio(
                f"{row.timing.median_us:.0f} us",
                None if same else ratio_text(facts["speed_ratio"], 1, "faster", "slower"),
            ),
        )
    console.print(table)
    test = result["verified"]
    console.print(
        f"Verified in a fresh process by the {test['engine']}: 0 bytes differ from the oracle on "
        f"{test['golden']} golden and {test['random']} random inputs.",
        highlight=False,
    )
    console.print(
        "File: float parameters against the whole tray with its compiled library. RAM: activations. Zeros alone make "
        "torch no faster.",
        style="dim",
    )
    console.print("\nNext:")
    for line in (f"penjing run {tray} {image}", f"penjing inspect {tray} --layers", f"penjing bench {tray}"):
        console.print(f"  {line}", style="bold", highlight=False)


def _with_ratio(text: str, ratio_: str | None) -> str:
    return text if ratio_ is None else f"{text}  [dim]{ratio_}[/dim]"

