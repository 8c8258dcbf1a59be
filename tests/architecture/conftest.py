"""What the architecture tests look at: the checkout and the parsed sources of the package."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Source:
    """One module of the package."""

    path: Path  # below src/penjing
    tree: ast.Module

    @property
    def layer(self) -> str:
        """`ops` for ops/conv2d.py, `api` for api.py, `__init__` for the package's own."""
        return self.path.parts[0].removesuffix(".py")

    def calls(self) -> Iterator[ast.Call]:
        """Every call in the module."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))

    def imports(self) -> Iterator[tuple[str, int]]:
        """(dotted name, line) of every import, at the top or in a function, also by importlib with a fixed name."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: a relative import"
                if node.module == "penjing":
                    yield from ((f"penjing.{alias.name}", node.lineno) for alias in node.names)
                else:
                    yield str(node.module), node.lineno
        for call in self.calls():
            fixed = bool(call.args) and isinstance(call.args[0], ast.Constant)
            if fixed and ast.unparse(call.func) in {"importlib.import_module", "import_module", "__import__"}:
                yield str(ast.literal_eval(call.args[0])), call.lineno


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def package(root: Path) -> Path:
    """src/penjing."""
    return root / "src" / "penjing"


@pytest.fixture(scope="session")
def sources(package: Path) -> list[Source]:
    """Every module of the package, parsed."""
    files = sorted(package.rglob("*.py"))
    return [Source(file.relative_to(package), ast.parse(file.read_text(encoding="utf-8"))) for file in files]
