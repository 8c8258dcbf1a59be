"""`penjing apply`: a network through a recipe."""

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from penjing.cli.arguments import Examples
from penjing.cli.recipe_arguments import recipe_command
from penjing.recipe.recipe import Recipe, load_recipe

EXAMPLES: Examples = (
    (
        "prune, win back accuracy and quantize, as small.yaml says",
        "penjing apply small.yaml zoo:edgecnn --train digits --evaluate digits",
    ),
    (
        "with the original as teacher, for a recipe with the step distil",
        "penjing apply taught.yaml net-prune.graph --train train.npz --teacher net.pt2",
    ),
    (
        "the same down to a tray, with the time of every form of the network",
        "penjing apply small.yaml zoo:edgecnn --train digits --latency -o small.tray",
    ),
    (
        "a long training that Ctrl-C interrupts goes on where it was",
        "penjing apply small.yaml net.pt2 --train train.npz --checkpoint states",
    ),
)
TEXT = """Take a network through a recipe, and tell what each step was worth.

A recipe is a YAML or JSON file: `steps:` and a list of passes, trainings and quantization, with their options. The
order is checked, and that all data is there, before any work. What was done is kept in the file that is written.
"""


def _recipe(values: dict[str, Any]) -> Recipe:
    return load_recipe(values["recipe"])


_RECIPE = inspect.Parameter(
    "recipe",
    inspect.Parameter.KEYWORD_ONLY,
    annotation=Annotated[Path, typer.Argument(metavar="RECIPE", help="The .yaml or .json file.", show_default=False)],
)
apply = recipe_command("apply", TEXT, [_RECIPE], _recipe, trains=True)
