"""`penjing run`: a tray and files in, labels or arrays out."""

import io
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from penjing.cli.images import read_raw
from penjing.cli.output import console, print_json
from penjing.core.errors import InvalidInput
from penjing.core.files import refuse_to_overwrite, write_atomically
from penjing.runtime.load import EngineChoice, load
from penjing.runtime.model import Model


def run(
    tray: Annotated[Path, typer.Argument(help="The .tray file.")],
    inputs: Annotated[list[Path], typer.Argument(help="Images (png, jpg, ...) or .npy arrays, one sample or batch each.")],
    top: Annotated[int, typer.Option(help="How many labels to show.", min=1)] = 3,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write raw float outputs to this .npy.")] = None,
    engine: Annotated[str, typer.Option(help="auto, library or interpreter.")] = "auto",
    raw: Annotated[bool, typer.Option(help="Raw input: scale and normalise it. --no-raw: .npy holds real inputs.")] = True,
    force: Annotated[bool, typer.Option(help="Overwrite --output.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a model on files.

    Images are converted to the model's size and colour, scaled and normalised as the tray says; labels come out.

        penjing run edgecnn.tray digit.png
        penjing run edgecnn.tray samples.npy -o scores.npy --json
    """
    if output is not None:
        refuse_to_overwrite(output, force=force)
    model = load(tray, engine=_choice(engine))
    if len(model.inputs) != 1:
        raise InvalidInput(f"the model takes {len(model.inputs)} inputs; the command line runs models with one")
    results = [_run_one(model, path, raw, top) for path in inputs]
    if output is not None:
        stream = io.BytesIO()
        np.save(stream, np.concatenate([result["array"] for result in results]))
        write_atomically(output, stream.getvalue(), force=force)
    if as_json:
        for result in results:
            result["scores"] = result.pop("array").tolist()
        print_json({"engine": model.engine.name, "results": results})
        return
    for result in results:
        for i, sample in enumerate(result["labels"]):
            name = result["file"] if len(result["labels"]) == 1 else f"{result['file']}[{i}]"
            text = ", ".join(f"[bold]{label}[/bold] {100 * p:.1f} %" for label, p in sample)
            console.print(f"{name}: {text}", highlight=False)


def _choice(text: str) -> EngineChoice:
    if text == "library":
        return "library"
    if text == "interpreter":
        return "interpreter"
    if text == "auto":
        return "auto"
    raise InvalidInput(f"there is no engine {text!r}", hint="choose auto, library or interpreter")


def _run_one(model: Model, path: Path, raw: bool, top: int) -> dict[str, Any]:
    array = read_raw(path, model.inputs[0])
    real = model.prepare(array) if raw else array
    scores = model.run(real)
    first = scores if isinstance(scores, np.ndarray) else scores[0]
    return {"file": str(path), "labels": [model.top_labels(row, top) for row in first], "array": first}
