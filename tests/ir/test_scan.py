"""Registries of folders: one operator costs its own file, and none is out of reach."""

import importlib
import sys

import pytest

from penjing.ir.scan import FolderRegistry

OPERATOR = """
from penjing.ir.graph import Operation

class {cls}(Operation):
    name = "{name}"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """`folder(files)`: a registry of a package with these modules (operators by name), and the package's name."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def make(files: dict[str, list[str]]) -> tuple[FolderRegistry, str]:
        package = f"{tmp_path.name}_{len(names)}".replace("-", "_")
        names.append(package)
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
        for module, operators in files.items():
            text = "\n".join(OPERATOR.format(cls=name.title(), name=name) for name in operators)
            (tmp_path / package / f"{module}.py").write_text(text)
        importlib.invalidate_caches()
        return FolderRegistry(package, importlib.import_module(package).__path__), package

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]


def loaded(package: str) -> set[str]:
    return {name.removeprefix(f"{package}.") for name in sys.modules if name.startswith(f"{package}.")}


FILES = {"add": ["add", "q_add"], "conv": ["q_conv"], "conv_transpose": ["q_conv_transpose"], "odd": ["q_hidden"]}


@pytest.mark.parametrize(
    ("name", "modules"),
    [("q_add", {"add"}), ("add", {"add"}), ("q_conv", {"conv"}), ("q_conv_transpose", {"conv_transpose"})],
)
def test_an_operator_costs_the_file_that_is_named_like_it(folder, name, modules):
    registry, package = folder(FILES)
    assert registry[name].name == name
    assert loaded(package) == modules


def test_an_operator_in_a_file_of_any_name_is_found(folder):
    registry, _ = folder(FILES)
    assert registry["q_hidden"].name == "q_hidden"


def test_what_no_file_defines_is_not_there(folder):
    registry, _ = folder(FILES)
    assert registry.get("q_add_more") is None
    assert "q_other" not in registry
    with pytest.raises(KeyError):
        registry["q_other"]


def test_all_operators_are_listed_whatever_was_looked_up_before(folder):
    registry, _ = folder(FILES)
    registry["q_conv_transpose"]
    assert list(registry) == ["add", "q_add", "q_conv", "q_conv_transpose", "q_hidden"]
    assert len(registry) == 5


def test_two_operators_of_one_name_are_refused(folder):
    registry, _ = folder({"a": ["q_same"], "b": ["q_same"]})
    with pytest.raises(RuntimeError, match="two operators are called q_same"):
        list(registry)
