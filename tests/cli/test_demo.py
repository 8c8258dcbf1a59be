"""`penjing demo`, the whole of it: what it leaves, what it says, and that it can be repeated."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from penjing.bundle.tray import open_tray
from penjing.cli.demo_steps import Delivered, Made, Network, deliver
from penjing.cli.demo_view import show_demo
from penjing.cli.output import phases
from penjing.cli.verify import SelfTest
from penjing.core.errors import BundleError
from penjing.measure.timing import Timing


def network(name: str, nbytes: int, ram_bytes: int, median_us: float) -> Network:
    rounds = (median_us,) * 3
    right = np.arange(10_000) % 50 != 0
    return Network(name, right, nbytes, ram_bytes, Timing(median_us, median_us, median_us, 3, rounds))


def made(tray: bytes = b"") -> Made:
    networks = (
        network("float", 1_066_024, 131_072, 100_000.0),
        network("pruned", 1_066_024, 131_072, 123_456.7),
        network("int8", 1_000, 100, 55.5),
    )
    return Made("CIFAR-10 (JPEG)", 0.5, networks, tray, b"png")


def test_the_table_fits_80_columns_without_a_cell_that_is_cut_or_wrapped(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    show_demo(made(), Delivered(Path("edgecnn.tray"), Path("digit.png"), SelfTest("library aarch64-linux", 4, 1000, 0)))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    rows = [line.split() for line in lines[2:7]]
    assert [row[0] for row in rows] == ["float", "pruned", "to", "int8", "to"]
    assert rows[0][1:] == ["98.00", "%", "97.71..98.26", "1.0", "MiB", "128.0", "KiB", "100000", "us"]
    assert "1066x smaller" in lines[6]
    assert "1802x faster" in lines[6]
    assert "1.23x slower" in lines[4]


def test_a_tray_that_computes_something_else_is_not_left(place, monkeypatch):
    wrong = SelfTest("library", 4, 1000, 7)
    monkeypatch.setattr("penjing.cli.demo_steps._verify", lambda _: wrong)
    with phases(quiet=True) as shown, pytest.raises(BundleError, match="7 bytes differ"):
        deliver(made((place / "edgecnn.tray").read_bytes()), place / "new", shown, force=False)
    assert not (place / "new").exists()


def test_a_tray_that_another_process_verifies_is_left_with_its_image(place):
    with phases(quiet=True) as shown:
        found = deliver(made((place / "edgecnn.tray").read_bytes()), place / "new" / "folder", shown, force=False)
    assert (found.test.random, found.test.differing_bytes) == (1000, 0)
    assert found.test.engine.startswith("library")
    assert sorted(path.name for path in (place / "new" / "folder").iterdir()) == ["digit.png", "edgecnn.tray"]


@pytest.mark.slow
def test_the_demo_trains_compresses_verifies_and_can_be_repeated(process, place):
    first = process("demo", "--data", "digits", "-o", "demo")
    assert first.code == 0, first.err
    for words in ("float", "pruned", "int8", "no byte differs", "points of accuracy"):
        assert words in first.out
    assert max(map(len, first.out.splitlines())) <= 80
    tray = (place / "demo" / "edgecnn.tray").read_bytes()
    accuracy = open_tray(place / "demo" / "edgecnn.tray").variant("default").accuracy
    assert accuracy.low > 0.9

    commands = re.findall(r"^  (.*penjing.* (?:run|inspect|bench) .*)$", first.err, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        done = subprocess.run(command, shell=True, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    said = subprocess.run(commands[0], shell=True, cwd=place, capture_output=True, text=True, check=True).stdout
    assert said.startswith("demo/digit.png: 0 ")

    again = process("demo", "--data", "digits", "-o", "demo", "--force", "--json")
    found = again.json()
    assert (place / "demo" / "edgecnn.tray").read_bytes() == tray
    assert [row["name"] for row in found["networks"]] == ["float", "pruned", "int8"]
    assert found["networks"][2]["accuracy"] == accuracy.value
    assert found["networks"][2]["size_ratio"] > 3
    assert found["networks"][2]["ram_ratio"] > 1
    assert found["verified"]["differing_bytes"] == 0
    assert again.err == ""
    assert sys.executable in commands[0]
