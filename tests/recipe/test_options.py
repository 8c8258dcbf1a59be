"""Fields of passes by their types: which a recipe can write, which are filled in, and by whom."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

import numpy as np
import pytest

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.observe import Batch
from penjing.compress.quantize.calibrate import Ranges
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.recipe.data import Data
from penjing.recipe.options import fields_of, is_plain, item_of, plain_value, read_options
from penjing.recipe.recipe import StepKind
from penjing.recipe.step import PassStep, Work, plain_options, statistics_of
from penjing.testing.networks import Network


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Rule(Protocol):
    def keeps(self, n: int) -> bool: ...


@dataclass(frozen=True)
class AtMost:
    limit: int

    def keeps(self, n: int) -> bool:
        return n <= self.limit


@dataclass(frozen=True)
class Unrelated:
    limit: int


@dataclass(frozen=True)
class Everything(Pass):
    """All kinds of fields.

    Attributes:
        number: one of them,
            told in two lines.
        choice: another.
    """

    name = "everything"

    number: float
    inputs: Mapping[str, LayerInputs]
    peaks: Mapping[str, np.ndarray]
    choice: Literal["a", "b", 3] = "a"
    shape: tuple[int, int] = (16, 4)
    layers: tuple[str, ...] | None = None
    bits: int | Mapping[str, int] = 8
    colour: Colour = Colour.RED
    rule: Rule | None = None
    rules: Mapping[str, Rule] = field(default_factory=dict)
    ranges: Ranges | None = None

    def run(self, graph: Graph) -> PassResult:
        seen = f"{sorted(self.inputs)} {sorted(self.peaks)} {self.ranges is not None} {self.rule}"
        return PassResult(graph, (Remark("all", seen),))


def collect_peaks(
    graph: Graph, batches: Iterable[Batch], progress: Callable[[int], None] | None = None
) -> dict[str, np.ndarray]:
    return {"x": np.concatenate([batch.max(axis=0) for batch in batches])}  # type: ignore[union-attr]


def read(**given: Any) -> dict[str, Any]:
    return read_options(
        plain_options(Everything), {key: item_of(value, "here") for key, value in given.items()}, "everything", "there"
    )


def test_plain_fields_are_options_and_statistics_are_not():
    names = [option.name for option in plain_options(Everything)]
    assert names == ["number", "choice", "shape", "layers", "bits", "colour", "rule", "rules", "ranges"]
    filled = {name: needed for name, (_, needed) in statistics_of(Everything).items()}
    assert filled == {"inputs": True, "peaks": True, "ranges": False}


def test_values_are_read_by_their_types():
    got = read(
        number=1,
        choice=3,
        shape=[8, 4],
        layers=["a"],
        bits={"conv": 4},
        colour="blue",
        rule={"at-most": {"limit": 3}},
        rules={"a": {"at-most": {"limit": 1}}},
        ranges=None,
    )
    assert got == {
        "number": 1.0,
        "choice": 3,
        "shape": (8, 4),
        "layers": ("a",),
        "bits": {"conv": 4},
        "colour": Colour.BLUE,
        "rule": AtMost(3),
        "rules": {"a": AtMost(1)},
        "ranges": None,
    }
    assert isinstance(got["number"], float)
    kept = {key: plain_value(value) for key, value in got.items()}
    assert read(**kept) == got


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({}, "needs number: a number"),
        ({"number": 1, "choice": "c"}, "a | b | 3, not 'c'"),
        ({"number": 1, "choice": 3.0}, "a | b | 3, not 3.0"),
        ({"number": 1, "shape": [16]}, "[a whole number, a whole number], not a list"),
        ({"number": 1, "shape": [16, "4"]}, "not a list"),
        ({"number": 1, "layers": "conv"}, "a list of: text or null, not 'conv'"),
        ({"number": 1, "bits": {"conv": 4.5}}, "a mapping from names to: a whole number, not a mapping"),
        ({"number": 1, "colour": "green"}, "red | blue"),
        ({"number": 1, "rule": {"unrelated": {"limit": 1}}}, "{at-most: {limit}} or null"),
        ({"number": 1, "rule": {"at-most": {"limt": 1}}}, "at-most has no option 'limt'"),
        ({"number": 1, "ranges": 1}, "null, not 1"),
        ({"number": 1, "inputs": None}, "no option 'inputs'"),
    ],
)
def test_what_does_not_fit_is_told(given, what):
    with pytest.raises(InvalidInput) as caught:
        read(**given)
    assert what in caught.value.what
    assert caught.value.where in ("here", "there")


def test_help_comes_from_the_docstring():
    told = {option.name: option.help for option in fields_of(Everything)}
    assert told["number"] == "one of them, told in two lines."
    assert told["choice"] == "another."
    assert told["shape"] == ""


@pytest.mark.parametrize("kind", [np.ndarray, Graph, Mapping[int, int], dict, tuple, Callable[[], int], Any, Unrelated])
def test_what_text_cannot_say_is_not_plain(kind):
    assert not is_plain(kind)


def test_statistics_are_made_from_the_graph_at_hand():
    net = Network()
    x = net.input(3)
    graph = net.done(net.linear(x, 2, out="fc"))
    batches = (np.ones((4, 3), np.float32),)
    kind = StepKind("everything", Everything, plain_options(Everything), "")
    made = kind.make(read(number=1, rule={"at-most": {"limit": 3}}), "there")
    said: list[str] = []
    ran = made.run(graph, Work(Data(batches), lambda what, done, total: said.append(f"{what} {done} of {total}")))
    assert ran.log.changed[0].text == "['fc.weight'] ['x'] True AtMost(limit=3)"
    assert "collecting what layers read 4 of 4" in said
    without = kind.make(read(number=1, ranges=None), "there")
    assert isinstance(without, PassStep)
    assert without.options() == {"number": 1.0, "ranges": None}
    assert " False " in without.run(graph, Work(Data(batches), lambda *_: None)).log.changed[0].text
