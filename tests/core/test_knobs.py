"""Environment variables are read when they are needed, with a default and a clear error."""

import stat
from pathlib import Path

import pytest

from penjing.core import knobs
from penjing.core.errors import InvalidInput
from penjing.core.knobs import Knob

LEVEL = Knob("PENJING_TEST_LEVEL", "a level", "3")
PLACE = Knob("PENJING_TEST_PLACE", "a folder")


def test_a_knob_that_is_not_set_has_its_default(monkeypatch):
    monkeypatch.delenv(LEVEL.name, raising=False)
    monkeypatch.delenv(PLACE.name, raising=False)
    assert (LEVEL.text(), LEVEL.integer()) == ("3", 3)
    assert (PLACE.text(), PLACE.path()) == ("", None)


def test_a_knob_is_read_anew_each_time(monkeypatch, tmp_path):
    for value in ("1", "-20"):
        monkeypatch.setenv(LEVEL.name, value)
        assert LEVEL.integer() == int(value)
    monkeypatch.setenv(PLACE.name, str(tmp_path))
    assert PLACE.path() == tmp_path


@pytest.mark.parametrize("value", ["", "two", "1.5", "1e3", "0x10"])
def test_what_is_no_integer_is_refused_with_the_name_of_the_variable(monkeypatch, value):
    monkeypatch.setenv(LEVEL.name, value)
    with pytest.raises(InvalidInput, match=f"{LEVEL.name} must be an integer, not {value!r}") as caught:
        LEVEL.integer()
    assert LEVEL.name in str(caught.value.hint)


def test_the_cache_is_made_on_demand_for_its_owner_alone(monkeypatch, tmp_path):
    monkeypatch.setenv(knobs.CACHE.name, str(tmp_path / "deep" / "cache"))
    folder = knobs.cache_dir()
    assert folder == tmp_path / "deep" / "cache"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert knobs.cache_dir() == folder


def test_the_cache_may_be_named_by_a_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(knobs.CACHE.name, "~/kept")
    assert knobs.cache_dir() == Path(tmp_path) / "kept"


def test_every_knob_has_a_meaning_and_a_name_of_its_own():
    assert all(knob.name.isupper() and knob.meaning for knob in knobs.ALL)
    assert len({knob.name for knob in knobs.ALL}) == len(knobs.ALL)
