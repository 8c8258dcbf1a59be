"""An error says what, where and what to do, as text and as a dictionary."""

import json

import pytest

from penjing.core.errors import CorruptBundle, InvalidGraph, MissingCompiler, PenjingError, TextSyntaxError


def test_the_text_has_one_line_for_each_part():
    error = InvalidGraph("value %y is defined twice", where="node y (relu, model.py:12)", hint="rename it")
    assert str(error).splitlines() == [
        "value %y is defined twice",
        "  at   node y (relu, model.py:12)",
        "  try  rename it",
        "  see  docs/errors/invalid-graph.md",
    ]


def test_parts_that_are_not_known_take_no_line():
    assert str(PenjingError("something")).splitlines() == ["something", "  see  docs/errors/penjing-error.md"]


def test_a_place_that_is_learned_later_shows():
    error = InvalidGraph("shapes do not fit")
    error.where = "node conv1 (conv2d)"
    assert "  at   node conv1 (conv2d)" in str(error)


def test_the_dictionary_holds_the_same_and_can_be_written_as_json():
    error = MissingCompiler("no compiler for 木", where=None, hint="pip install ziglang")
    assert json.loads(json.dumps(error.as_dict())) == {
        "error": "MissingCompiler",
        "what": "no compiler for 木",
        "where": None,
        "hint": "pip install ziglang",
        "slug": "missing-compiler",
    }


@pytest.mark.parametrize(("error", "kinds"), [(TextSyntaxError, 3), (CorruptBundle, 3), (InvalidGraph, 2)])
def test_a_caller_can_catch_one_kind_or_a_whole_branch(error, kinds):
    branch = [base for base in error.__mro__ if issubclass(base, PenjingError)]
    assert len(branch) == kinds
    for base in branch:
        with pytest.raises(base):
            raise error("what")
