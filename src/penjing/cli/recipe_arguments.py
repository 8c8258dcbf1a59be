"""Commands made of recipes: `penjing apply` and the verbs."""

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

from penjing.cli.output import phases, print_json
from penjing.cli.recipe_request import Request
from penjing.cli.recipe_steps import make
from penjing.cli.recipe_view import as_dict, show_made
from penjing.recipe.recipe import Recipe

_STEP = "Options: the step"
_SHARED = inspect.signature(Request).parameters
SHARED = frozenset(_SHARED)
Command = Callable[..., None]
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
        request = Request(**values)
        with phases(quiet=request.as_json) as shown:
            made = make(request, recipe, shown)
        if request.as_json:
            print_json(as_dict(made))
        else:
            show_made(made)

    shared = [parameter for parameter in _SHARED.values() if trains or parameter.name not in _OF_TRAININGS]
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
    """An option of the step itself; `told` is plain text."""
    information = typer.Option(metavar=metavar, help=escape(told), rich_help_panel=_STEP)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, information]
    )
