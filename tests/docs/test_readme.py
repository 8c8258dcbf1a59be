"""What the README says is so: its code runs, its lists are complete, its pictures are there."""

import re
import xml.etree.ElementTree as ET

import pytest

from penjing.core.targets import TARGETS
from penjing.zoo import catalog

STATEMENTS = 10


@pytest.fixture(scope="module")
def text(request):
    return (request.config.rootpath / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_of_the_readme_runs(run_page):
    names = run_page("README.md").names
    assert names["scores"].shape == (4, 10)


def test_the_python_of_the_readme_is_ten_lines_at_most(blocks):
    (python,) = (block for block in blocks("README.md") if block.language == "python")
    lines = [line for line in python.text.splitlines() if line and not line.startswith(("#", "import"))]
    assert len(lines) <= STATEMENTS


def test_the_readme_names_every_target(text):
    assert not [target.name for target in TARGETS if f"`{target.name}`" not in text]


def test_the_readme_names_every_reference_network(text):
    (row,) = (line for line in text.splitlines() if "`zoo:`" in line)
    variants = {"resnet8-option-a"}  # of a network that is named
    assert not [name for name in catalog.names() if name not in variants and not re.search(rf"\b{name}\b", row)]


def test_the_commands_of_the_readme_are_targets_of_make(text, root):
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    used = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", text))
    assert {"demo", "setup"} <= used
    assert not [name for name in used if not re.search(rf"^{name}:", makefile, re.MULTILINE)]


@pytest.mark.parametrize("name", ["demo", "road", "performance"])
def test_a_picture_is_svg_that_fetches_nothing(root, name):
    text = (root / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    outside = set(re.findall(r"https?://[^\s\"'<)]+", text)) - {"http://www.w3.org/2000/svg"}
    assert outside <= {"https://www.textualize.io"}  # a comment that names the maker
