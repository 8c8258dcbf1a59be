"""Files stay short, have names that say something, and name no machine they were written on."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MAX_LINES = 600
# path: why it may be longer. Keep it short; an entry that is no longer needed fails too.
LONG_FILES: dict[str, str] = {}

EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}

# Folders of somebody's own machine. The character classes keep this line from matching itself.
CODE = re.compile(r"^    .*$|`[^`\n]*`", re.MULTILINE)
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:wor[k]|roo[t]|tmp/[a-z])/")
NEVER_COMMITTED = {".git", ".venv", "build", "dist", "__pycache__", "node_modules"}


def code_files(root: Path) -> Iterator[Path]:
    for folder in ("src", "tests", "benchmarks"):
        for suffix in ("py", "c", "h"):
            yield from sorted((root / folder).rglob(f"*.{suffix}"))


@pytest.fixture(scope="module")
def committed(root: Path) -> list[Path]:
    """The files git tracks or would add; of an unpacked archive, all but caches."""
    git = shutil.which("git")
    if git is not None and (root / ".git").exists():
        command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listing = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
        names = [root / os.fsdecode(name) for name in listing.split(b"\0") if name]
    else:
        names = [path for path in root.rglob("*") if not NEVER_COMMITTED & set(path.relative_to(root).parts)]
    return [path for path in names if path.is_file()]


def test_no_file_is_longer_than_600_lines(root):
    long = {}
    for file in code_files(root):
        lines = len(file.read_text(encoding="utf-8").splitlines())
        if lines > MAX_LINES:
            long[str(file.relative_to(root))] = lines
    unnamed = {name: lines for name, lines in long.items() if name not in LONG_FILES}
    assert not unnamed, f"over {MAX_LINES} lines: split them by idea: {unnamed}"
    assert set(LONG_FILES) <= set(long), f"short again, strike them off: {set(LONG_FILES) - set(long)}"


def test_no_file_or_folder_has_a_name_that_says_nothing(root):
    names = [file.relative_to(root) for file in code_files(root)]
    empty = [str(name) for name in names if EMPTY_NAMES & {part.partition(".")[0] for part in name.parts}]
    assert not empty, "name these after what they do: " + ", ".join(empty)


def test_no_committed_file_names_a_folder_of_somebodys_machine(committed, root):
    offences = []
    for file in committed:
        for number, line in enumerate(file.read_bytes().decode("utf-8", errors="replace").splitlines(), start=1):
            if MACHINE_PATH.search(line):
                offences.append(f"{file.relative_to(root)}:{number}: {line.strip()[:100]}")
    assert not offences, "\n".join(offences)


def test_relative_links_in_the_documentation_lead_to_files(committed, root):
    links = [
        (page, target)
        for page in committed
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", CODE.sub("", page.read_text(encoding="utf-8")))
        if "://" not in target and not target.startswith("mailto:")
    ]
    broken = [f"{page.relative_to(root)} -> {target}" for page, target in links if not (page.parent / target).exists()]
    assert not broken, "\n".join(broken)
