"""Dataclasses with shared methods: whatever the standard ones do that the package relies on, they do too."""

import copy
import dataclasses
from dataclasses import field
from functools import cached_property
from typing import ClassVar

import pytest

from penjing.core.dataclass import dataclass


def classes(decorator):
    """The same classes by either decorator."""

    @decorator(frozen=True)
    class Point:
        """A point."""

        kind: ClassVar[str] = "point"

        x: int
        y: int = 2
        tags: list[str] = field(default_factory=list, compare=False, repr=False)

        @cached_property
        def sum(self) -> int:
            return self.x + self.y

    @decorator(frozen=True)
    class Heavy(Point):
        """With a mass."""

        mass: float = 1.0

        def __post_init__(self):
            object.__setattr__(self, "mass", float(self.mass))

    @decorator(frozen=True, eq=False)
    class Apart:
        """Equal to itself only."""

        x: int

    @decorator(frozen=True)
    class Nothing:
        """No fields."""

    return Point, Heavy, Apart, Nothing


@pytest.fixture(params=[dataclass, dataclasses.dataclass], ids=["ours", "standard"])
def made(request):
    return classes(request.param)


def test_fields_come_by_place_by_name_and_by_default(made):
    point, heavy, *_ = made
    assert vars(point(1)) == {"x": 1, "y": 2, "tags": []}
    assert vars(point(y=4, x=3, tags=["a"])) == {"x": 3, "y": 4, "tags": ["a"]}
    assert vars(heavy(1, 5, mass=3)) == {"x": 1, "y": 5, "tags": [], "mass": 3.0}
    assert type(heavy(1, mass=3).mass) is float
    assert point(1).tags is not point(1).tags


@pytest.mark.parametrize(
    ("given", "named"), [((), {}), ((1, 2, [], 4), {}), ((1,), {"x": 1}), ((1,), {"z": 1})], ids=str
)
def test_other_arguments_are_type_errors(made, given, named):
    with pytest.raises(TypeError):
        made[0](*given, **named)


def test_nothing_can_be_set_or_deleted(made):
    for value in (made[0](1), made[1](1)):
        for name in ("x", "other"):
            if type(value) is not made[0] and name == "other":
                continue
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, name, 1)
        with pytest.raises(dataclasses.FrozenInstanceError):
            del value.x
        assert value.sum == 3


def test_values_are_equal_when_their_compared_fields_are(made):
    point, heavy, apart, nothing = made
    assert point(1, tags=["a"]) == point(1) != point(1, 3)
    assert point(1) != heavy(1) and heavy(1) != heavy(1, mass=2)
    assert hash(point(1, tags=["a"])) == hash(point(1)) != hash(point(2))
    assert len({point(1), point(1), point(2), heavy(1)}) == 3
    assert apart(1) != apart(1) and len({apart(1), apart(1)}) == 2
    assert nothing() == nothing() and hash(nothing()) == hash(nothing())
    assert point(1) != (1, 2)


def test_they_show_themselves_as_the_standard_ones_do():
    for ours, standard in zip(classes(dataclass), classes(dataclasses.dataclass), strict=True):
        given = (1,) if dataclasses.fields(standard) else ()
        assert repr(ours(*given)) == repr(standard(*given))
        assert [f.name for f in dataclasses.fields(ours)] == [f.name for f in dataclasses.fields(standard)]
        assert ours.__match_args__ == standard.__match_args__


def test_replace_and_copies_work(made):
    heavy = made[1]
    assert dataclasses.replace(heavy(1), y=7) == heavy(1, 7)
    assert copy.deepcopy(heavy(1, 7)) == heavy(1, 7)
    assert dataclasses.is_dataclass(heavy)


@pytest.mark.parametrize("first", [dataclass, dataclasses.dataclass], ids=["ours first", "standard first"])
def test_either_kind_inherits_from_the_other(first):
    second = dataclasses.dataclass if first is dataclass else dataclass

    @first(frozen=True)
    class Base:
        """One field."""

        x: int

    @second(frozen=True)
    class Derived(Base):
        """Two."""

        y: int = 2

    assert repr(Derived(1)).endswith("Derived(x=1, y=2)")
    assert Derived(1) == Derived(1, 2) != Derived(1, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Derived(1).x = 2


def test_what_is_not_frozen_is_a_standard_one():
    @dataclass
    class Counter:
        """Counts."""

        n: int = 0

    counter = Counter()
    counter.n += 1
    assert counter == Counter(1)
