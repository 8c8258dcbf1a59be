"""Arguments and options that several commands have, and the examples below their help."""

import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

MODEL_KINDS = "zoo:NAME, FILE.py:FACTORY, PACKAGE.MODULE:FACTORY, FILE.pt2, FILE.onnx or FILE.graph"

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
    PERCENTILE = "percentile"
    ENTROPY = "entropy"


TrayPath = Annotated[Path, typer.Argument(metavar="TRAY", help="The .tray file.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON document, also for errors.")]
Force = Annotated[bool, typer.Option("--force", metavar="", help="Replace files that exist.")]
Engine = Annotated[
    EngineName,
    typer.Option(
        help="What computes: the tray's library, the interpreter (the same bytes, slowly), or the first there is.",
        metavar="auto|library|interpreter",
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        metavar="CxHxW",
        help="The input of a factory, or of an ONNX model that leaves it open, without the batch, such as 3x32x32; "
        "1..128x384 for sequences of up to 128 steps; ids:32 for 32 integers that embeddings look up.",
    ),
]
Fix = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=NUMBER",
        help="Fill an input of an ONNX model with a number: attention_mask=1, as nothing is padded. Repeatable.",
    ),
]
Weights = Annotated[Path | None, typer.Option(metavar="FILE", help="Trained weights: an .npz, .pt or .pth state dict.")]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw/--no-raw",
        metavar="",
        help="Arrays hold raw values, to be scaled and normalised; --no-raw: they are normalised already.",
    ),
]

OF_INPUT, SMALLER = "Options: the input", "Options: making it smaller"
Std = Annotated[
    str | None, typer.Option(metavar="X,...", help="What each channel was then divided by.", rich_help_panel=OF_INPUT)
]
SampleCount = Annotated[
    int, typer.Option(metavar="N", help="How many of them, at most.", min=1, rich_help_panel=SMALLER)
]
Observer = Annotated[
    ObserverName,
    typer.Option(
        metavar="mse|min-max|percentile|entropy", help="How ranges of activations are chosen.", rich_help_panel=SMALLER
    ),
]


def explanation(function: Callable[..., None]) -> str:
    """A command's docstring with each paragraph on one line, as help texts are wrapped to the terminal."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def epilog(examples: Examples) -> str:
    """Examples as the last part of a command's help."""
    lines = [f"[dim]# {purpose}[/dim]\n[bold]{command}[/bold]" for purpose, command in examples]
    return "\n".join(["Examples:", *lines])
