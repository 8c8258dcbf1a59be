"""The help teaches: what each command does, every option, and examples that are real commands."""

import re
import shlex

import pytest

from penjing.cli.app import COMMANDS as REGISTERED
from penjing.cli.app import app, command_name

COMMANDS = {command_name(function): examples for function, examples in REGISTERED}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_without_arguments_the_help_is_shown(penjing):
    assert penjing().out == penjing("--help").out
    assert penjing().code == 0


def test_the_help_names_every_command_and_the_exit_codes(penjing):
    text = penjing("--help").out
    for command in COMMANDS:
        assert re.search(rf"^│ {command} ", text, re.MULTILINE)
    assert "130" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_fits_80_columns_and_ends_with_its_examples(penjing, command):
    text = penjing(command, "--help").out
    assert max(map(len, text.splitlines())) <= 80
    examples = text.partition("Examples:")[2]
    for purpose, example in COMMANDS[command]:
        assert purpose in examples
        assert all(line.strip() in examples for line in example.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(penjing, command):
    rows = re.findall(r"^│ (?:\*    )?(?:--|[A-Z]{3,}).*$", penjing(command, "--help").out, re.MULTILINE)
    assert rows
    for row in rows:
        assert len(re.findall(r"[A-Za-z]{2,}", re.sub(r"--[\w-]+|<\w+>", "", row))) >= 2, row


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_use_options_that_exist(penjing, command):
    for _, example in COMMANDS[command]:
        words = shlex.split(example.replace("\\\n", " "))
        if "penjing" not in words:
            continue
        verb, *arguments = words[words.index("penjing") + 1 :]
        known = set(re.findall(r"-{1,2}[a-z][a-z-]*", penjing(verb, "--help").out))
        assert {word for word in arguments if word.startswith("-")} <= known


def test_the_help_of_a_verb_shows_defaults_and_examples_of_values(penjing):
    assert "[default: 4.0]" in penjing("distil", "--help").out
    assert "'{fc1.weight: 32}'" in penjing("low-rank", "--help").out


def test_the_version_is_one_line(penjing):
    from penjing import __version__

    assert penjing("--version").out == f"penjing {__version__}\n"


def test_the_app_has_no_other_commands():
    assert {command.name for command in app.registered_commands} == set(COMMANDS)
