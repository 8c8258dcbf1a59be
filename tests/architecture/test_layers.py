"""Who imports whom: the table in CONTRIBUTING.md is the rule, and .importlinter is the rule for what others lead to."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROW = re.compile(r"^\| `(\w+)(?:/|\.py)` \|[^|]*\|([^|]*)\|([^|]*)\|$", re.MULTILINE)
ALL_ABOVE = "all above"


@pytest.fixture(scope="module")
def table(root: Path) -> dict[str, tuple[set[str], set[str]]]:
    """Layer -> (layers it may import, outside libraries it may import)."""
    rows: dict[str, tuple[set[str], set[str]]] = {}
    for layer, inside, outside in ROW.findall((root / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        named = set(rows) if ALL_ABOVE in inside else set(re.findall(r"`(\w+)`", inside))
        assert named <= set(rows), f"{layer} may import {named - set(rows)}, which must then stand above it"
        rows[layer] = named, set(re.findall(r"`(\w+)`", outside))
    return rows


def test_every_part_of_the_package_has_a_row_and_every_row_a_part(table, package):
    parts = {entry.name.removesuffix(".py") for entry in package.iterdir() if not entry.name.startswith(("_", "."))}
    assert set(table) | {"kernels"} == parts - {"py.typed"}


def test_each_module_imports_only_what_its_row_allows(table, sources):
    offences = []
    for source in sources:
        if source.layer in ("__init__", "kernels"):
            continue
        inside, outside = table[source.layer]
        for name, line in source.imports():
            top, _, rest = name.partition(".")
            if top == "penjing":
                allowed = rest.partition(".")[0] in inside | {source.layer}
            else:
                allowed = top in sys.stdlib_module_names | outside
            if not allowed:
                offences.append(f"src/penjing/{source.path}:{line} imports {name}")
    assert not offences, "CONTRIBUTING.md does not allow:\n" + "\n".join(offences)


def test_import_linter_keeps_every_contract(root):
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_package_has_no_folder_that_a_wheel_would_leave_out(package):
    folders = {file.parent for file in package.rglob("*.py")}
    bare = sorted(str(folder) for folder in folders if not (folder / "__init__.py").is_file())
    assert not bare, f"without __init__.py: {bare}"
