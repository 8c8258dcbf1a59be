"""`penjing build`: from a trained model to a tray."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from rich.progress import Progress

from penjing import api
from penjing.bundle.pack import TrayParts, save_tray
from penjing.bundle.schema import Accuracy
from penjing.bundle.tray import read_tray
from penjing.cli.output import console, error_console, print_json, progress_bar
from penjing.cli.samples import calibration_samples, test_samples
from penjing.cli.sources import KINDS, ModelSource, load_model
from penjing.core.errors import InvalidInput
from penjing.core.files import refuse_to_overwrite
from penjing.core.targets import find_target, target_names
from penjing.ir.graph import Graph
from penjing.measure.intervals import accuracy_interval, paired_drop
from penjing.measure.sizes import bytes_text, ratio_text
from penjing.program.plan import plan
from penjing.runtime.load import from_tray
from penjing.runtime.model import Model
from penjing.toolchain.compilers import find_compiler

_Flag = Annotated[bool, typer.Option()]


def build(
    model: Annotated[str, typer.Argument(help=f"{KINDS}.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The tray to write; NAME.tray by default.")] = None,
    calibrate: Annotated[str | None, typer.Option(help="Calibration samples: digits, mnist, cifar10, .npy, folder.")] = None,
    samples: Annotated[int, typer.Option(help="How many calibration samples.", min=1)] = 512,
    weights: Annotated[Path | None, typer.Option(help="Trained weights: .npz, .pt or .pth state dict.")] = None,
    input_shape: Annotated[str | None, typer.Option(help="Input of a factory, such as 3x32x32.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model, of its tray and of its C functions.")] = None,
    observer: Annotated[str, typer.Option(help="How ranges are chosen: mse or min-max.")] = "mse",
    prune: Annotated[float | None, typer.Option(help="Zero this share of each layer's weights, 0..1.")] = None,
    target: Annotated[list[str] | None, typer.Option(help=f"{', '.join(target_names())}; may be repeated.")] = None,
    standalone: Annotated[bool, typer.Option("--standalone", help="Link the weights into the library.")] = False,
    mean: Annotated[str | None, typer.Option(help="Per-channel mean subtracted in training: 0.5,0.5,0.5.")] = None,
    std: Annotated[str | None, typer.Option(help="Per-channel deviation divided by in training.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Text file with one label per line.")] = None,
    evaluate: Annotated[str | None, typer.Option(help="Labelled set to measure accuracy on, float against int8.")] = None,
    source: Annotated[bool, typer.Option(help="Keep the generated C in the tray.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Import a model, quantize it to 8 bits, compile it and pack it into a tray.

        penjing build zoo:resnet20 --weights resnet20.npz --calibrate cifar10 --evaluate cifar10
        penjing build my_model.py:make --input-shape 1x32x32 --calibrate samples.npy --target aarch64-linux
    """
    targets = target or ["host"]
    for entry in targets:
        find_compiler(find_target(entry))  # a missing compiler is told before any work
    loaded = load_model(model, weights=weights, input_shape=input_shape)
    stem = name or loaded.name
    path = output or Path(f"{stem}.tray")
    refuse_to_overwrite(path, force=force)
    port = _port(loaded.port, mean, std)
    shape = loaded.examples[0].shape[1:]
    if calibrate is None:
        raise InvalidInput(
            "quantization needs calibration samples",
            hint="add --calibrate digits|mnist|cifar10|FILE.npy|FOLDER, or 'random' if only speed matters",
        )
    label_names = _labels(labels) or loaded.labels
    with progress_bar(quiet=as_json) as bar:
        task = bar.add_task("importing", total=None)
        graph = api.capture(loaded.module, loaded.examples, name=stem)
        if prune is not None:
            graph = api.prune(graph, ratio=prune)
        drawn = calibration_samples(calibrate, shape, port, samples)
        bar.update(task, description="calibrating", total=len(drawn.x))
        quantized = api.quantize(
            graph, drawn.batches(), observer=_observer(observer), progress=lambda n: bar.update(task, completed=n)
        )
        program = api.lower(quantized)
        options = api.BuildOptions(
            targets=targets,
            standalone=standalone,
            ports=[port, *[api.Port()] * (len(program.inputs) - 1)],
            labels=label_names,
            card=_card(loaded, drawn.name, len(drawn.x), observer, prune),
            golden_inputs=[drawn.x[:2]] if len(program.inputs) == 1 else [],
            with_source=source,
        )
        bar.update(task, total=None)
        parts = api.assemble(program, options, progress=lambda text: bar.update(task, description=text))
        accuracy, measured = _measure(loaded, parts, evaluate, shape, bar) if evaluate else (None, None)
        tray = api.pack(parts, accuracy=accuracy)
        save_tray(tray, path, force=force)
    _report(path, tray, graph, program, measured, as_json=as_json)


