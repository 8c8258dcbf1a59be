"""The onnx package's own node tests: those of claimed operators pass, but for a list with reasons."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from penjing.core.errors import InvalidInput, UnsupportedOp

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "spec" / "onnx.md"


@pytest.fixture(scope="module")
def harness():
    """node_tests.py beside this file."""
    spec = importlib.util.spec_from_file_location("node_tests", Path(__file__).with_name("node_tests.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def excluded() -> set[str]:
    table = PAGE.read_text(encoding="utf-8").rpartition("|---|---|")[2]
    return {f"test_{name}" for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.rpartition(" | ")[2])}


def test_every_node_test_of_a_claimed_operator_passes_or_is_listed_with_a_reason(harness, tmp_path):
    listed, passed, failed = excluded(), [], {}
    for name, test in harness.node_tests().items():
        try:
            wrong = harness.run(test, tmp_path / "node.onnx")
        except (UnsupportedOp, InvalidInput) as error:
            wrong = str(error)
        if wrong:
            failed[name] = wrong
        else:
            passed.append(name)
    new = {name: wrong for name, wrong in failed.items() if name not in listed}
    assert not new, "\n".join(f"{name}: {wrong}" for name, wrong in new.items())
    assert not listed.intersection(passed), f"they pass now: strike them off {PAGE.name}"
    # another version of onnx may have others; with fewer than these, something is not collected
    assert len(passed) > 160
