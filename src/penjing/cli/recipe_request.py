"""What `penjing apply` and the verbs take alike: one declaration, which is their options too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from penjing.cli.arguments import MODEL_KINDS, AsJson, Fix, Force, InputShape, Raw, Weights
from penjing.cli.samples import SOURCES

_DATA, _OUT = "Options: data", "Options: output"


@dataclass(frozen=True)
class Request:
    """What was asked for, as the help of each says."""

    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"{MODEL_KINDS}.", show_default=False)]
    weights: Weights = None
    input_shape: InputShape = None
    fix: Fix = None
    mean: Annotated[
        str | None,
        typer.Option(metavar="X,...", help="Subtracted from each channel in training.", rich_help_panel=_DATA),
    ] = None
    std: Annotated[
        str | None, typer.Option(metavar="X,...", help="What each channel was then divided by.", rich_help_panel=_DATA)
    ] = None
    raw: Raw = True
    calibrate: Annotated[
        str | None,
        typer.Option(metavar="SAMPLES", help=f"Typical inputs: {SOURCES}.", rich_help_panel=_DATA),
    ] = None
    samples: Annotated[
        int, typer.Option(metavar="N", help="How many of them, at most.", min=1, rich_help_panel=_DATA)
    ] = 512
    train: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLES",
            help="What steps that train learn from: digits, mnist, cifar10, or an .npz with x and y.",
            rich_help_panel=_DATA,
        ),
    ] = None
    evaluate: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLES",
            help="Measure accuracy after every step, on digits, mnist, cifar10, or an .npz with x and y.",
            rich_help_panel=_DATA,
        ),
    ] = None
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The network that distil learns from, in any form that MODEL takes; else the given one.",
            rich_help_panel=_DATA,
        ),
    ] = None
    teacher_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its trained weights, as --weights.", rich_help_panel=_DATA)
    ] = None
    latency: Annotated[
        bool,
        typer.Option(
            "--latency", metavar="", help="Compile and time the network after every step.", rich_help_panel=_OUT
        ),
    ] = False
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep the state of trainings there: the same command goes on after Ctrl-C.",
            rich_help_panel=_OUT,
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="A .graph, or a .tray when quantized; else NAME-STEP.graph.",
            rich_help_panel=_OUT,
        ),
    ] = None
    force: Force = False
    as_json: AsJson = False
