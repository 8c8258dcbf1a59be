"""Each deliberate error has one class, one place in the tree, and one page that its text points to."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from penjing.core import errors
from penjing.core.errors import PenjingError

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, PenjingError)]


def kebab_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_error_has_a_page_named_by_its_slug(error, root):
    page = root / "docs" / "errors" / f"{error.slug}.md"
    assert error.slug == kebab_case(error.__name__)
    assert page.is_file(), f"write docs/errors/{error.slug}.md"
    assert error.__name__ in page.read_text(encoding="utf-8")
    assert error("what happened").as_dict()["slug"] == error.slug
    assert f"docs/errors/{error.slug}.md" in str(error("what happened"))


def test_every_page_belongs_to_an_error_and_the_index_lists_it(root):
    folder = root / "docs" / "errors"
    pages = {page.stem for page in folder.glob("*.md")} - {"README"}
    assert pages == {error.slug for error in CLASSES}
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert {Path(name).stem for name in re.findall(r"\]\(([a-z-]+\.md)\)", index)} == pages


def test_the_tree_drawn_in_the_module_is_the_tree_of_the_classes():
    drawn: dict[str, str | None] = {}
    branch: list[str] = []
    for indent, name in re.findall(r"^    ((?:[| ]   )*(?:\+-- )?)([A-Z]\w+)", errors.__doc__, re.MULTILINE):
        depth = len(indent) // 4
        branch[depth:] = [name]
        drawn[name] = branch[depth - 1] if depth else None
    real = {error.__name__: error.__base__.__name__ for error in CLASSES}
    assert drawn == {**real, "PenjingError": None}


def test_every_subclass_of_a_penjing_error_lives_in_the_one_tree(sources):
    names = {error.__name__ for error in CLASSES}
    strays = [
        f"{source.path}:{node.lineno}: {node.name}"
        for source in sources
        if source.path.as_posix() != "core/errors.py"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and names & {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    ]
    assert not strays, "\n".join(strays)
