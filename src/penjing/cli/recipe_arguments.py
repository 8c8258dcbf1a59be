"""Arguments that `penjing apply` and the verbs share, and commands made of them."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from penjing.cli.arguments import MODEL_KINDS, AsJson, Force, InputShape, Raw, Weights
from penjing.cli.output import phases, print_json
from penjing.cli.recipe_steps import Request, make
from penjing.cli.recipe_view import as_dict, show_made
from penjing.cli.samples import SOURCES
from penjing.recipe.recipe import Recipe

_STEP, _DATA, _OUT = "Options: the step", "Options: data", "Options: output"
Model = Annotated[str, typer.Argument(metavar="MODEL", help=f"{MODEL_KINDS}.", show_default=False)]
Command = Callable[..., None]


def _shared(
    model: Model,
    weights: Weights = None,
    input_shape: InputShape = None,
    mean: Annotated[
        str | None,
        typer.Option(metavar="X,...", help="Subtracted from each channel in training.", rich_help_panel=_DATA),
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar="X,...", help="What each channel was then divided by.", rich_help_panel=_DATA)
    ] = None,
    raw: Raw = True,
    calibrate: Annotated[
        str | None,
        typer.Option(metavar="SAMPLES", help=f"Typical inputs: {SOURCES}.", rich_help_panel=_DATA),
    ] = None,
    samples: Annotated[
        int, typer.Option(metavar="N", help="How many of them, at most.", min=1, rich_help_panel=_DATA)
    ] = 512,
    train: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLES",
            help="What steps that train learn from: digits, mnist, cifar10, or an .npz with x and y.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLES",
            help="Measure accuracy after every step, on digits, mnist, cifar10, or an .npz with x and y.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The network that distil learns from, in any form that MODEL takes; else the given one.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    teacher_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its trained weights, as --weights.", rich_help_panel=_DATA)
    ] = None,
    latency: Annotated[
        bool,
        typer.Option(
            "--latency", metavar="", help="Compile and time the network after every step.", rich_help_panel=_OUT
        ),
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep the state of trainings there: the same command goes on after Ctrl-C.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="A .graph, or a .tray when quantized; else NAME-STEP.graph.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """The signature that all have in common."""


SHARED = frozenset(inspect.signature(_shared).parameters)
_OF_TRAININGS = ("train", "teacher", "teacher_weights", "checkpoint")


def recipe_command(
    name: str,
    text: str,
    own: Sequence[inspect.Parameter],
    recipe_of: Callable[[dict[str, Any]], Recipe],
    *,
    trains: bool,
) -> Command:
    """A command `name` with parameters `own` and the shared ones.

    Args:
        name: kebab-case.
        text: its help.
        own: keyword parameters as typer reads them.
        recipe_of: the recipe from the values of `own`; may refuse them.
        trains: whether it has the options of trainings.
    """

    def command(**values: Any) -> None:
        recipe = recipe_of({parameter.name: values.pop(parameter.name) for parameter in own})
        as_json = values.pop("as_json")
        given: dict[str, Any] = {**dict.fromkeys(_OF_TRAININGS), **values}
        request = Request(**given)
        with phases(quiet=as_json) as shown:
            made = make(request, recipe, shown)
        if as_json:
            print_json(as_dict(made))
        else:
            show_made(made)

    every = inspect.signature(_shared).parameters.values()
    shared = [parameter for parameter in every if trains or parameter.name not in _OF_TRAININGS]
    first = [parameter for parameter in own if parameter.default is inspect.Parameter.empty]
    rest = [parameter for parameter in own if parameter not in first]
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*first, shared[0], *rest, *shared[1:])
    ]
    command.__name__, command.__doc__ = name.replace("-", "_"), text
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def option(name: str, kind: Any, default: Any, metavar: str, told: str) -> inspect.Parameter:
    """An option of the step itself."""
    information = typer.Option(metavar=metavar, help=told, rich_help_panel=_STEP)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, information]
    )
