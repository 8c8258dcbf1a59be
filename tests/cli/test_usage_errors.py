"""Wrong usage: exit code 2, one sentence and where to read on, as JSON too."""

import pytest

WRONG = {
    "no such command": (("trim",), "No such command 'trim'", "penjing"),
    "no such option": (("inspect", "a.tray", "--colour"), "No such option: --colour", "penjing inspect"),
    "a missing argument": (("run",), "Missing argument 'TRAY'", "penjing run"),
    "no samples": (("build", "net.py:TinyNet", "--samples", "0"), "'--samples'", "penjing build"),
    "a share above one": (("build", "net.py:TinyNet", "--prune", "1.5"), "'--prune'", "penjing build"),
    "a share below zero": (("demo", "--prune", "-0.5"), "'--prune'", "penjing demo"),
    "no number": (("bench", "a.tray", "--rounds", "many"), "'--rounds'", "penjing bench"),
    "no such choice": (("run", "a.tray", "b.png", "--engine", "gpu"), "'gpu' is not one of", "penjing run"),
    "no such observer": (("build", "m", "--observer", "max"), "'max' is not one of", "penjing build"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_told_in_one_sentence(refused, case):
    arguments, fragment, command = WRONG[case]
    told = refused(*arguments, error="UsageError", code=2)
    assert fragment in told.err
    assert told.err.splitlines()[1] == f"  try  {command} --help"


def test_an_option_without_its_value_names_the_command(penjing):
    told = penjing("share", "net.graph", "--entries")
    assert told.code == 2
    assert "'--entries'" in told.err
    assert "try  penjing share --help" in told.err


def test_wrong_usage_as_json_names_the_command(penjing):
    found = penjing("run", "--json").json()
    assert found["where"] == "penjing run"
    assert found["hint"] == "penjing run --help"