def _observer(text: str) -> Literal["mse", "min-max"]:
    if text == "mse":
        return "mse"
    if text == "min-max":
        return "min-max"
    raise InvalidInput(f"there is no observer {text!r}", hint="choose mse or min-max")


def _port(port: api.Port, mean: str | None, std: str | None) -> api.Port:
    def numbers(text: str | None, given: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if text is None:
            return given
        try:
            return tuple(float(part) for part in text.split(","))
        except ValueError:
            raise InvalidInput(f"{text!r} is not a list of numbers", hint="write 0.485,0.456,0.406") from None

    return api.Port(numbers(mean, port.mean), numbers(std, port.std), port.value_range, port.color)


def _labels(path: Path | None) -> tuple[str, ...] | None:
    if path is None:
        return None
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}", where=str(path))
    return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def _card(loaded: ModelSource, calibration: str, count: int, observer: str, prune: float | None) -> dict[str, str]:
    card = {
        "source": loaded.origin,
        "recipe": "w8a8",
        "calibration": f"{count} samples of {calibration}, {observer} ranges",
    }
    if prune is not None:
        card["pruning"] = f"{100 * prune:g} % of each layer's weights by magnitude, without fine-tuning"
    return card


def _measure(
    loaded: ModelSource, parts: TrayParts, source: str, shape: tuple[int, ...], bar: Progress
) -> tuple[Accuracy, dict[str, Any]]:
    from penjing.train.fit import predict

    dataset, test = test_samples(source, shape)
    assert test.y is not None
    task = bar.add_task("measuring float accuracy", total=None)
    in_float = predict(loaded.module, test.x).argmax(axis=1) == test.y
    bar.update(task, description="measuring int8 accuracy", total=len(test.x))
    model = from_tray(read_tray(api.pack(parts)))
    right = correct(model, test.x, test.y, lambda n: bar.update(task, completed=n))
    interval = accuracy_interval(int(right.sum()), len(right))
    drop = paired_drop(in_float, right)
    accuracy = Accuracy("top-1", interval.value, interval.low, interval.high, len(right), dataset.name)
    float_interval = accuracy_interval(int(in_float.sum()), len(in_float))
    return accuracy, {
        "dataset": dataset.name,
        "n": len(right),
        "engine": model.engine.name,
        "float": {"accuracy": float_interval.value, "low": float_interval.low, "high": float_interval.high},
        "int8": {"accuracy": interval.value, "low": interval.low, "high": interval.high},
        "drop": {"value": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value},
    }


def correct(model: Model, x: np.ndarray, y: np.ndarray, progress: Any = None, chunk: int = 500) -> np.ndarray:
    """bool (n,): whether the model's first output is largest at the label."""
    parts = []
    for start in range(0, len(x), chunk):
        scores = model.run(x[start : start + chunk])
        first = scores if isinstance(scores, np.ndarray) else scores[0]
        parts.append(first.argmax(axis=1) == y[start : start + chunk])
        if progress is not None:
            progress(start + len(first))
    return np.concatenate(parts)


def _report(
    path: Path, tray: bytes, graph: Graph, program: Graph, measured: dict[str, Any] | None, *, as_json: bool
) -> None:
    memory = plan(program)
    float_bytes = 4 * graph.parameters()
    result: dict[str, Any] = {
        "tray": str(path),
        "bytes": len(tray),
        "float_parameter_bytes": float_bytes,
        "weights_bytes": memory.weights_bytes,
        "arena_bytes": memory.arena_bytes,
        "accuracy": measured,
    }
    if as_json:
        print_json(result)
        return
    console.print(f"[bold]{path}[/bold]  {bytes_text(len(tray))}", highlight=False)
    console.print(
        f"  weights {bytes_text(memory.weights_bytes)} ({ratio_text(float_bytes, memory.weights_bytes)} than float), "
        f"arena {bytes_text(memory.arena_bytes)}",
        highlight=False,
    )
    if measured:
        f, q, d = measured["float"], measured["int8"], measured["drop"]
        console.print(
            f"  float {100 * f['accuracy']:.2f} %, int8 {100 * q['accuracy']:.2f} % "
            f"({100 * q['low']:.2f} .. {100 * q['high']:.2f}) on {measured['n']} of {measured['dataset']}; "
            f"drop {100 * d['value']:+.2f} points ({100 * d['low']:+.2f} .. {100 * d['high']:+.2f})",
            highlight=False,
        )
    error_console.print(f"[dim]next: penjing inspect {path}    penjing bench {path}[/dim]")
