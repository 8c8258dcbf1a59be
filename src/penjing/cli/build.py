"""`penjing build`: from a trained model to a tray."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from penjing import api
from penjing.bundle.pack import TrayParts, save_tray
from penjing.cli.accuracy import Measured, host_targets, measure, only_targets
from penjing.cli.arguments import MODEL_KINDS, AsJson, Examples, Force, InputShape, ObserverName, Raw, Weights
from penjing.cli.build_view import facts_of, show_build
from penjing.cli.output import Phases, note, phases, print_json
from penjing.cli.ports import check_labels, read_labels, described_port
from penjing.cli.samples import SOURCES, Samples, calibration_samples, labelled_samples
from penjing.cli.sources import ModelSource, load_model, require_torch
from penjing.cli.writing import claim
from penjing.core import knobs
from penjing.core.errors import InvalidInput
from penjing.core.targets import HOST, find_target, target_names
from penjing.ir.graph import Graph
from penjing.toolchain.compilers import find_compiler
from penjing.toolchain.environment import is_first_use

EXAMPLES: Examples = (
    (
        "a network of the zoo with trained weights, and what 8 bits cost it",
        "penjing build zoo:resnet20 --weights resnet20.npz \\\n    --calibrate cifar10 --evaluate cifar10",
    ),
    (
        "your own: net.py has a function or class TinyNet that gives a torch module",
        "penjing build net.py:TinyNet --input-shape 1x32x32 --weights net.pt \\\n"
        "    --calibrate samples.npy --mean 0.13 --std 0.31 --labels names.txt",
    ),
    (
        "an exported program, for this machine and for two others",
        "penjing build net.pt2 --calibrate images/ \\\n    --target host --target aarch64-linux --target wasm32",
    ),
    ("can it be built at all?", "penjing ops net.py:TinyNet --input-shape 1x32x32"),
)
_MODEL, _SMALLER, _TRAY = "The model", "Making it smaller", "The tray"


def build(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"{MODEL_KINDS}.", show_default=False)],
    calibrate: Annotated[
        str | None, typer.Option(metavar="SAMPLES", help=f"Typical inputs: {SOURCES}.", rich_help_panel=_SMALLER)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="The file to write; else NAME.tray.", rich_help_panel=_TRAY),
    ] = None,
    samples: Annotated[
        int, typer.Option(metavar="N", help="How many of them, at most.", min=1, rich_help_panel=_SMALLER)
    ] = 512,
    weights: Weights = None,
    input_shape: InputShape = None,
    mean: Annotated[
        str | None, typer.Option(metavar="X,...", help="Subtracted from each channel in training.")
    ] = None,
    std: Annotated[str | None, typer.Option(metavar="X,...", help="What each channel was then divided by.")] = None,
    raw: Raw = True,
    observer: Annotated[
        ObserverName,
        typer.Option(metavar="mse|min-max", help="How ranges of activations are chosen.", rich_help_panel=_SMALLER),
    ] = ObserverName.MSE,
    prune: Annotated[
        float | None,
        typer.Option(
            metavar="0..1", help="Zero this share of each layer's weights.", min=0, max=1, rich_help_panel=_SMALLER
        ),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLES",
            help="Measure accuracy before and after on digits, mnist, cifar10, or an .npz with x and y.",
            rich_help_panel=_SMALLER,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help=f"Compile for {', '.join(target_names())}. Repeatable.", rich_help_panel=_TRAY
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model's name, also of its C functions.", rich_help_panel=_TRAY)
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of the classes, one per line.", rich_help_panel=_TRAY)
    ] = None,
    standalone: Annotated[
        bool,
        typer.Option("--standalone", help="Link the weights into the libraries, ready for flash.", rich_help_panel=_TRAY),
    ] = False,
    source: Annotated[
        bool, typer.Option("--source/--no-source", help="Keep the generated C in the tray.", rich_help_panel=_TRAY)
    ] = True,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Import a model, quantize it to 8 bits, compile it and pack it into a tray."""
    require_torch()
    targets = list(dict.fromkeys(target or [HOST]))
    _check_targets(targets)
    if calibrate is None:
        raise InvalidInput(
            "quantization needs typical inputs, to see which ranges occur",
            where="--calibrate",
            hint=f"add --calibrate with {SOURCES} (if only speed matters)",
        )
    names = read_labels(labels)
    if output is not None:
        claim(output, force=force)
    loaded = load_model(model, weights=weights, input_shape=input_shape)
    stem = name or loaded.name
    path = output or Path(f"{stem}.tray")
    claim(path, force=force)
    if len(loaded.examples) != 1:
        what = f"the model takes {len(loaded.examples)} inputs; the command line builds models with one"
        raise InvalidInput(what, where=model, hint="in Python: penjing.capture, quantize, lower, build, save")
    if not loaded.trained:
        note(f"{model} has random weights: good for speed and size, not for answers; --weights loads trained ones")
    port = described_port(loaded.port, mean, std, loaded.shape)
    seed = knobs.SEED.integer()
    with phases(quiet=as_json) as shown:
        shown.start("reading samples")
        drawn = calibration_samples(calibrate, loaded.shape, port, samples, raw=raw, seed=seed)
        tested = labelled_samples(evaluate, loaded.shape, port, raw=raw) if evaluate else None
        shown.start("importing the model")
        original = api.capture(loaded.module, loaded.examples, name=stem)
        class_names = check_labels(names or loaded.labels, original, given=names is not None)
        graph = original if prune is None else api.prune(original, ratio=prune)
        program = _quantized(graph, drawn, observer, shown)
        options = api.BuildOptions(
            targets=host_targets(targets) if tested else targets,
            standalone=standalone,
            ports=[port],
            labels=class_names,
            card=_card(loaded, drawn, observer, prune),
            golden_inputs=[drawn.x[:2]],
            with_source=source,
        )
        parts = api.assemble(program, options, progress=shown.start)
        measured = measure(original, parts, tested, shown) if tested else None
        parts = only_targets(parts, targets)
        tray = api.pack(parts, accuracy=measured.accuracy if measured else None)
        save_tray(tray, path, force=force)
    result = facts_of(path, tray, original, parts, measured)
    if as_json:
        print_json(result)
    else:
        show_build(path, result, measured)
