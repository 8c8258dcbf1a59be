"""Pages that are made from the code are what the code would make now."""

import subprocess
import sys

import pytest

from penjing.ops import integer_operators, operators


@pytest.mark.parametrize("tool", ["tools/operator_table.py", "tools/result_tables.py", "docs/pictures/performance.py"])
def test_what_a_tool_writes_is_up_to_date(root, tool):
    command = [sys.executable, tool, "--check"]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_every_operator_has_a_row(root):
    text = (root / "docs" / "operators.md").read_text(encoding="utf-8")
    missing = [name for name in (*operators(), *integer_operators()) if f"| [`{name}`](" not in text]
    assert not missing
