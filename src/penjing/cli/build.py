"""`penjing build`: from a trained model to a tray."""

from pathlib import Path
from typing import Annotated

import typer

from penjing.bundle.manifest_rules import MAX_THREADS
from penjing.cli.arguments import (
    MODEL_KINDS,
    OF_INPUT,
    SMALLER,
    AsJson,
    Examples,
    Fix,
    Force,
    InputShape,
    Observer,
    ObserverName,
    Raw,
    SampleCount,
    Std,
    Weights,
)
from penjing.cli.build_steps import Request, make, prepare
from penjing.cli.build_view import as_dict, show_build
from penjing.cli.output import phases, print_json
from penjing.cli.samples import SOURCES
from penjing.core.targets import HOST, target_names

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
    ("how each convolution runs fastest on this machine", "penjing build net.pt2 --calibrate samples.npy --autotune"),
    (
        "a network for sequences, to be called frame by frame",
        "penjing build net.py:Denoiser --input-shape 100x8 \\\n    --calibrate frames.npy --stream 1",
    ),
    (
        "the first and the last layer in float32, all others in 8 bits",
        "penjing build net.pt2 --calibrate samples.npy \\\n    --keep-float conv1.weight --keep-float 'head.*'",
    ),
    ("can it be built at all?", "penjing ops net.py:TinyNet --input-shape 1x32x32"),
)
_TRAY = "Options: the tray"


def build(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"{MODEL_KINDS}.", show_default=False)],
    weights: Weights = None,
    input_shape: InputShape = None,
    fix: Fix = None,
    mean: Annotated[
        str | None,
        typer.Option(metavar="X,...", help="Subtracted from each channel in training.", rich_help_panel=OF_INPUT),
    ] = None,
    std: Std = None,
    raw: Raw = True,
    calibrate: Annotated[
        str | None, typer.Option(metavar="SAMPLES", help=f"Typical inputs: {SOURCES}.", rich_help_panel=SMALLER)
    ] = None,
    samples: SampleCount = 512,
    observer: Observer = ObserverName.MSE,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Compute the layer of this weight in float32; a pattern such as 'head.*' means several. Repeatable.",
            rich_help_panel=SMALLER,
        ),
    ] = None,
    prune: Annotated[
        float | None,
        typer.Option(
            metavar="0..1", help="Zero this share of each layer's weights.", min=0, max=1, rich_help_panel=SMALLER
        ),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLES",
            help="Measure accuracy before and after, on digits, mnist, cifar10, or an .npz with x and y.",
            rich_help_panel=SMALLER,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The file to write; else NAME.tray.", rich_help_panel=_TRAY
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model's name, also of its C functions.", rich_help_panel=_TRAY),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help=f"Compile for {', '.join(target_names())}. Repeatable.", rich_help_panel=_TRAY
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of the classes, one per line.", rich_help_panel=_TRAY)
    ] = None,
    standalone: Annotated[
        bool,
        typer.Option(
            "--standalone",
            metavar="",
            help="Link the weights into the libraries, ready for flash.",
            rich_help_panel=_TRAY,
        ),
    ] = False,
    stream: Annotated[
        int | None,
        typer.Option(
            metavar="STEPS",
            help="Build a network for whole sequences as one that reads so many steps a call and remembers the others.",
            min=1,
            rich_help_panel=_TRAY,
        ),
    ] = None,
    time_axis: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Where the steps of --stream are in the input (n, ...); else 1, the axis behind the batch.",
            min=1,
            rich_help_panel=_TRAY,
        ),
    ] = None,
    threads: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="How many threads may work on one call, where the target has SIMD kernels.",
            min=1,
            max=MAX_THREADS,
            rich_help_panel=_TRAY,
        ),
    ] = 1,
    autotune: Annotated[
        bool,
        typer.Option(
            "--autotune",
            metavar="",
            help="Measure on this machine how each convolution is best cut, and build so.",
            rich_help_panel=_TRAY,
        ),
    ] = False,
    tiles: Annotated[
        Path | None,
        typer.Option(
            metavar="TRAY",
            help="Cut convolutions as in this tray, which --autotune made, maybe elsewhere.",
            rich_help_panel=_TRAY,
        ),
    ] = None,
    source: Annotated[
        bool,
        typer.Option(
            "--source/--no-source", metavar="", help="Keep the generated C in the tray.", rich_help_panel=_TRAY
        ),
    ] = True,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Quantize a model to 8 bits, compile it, pack it into a tray.

    The model comes from torch or ONNX. What was imported is checked against it, and all that cannot be carried is
    listed at once, before any work.
    """
    request = Request(
        model=model,
        weights=weights,
        input_shape=input_shape,
        fix=tuple(fix or ()),
        mean=mean,
        std=std,
        raw=raw,
        calibrate=calibrate,
        samples=samples,
        observer=observer.value,
        keep_float=tuple(keep_float or ()),
        prune=prune,
        evaluate=evaluate,
        output=output,
        name=name,
        targets=tuple(dict.fromkeys(target or [HOST])),
        labels=labels,
        standalone=standalone,
        stream=stream,
        time_axis=time_axis,
        threads=threads,
        autotune=autotune,
        tiles=tiles,
        source=source,
        force=force,
    )
    with phases(quiet=as_json) as shown:
        shown.start("loading the model")
        prepared = prepare(request)
        built = make(request, prepared, shown)
    if as_json:
        print_json(as_dict(built))
    else:
        show_build(built)
