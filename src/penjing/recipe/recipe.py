"""A recipe: steps in order, as text and as values.

name: small
steps:
  - prune-magnitude: {ratio: 0.8}
  - fine-tune: {epochs: 2, learning_rate: 0.01}
  - quantize
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penjing.core.errors import InvalidInput, PenjingError
from penjing.ir.passes import Pass
from penjing.recipe.code_trainings import CODE_TRAININGS
from penjing.recipe.document import MAX_BYTES, Item, read_document, shown, write_document
from penjing.recipe.options import Option, fields_of, item_of, read_options
from penjing.recipe.step import (
    PassStep,
    PlainStep,
    Quantize,
    Step,
    own_step_of,
    pass_kinds,
    plain_options,
    step_of_pass,
)
from penjing.recipe.trainings import TRAININGS

MAX_STEPS = 100


@dataclass(frozen=True)
class Recipe:
    """Steps that make a network smaller, in order.

    Attributes:
        steps: passes of `compress/` without statistics may stand here as they are; `step` makes all others.
        name: for records and cards.
        places: where each step stands in its file, for errors.
    """

    steps: tuple[Step, ...]
    name: str = "recipe"
    places: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    def __init__(self, steps: Sequence[Step | Pass], name: str = "recipe", places: Sequence[str] = ()) -> None:
        """Check what can be checked without a graph.

        Raises:
            InvalidInput: no steps, or one that cannot follow the others.
        """
        made = tuple(step_of_pass(one) if isinstance(one, Pass) else one for one in steps)
        named = tuple(places) or tuple(f"step {i} ({one.name})" for i, one in enumerate(made, 1))
        object.__setattr__(self, "steps", made)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "places", named)
        if not 1 <= len(made) <= MAX_STEPS:
            raise InvalidInput(f"a recipe has 1 to {MAX_STEPS} steps, not {len(made)}", where=name)
        if not (1 <= len(name) <= 100 and name.isprintable()):
            raise InvalidInput("a recipe's name is one line of 1 to 100 characters")


@dataclass(frozen=True)
class StepKind:
    """What there is to choose from.

    Attributes:
        name: as a recipe writes it.
        cls: the pass or the step itself.
        options: plain ones.
        summary: the first sentence of what it does.
    """

    name: str
    cls: type
    options: tuple[Option, ...]
    summary: str

    def make(self, given: Mapping[str, Any], where: str) -> Step:
        """The step with these options; `where` it stands, for errors."""
        if issubclass(self.cls, Pass):
            return PassStep(self.cls, dict(given))
        try:
            made = self.cls(**given)
        except PenjingError as error:
            error.where = error.where or where
            raise
        assert isinstance(made, Step)
        return made


def step_kinds() -> dict[str, StepKind]:
    """Name -> every step there is: passes, trainings, quantization."""
    own: tuple[type[PlainStep], ...] = (*TRAININGS, *CODE_TRAININGS, Quantize)
    kinds = [StepKind(cls.name, cls, fields_of(cls), _summary(cls)) for cls in own]
    kinds += [StepKind(name, cls, plain_options(cls), _summary(cls)) for name, cls in pass_kinds().items()]
    return {kind.name: kind for kind in sorted(kinds, key=lambda kind: kind.name)}


def step(name: str, /, **options: Any) -> Step:
    """The step `name` with plain options, checked as those of a file are.

    Raises:
        InvalidInput: no such step or option, or a value of another type.
    """
    given = {key: item_of(value, f"step {name}") for key, value in options.items()}
    return _made(name, Item(given, f"step {name}"), f"step {name}")


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """The recipe in a .yaml, .yml or .json file.

    Raises:
        InvalidInput: no such file, or what is wrong in it, with its line.
        MissingDependency: YAML, and PyYAML is not installed.
    """
    place = Path(path)
    if not place.is_file():
        raise InvalidInput(f"there is no file {place}", where=str(place), hint="give a recipe, .yaml or .json")
    with place.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the recipe is not UTF-8 at byte {error.start}", where=str(place)) from error
    return parse_recipe(text, where=str(place), name=place.stem)


def parse_recipe(text: str, *, where: str = "recipe", name: str = "recipe") -> Recipe:
    """The recipe in `text`; JSON when `where` ends with .json.

    Args:
        text: at most 64 KiB.
        where: its file, for errors.
        name: of the recipe, where the text gives none.

    Raises:
        InvalidInput: what is wrong in it, with its line.
    """
    document = read_document(text, where)
    if not isinstance(document.value, dict):
        raise InvalidInput("a recipe is a mapping with the key `steps`", where=document.where)
    known = {"name", "steps"}
    for key, item in document.value.items():
        if key not in known:
            raise InvalidInput(f"unknown key {key[:60]!r}", where=item.where, hint="a recipe has: name, steps")
    title = document.value.get("name", Item(name, where))
    steps = document.value.get("steps")
    if not isinstance(title.value, str):
        raise InvalidInput(f"name must be text, not {shown(title.value)}", where=title.where)
    if steps is None or not isinstance(steps.value, list) or not steps.value:
        raise InvalidInput("a recipe needs `steps`, a list", where=document.where if steps is None else steps.where)
    if len(steps.value) > MAX_STEPS:
        raise InvalidInput(f"{len(steps.value)} steps are more than {MAX_STEPS}", where=steps.where)
    places = [f"{item.where}, step {number}" for number, item in enumerate(steps.value, 1)]
    made = [_step(item, place) for item, place in zip(steps.value, places, strict=True)]
    named = [f"{place} ({one.name})" for place, one in zip(places, made, strict=True)]
    return Recipe(made, title.value, named)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML that reads back to an equal one; options at their defaults are left out."""
    steps: list[Any] = []
    for one in recipe.steps:
        options = one.options()
        steps.append({one.name: options} if options else one.name)
    return write_document({"name": recipe.name, "steps": steps})


def _step(item: Item, place: str) -> Step:
    if isinstance(item.value, str):
        return _made(item.value, Item({}, item.where), place)
    if not isinstance(item.value, dict) or len(item.value) != 1:
        raise InvalidInput(
            f"a step is a name, or one name with its options, not {shown(item.value)}",
            where=place,
            hint="write `- prune-magnitude: {ratio: 0.5}`",
        )
    ((name, options),) = item.value.items()
    return _made(name, options, place)


def _made(name: str, options: Item, place: str) -> Step:
    kinds = step_kinds()
    kind = kinds.get(name)
    if kind is None:
        instead = own_step_of(name)
        hint = f"write {instead}" if instead else f"there are: {', '.join(kinds)}"
        raise InvalidInput(f"there is no step {name[:60]!r}", where=place, hint=hint)
    given = {} if options.value is None else options.value
    if not isinstance(given, dict):
        raise InvalidInput(f"the options of {name} are a mapping, not {shown(options.value)}", where=options.where)
    return kind.make(read_options(kind.options, _relocated(given, place), name, place), place)


def _relocated(given: dict[str, Item], place: str) -> dict[str, Item]:
    """Where lines are not known, as in JSON, the step is."""
    return {key: item if ", line " in item.where else Item(item.value, place) for key, item in given.items()}


def _summary(cls: type) -> str:
    first = " ".join((cls.__doc__ or "").partition("\n\n")[0].split())
    return first.partition(". ")[0].rstrip(".")
