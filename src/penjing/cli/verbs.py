"""Verbs that are recipes of one step: `penjing prune`, `penjing quantize` and so on; their options are the step's."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penjing.cli.arguments import Examples
from penjing.cli.recipe_arguments import SHARED, Command, option, recipe_command
from penjing.compress.prune.patterns import Blocks, NOfM, Pattern, parse_pattern
from penjing.core.errors import InvalidInput, PenjingError
from penjing.recipe.document import Item, read_value
from penjing.recipe.options import Option, item_of, kind_text, read_options
from penjing.recipe.recipe import Recipe, StepKind, step_kinds
from penjing.recipe.step import AUTO
from penjing.recipe.trainings import TRAININGS

TRAINED = {kind.name for kind in TRAININGS}
_METAVARS = {"a whole number": "N", "a number": "X", "text": "TEXT"}
_HALF = "add --ratio 0.5 for half of them, for example"
_PATTERNS = "unstructured, N:M such as 4:16, blocks such as 16x4, or channels"


@dataclass(frozen=True)
class Verb:
    """`name` as one types it, the step that it takes, what its help says, examples, and what it says of options."""

    name: str
    step: str
    text: str
    examples: Examples
    told: Mapping[str, str] = field(default_factory=dict)


VERBS = (
    Verb(
        "share",
        "share-weights",
        """Let the weights of each layer share few values, which a codebook lists.

    With 16 values a weight is a code of 4 bits. Zeros of a pruned network stay zero. With --calibrate, weights that
    matter more for what a layer computes are kept more exactly.
    """,
        (("16 values a layer", "penjing share net.graph --entries 16 --calibrate samples.npy"),),
        {
            "entries": "How many values a layer may have, 2 to 256; or '{conv1.weight: 16}' for some layers.",
            "scales": "Whether values are scaled for each output channel, or for the whole layer.",
            "rounded": "--no-rounded leaves the values as floats, to be trained.",
        },
    ),
    Verb(
        "shrink-kernels",
        "shrink-kernels",
        """Let convolutions become 1x1, those that lose least by it.

    A smaller filter does less work. It starts from the least squares fit of the old one; train afterwards.
    """,
        (("half of the convolutions", "penjing shrink-kernels net.graph --ratio 0.5 --calibrate samples.npy"),),
        {
            "layers": "Names of the weights whose layers shrink, such as conv1.weight,conv2.weight.",
            "count": "How many convolutions shrink: those that lose least.",
            "ratio": "What share of the convolutions shrinks: those that lose least.",
        },
    ),
    Verb(
        "merge-layers",
        "merge-layers",
        """Let two linear layers in a row become one, where that is less work.

    The network computes the same with fewer layers.
    """,
        (("where it pays", "penjing merge-layers net.graph"),),
        {"force": "Merge also where the one layer needs more work than both."},
    ),
    Verb(
        "low-rank",
        "low-rank",
        """Split a layer into two thin ones, where its weights are nearly of low rank.

    Two thin layers do less work than one thick one. Train afterwards.
    """,
        (("half of each layer's multiplications", "penjing low-rank net.graph --budget 0.5 --calibrate samples.npy"),),
        {
            "ranks": "Rank of each layer, as '{fc1.weight: 32}'.",
            "energy": "The share of the variance of each layer's outputs to keep, 0..1.",
            "budget": "The share of each layer's multiplications to spend, 0..1.",
            "layers": "Names of the weights to split, such as fc1.weight,fc2.weight; else all where it saves work.",
            "form": "Two layers, or three with fewer inputs too.",
            "multiple": "Round ranks to a multiple of this, such as 16, which kernels compute at once.",
        },
    ),
    Verb(
        "distil",
        "distil",
        """Train a compressed network to say what the original says.

    The network learns from the outputs of its teacher, not from labels alone. Zeros stay zero.
    """,
        (("after pruning", "penjing distil pruned.graph --teacher net.pt2 --train train.npz --epochs 5"),),
    ),
    Verb(
        "quantize",
        "quantize",
        """Turn weights and activations into 8-bit integers.

    The ranges of activations come from typical inputs. Weights that lie on a grid already keep it. The graph that is
    written builds without calibration.
    """,
        (
            ("a network of the zoo", "penjing quantize zoo:edgecnn --calibrate digits -o small.graph"),
            ("and then", "penjing build small.graph"),
        ),
        {"keep_float": "Weights whose layers are computed in float32, such as conv1.weight,head.*. Repeatable."},
    ),
)
_PRUNE_TEXT = f"""Zero or remove the weights that matter least.

    The pattern says where zeros may lie: {_PATTERNS}. Kernels leave out zeros where there are enough of them,
    in patterns sooner than anywhere; channels go whole and pay at once. What pays on this machine is told, and why the
    rest does not. Train afterwards to win back accuracy.
    """
PRUNE_EXAMPLES: Examples = (
    ("80 % of each layer's weights", "penjing prune zoo:edgecnn --ratio 0.8"),
    ("of every 16 weights 4 stay", "penjing prune net.graph --pattern 4:16"),
    ("70 % of the blocks of 16 x 4", "penjing prune net.graph --pattern 16x4 --ratio 0.7"),
    ("a third of the channels", "penjing prune net.graph --pattern channels --ratio 0.33"),
)


def commands() -> list[tuple[Command, Examples]]:
    """Each with its examples, in the order of the road."""
    kinds = step_kinds()
    return [(_prune(), PRUNE_EXAMPLES), *((_command(verb, kinds[verb.step]), verb.examples) for verb in VERBS)]


def _command(verb: Verb, kind: StepKind) -> Command:
    own = [_parameter(one, verb.told.get(one.name, one.help)) for one in kind.options if one.default is not AUTO]

    def recipe_of(values: dict[str, Any]) -> Recipe:
        return _one_step(verb.name, kind, values)

    return recipe_command(verb.name, verb.text, own, recipe_of, trains=verb.step in TRAINED)


def _parameter(one: Option, told: str) -> inspect.Parameter:
    """Text that is read as a recipe's value would be; a switch for true and false."""
    kind = kind_text(one.kind)
    said = f"{told[0].upper()}{told[1:]}" if told else f"What the step calls {one.name}."
    if one.kind is bool:
        return option(_name(one.name), bool | None, None, "", said)
    metavar = _METAVARS.get(kind.removesuffix(" or null"), "VALUE")
    choices = kind.split(" | ")
    if len(choices) > 1 and not all(choice in said for choice in choices):
        said = f"{said.rstrip('.')}: {', '.join(choices)}."
    if not one.is_needed and one.default not in (None, (), {}):
        said += f" [default: {one.default}]"
    taken = list[str] | None if kind.startswith("a list") else str | None
    return option(_name(one.name), taken, None, metavar, said)


