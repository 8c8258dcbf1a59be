"""The suite's own promise: where nothing may be skipped, a skip of any kind is a failure with its reason."""

import os
import shutil
import subprocess
import sys

import pytest

SKIPS = {
    "a missing program": 'def test_it(require): require("no-such-program")',
    "missing data": "def test_it(data_dir): pass",
    "a mark": 'import pytest\n@pytest.mark.skip(reason="because")\ndef test_it(): pass',
    "a whole file": 'import pytest\npytest.importorskip("no_such_module")\ndef test_it(): pass',
}


def run(folder, root, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(root / "tests" / "conftest.py", folder)
    (folder / "test_it.py").write_text(text)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PENJING_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(folder)]
    return subprocess.run(command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", SKIPS)
def test_a_skip_is_a_failure_where_nothing_may_be_skipped(kind, tmp_path, root):
    assert run(tmp_path, root, SKIPS[kind]).returncode in {0, 5}  # 5: the only file was left out
    refused = run(tmp_path, root, SKIPS[kind], PENJING_NO_SKIP="1")
    assert refused.returncode not in {0, 5}
    assert "skipped although PENJING_NO_SKIP is set: " in refused.stdout


def test_an_expected_failure_is_no_skip(tmp_path, root):
    text = "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_it(): assert False"
    assert run(tmp_path, root, text, PENJING_NO_SKIP="1").returncode == 0


def test_a_failure_prints_the_command_that_repeats_it(tmp_path, root):
    text = 'import pytest\n@pytest.mark.parametrize("a", ["x y"])\ndef test_it(a): assert False'
    assert ".venv/bin/pytest 'test_it.py::test_it[x y]'" in run(tmp_path, root, text).stdout
