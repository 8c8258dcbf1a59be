"""docs/knobs.md lists the environment variables, all of them and no others."""

import re

from penjing.core import knobs

SUITE_ONLY = {"PENJING_NO_SKIP"}


def test_the_page_lists_every_knob_with_its_default(root):
    page = (root / "docs" / "knobs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`([^`]*)`|not set) \|", page, re.MULTILINE)
    assert rows == [(knob.name, knob.default) for knob in knobs.ALL]


def test_the_page_names_no_variable_that_nothing_reads(root):
    page = (root / "docs" / "knobs.md").read_text(encoding="utf-8")
    ours = {knob.name for knob in knobs.ALL if knob.name.startswith("PENJING_")}
    assert set(re.findall(r"PENJING_\w+", page)) == ours | SUITE_ONLY


def test_every_declared_knob_is_in_the_table_of_knobs():
    declared = {value for value in vars(knobs).values() if isinstance(value, knobs.Knob)}
    assert declared == set(knobs.ALL)
