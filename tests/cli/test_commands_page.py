"""docs/commands.md speaks of the commands there are, with options they have, and its transcripts say what they say."""

import re
import shlex
from pathlib import Path

import pytest

from penjing.cli.app import COMMANDS, command_name

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
NAMES = [command_name(function) for function, _ in COMMANDS]
TRANSCRIPTS = re.findall(r"^\$ penjing (.*)\n((?:(?!```).*\n)*)", PAGE, re.MULTILINE)


def section(name: str) -> str:
    return PAGE.partition(f"## penjing {name}\n")[2].partition("\n## ")[0]


def options(penjing, name: str) -> set[str]:
    return set(
        re.findall(r"(?<![\w-])(?:--[a-z][a-z-]+|-[a-z]\b)", penjing(name, "--help").out.partition("Examples:")[0])
    )


def test_every_command_has_its_section_and_no_other_has_one():
    assert re.findall(r"^## penjing ([\w-]+)$", PAGE, re.MULTILINE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_section_names_options_that_exist(penjing, name):
    named = set(re.findall(r"`(-{1,2}[a-z][a-z-]*)", section(name)))
    assert named <= options(penjing, name)


@pytest.mark.parametrize("name", ["build", "inspect", "run"])
def test_a_section_leaves_no_option_out(penjing, name):
    everywhere = {"--json", "--help", "-h", "--force", "--raw", "--source", "--output", "-o"}
    assert options(penjing, name) - everywhere <= set(re.findall(r"-{1,2}[a-z][a-z-]*", section(name)))


def test_transcripts_are_of_commands_with_options_that_exist(penjing):
    assert len(TRANSCRIPTS) >= 10
    for command, _ in TRANSCRIPTS:
        name, *arguments = shlex.split(command)
        assert {word for word in arguments if word.startswith("-")} <= options(penjing, name)


def test_the_transcripts_have_the_form_that_commands_print(penjing, place):
    """Words at the beginning of lines, without the figures, which differ."""
    said = dict(TRANSCRIPTS)
    for command in ("inspect edgecnn.tray", "ops zoo:mobilenetv2", "knobs", "inspect edgecnn.tray --self-test"):
        printed = penjing(*shlex.split(command)).out
        for line in said[command].splitlines():
            first = (line.split() or [""])[0]
            if first not in ("description", "pruning", "accuracy"):  # what the demo knows, and a plain build does not
                assert first in printed, f"`penjing {command}` prints no line with {first!r}"
