"""Arguments and options that several commands have, and the examples below their help."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

MODEL_KINDS = "zoo:NAME, FILE.py:FACTORY, PACKAGE.MODULE:FACTORY or FILE.pt2"

# (what it is for, the command)
Examples = tuple[tuple[str, str], ...]


class EngineName(StrEnum):
    """What computes a model."""

    AUTO = "auto"
    LIBRARY = "library"
    INTERPRETER = "interpreter"


class ObserverName(StrEnum):
    """How ranges of activations are chosen."""

    MSE = "mse"
    MIN_MAX = "min-max"


TrayPath = Annotated[Path, typer.Argument(metavar="TRAY", help="The .tray file.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, also for errors.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Engine = Annotated[
    EngineName,
    typer.Option(
        help="What computes: the library in the tray, the interpreter (numpy, slow, the same bytes), or the first "
        "that is there.",
        metavar="auto|library|interpreter",
    ),
]
InputShape = Annotated[
    str | None, typer.Option(metavar="CxHxW", help="A factory's input, without the batch, such as 3x32x32.")
]
Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Trained weights: an .npz, .pt or .pth state dict.")
]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw/--no-raw",
        help="Arrays hold raw values, to be scaled and normalised; --no-raw: they are normalised already.",
    ),
]


def epilog(examples: Examples) -> str:
    """Examples as the last part of a command's help."""
    lines = [f"[dim]# {purpose}[/dim]\n[bold]{command}[/bold]" for purpose, command in examples]
    return "\n".join(["Examples:", *lines])