def _name(of: str) -> str:
    """Of the option for a field: another one where all commands have an option of this name."""
    return f"step_{of}" if of in SHARED else of


def _one_step(name: str, kind: StepKind, values: dict[str, Any]) -> Recipe:
    given = {}
    for option_ in kind.options:
        value = values.get(_name(option_.name))
        if value is not None and value != []:
            where = f"--{_name(option_.name).replace('_', '-')}"
            given[option_.name] = _item(value, option_, where)
    return _recipe(name, kind, given)


def _item(value: bool | str | list[str], one: Option, where: str) -> Item:
    if isinstance(value, bool):
        return Item(value, where)
    if isinstance(value, list):  # given once with commas, or repeatedly
        value = value[0] if len(value) == 1 else ",".join(value)
    if kind_text(one.kind).startswith("a list") and not value.startswith("["):
        return Item([read_value(part.strip(), where) for part in value.split(",")], where)
    return read_value(value, where)


def _recipe(name: str, kind: StepKind, given: Mapping[str, Item]) -> Recipe:
    where = f"penjing {name}"
    return Recipe([kind.make(read_options(kind.options, given, name, where), where)], name, [where])


def _prune() -> Command:
    own = [
        option("pattern", str, "unstructured", "PATTERN", f"Where zeros may lie: {_PATTERNS}."),
        option("ratio", float | None, None, "0..1", "The share of weights, blocks or channels that goes."),
        option("scope", str, "layer", "layer|global", "Whether the share holds for each layer or for all together."),
        option(
            "compensate",
            bool,
            False,
            "",
            "Let the weights that stay make up for those that go, by what layers read; needs --calibrate.",
        ),
    ]
    return recipe_command("prune", _PRUNE_TEXT, own, _prune_recipe, trains=False)


def _prune_recipe(values: dict[str, Any]) -> Recipe:
    step, options = _pruning(**values)
    kind = step_kinds()[step]
    given = {key: item_of(value, f"--{key}") for key, value in options.items()}
    return _recipe("prune", kind, given)


def _pruning(pattern: str, ratio: float | None, scope: str, compensate: bool) -> tuple[str, dict[str, Any]]:
    """The step for a pattern, and its options."""
    if pattern == "channels":
        if ratio is None:
            raise InvalidInput(
                "the pattern channels needs a ratio: how much goes", where="--pattern channels", hint=_HALF
            )
        without = {} if compensate else {"inputs": None}
        return "prune-channels", {"ratio": ratio, "scope": "group" if scope == "layer" else scope, **without}
    made = _pattern(pattern, ratio)
    if scope != "layer" and (compensate or isinstance(made, NOfM)):
        raise InvalidInput("each layer is pruned by itself here", where="--scope", hint="leave it out")
    if compensate:
        return "prune-obs", {"pattern": made}
    match made:
        case NOfM(n, m):
            return "prune-n-of-m", {"n": n, "m": m}
        case Blocks(_, height, width):
            return "prune-blocks", {"ratio": ratio, "shape": (height, width), "scope": scope}
    return "prune-magnitude", {"ratio": ratio, "scope": scope}


def _pattern(text: str, ratio: float | None) -> Pattern:
    where = f"--pattern {text}" + ("" if ratio is None else f" --ratio {ratio}")
    try:
        made = parse_pattern(text, ratio)
    except PenjingError as error:
        error.where, error.hint = where, error.hint or _HALF
        raise
    if made is None:
        raise InvalidInput(f"there is no pattern {text!r}", where=where, hint=f"give {_PATTERNS}")
    return made
