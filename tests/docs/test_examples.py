"""Each example is one command."""

import os
import platform
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def make(require, copy_of):
    """`make("c_caller")`: what `make` prints in a copy of the example."""
    if platform.system() != "Linux":
        pytest.skip("the examples' compiler commands are those of Linux")
    require("cc")
    program = require("make")

    def run(name, *variables):
        command = [str(program), f"PYTHON={sys.executable}", *variables]
        folder = copy_of(f"examples/{name}")
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    return run


def test_the_custom_model_tells_a_worn_pump_from_a_healthy_one_without_torch(make):
    printed = make("custom_model")
    assert "healthy pump: fine" in printed
    assert "worn pump: ALARM" in printed


def test_the_c_caller_hears_every_kind_of_wave(make):
    printed = make("c_caller")
    for kind in ("sine", "square", "sawtooth"):
        assert f"{kind} heard as {kind}\n" in printed


def test_the_speech_example_hears_digits_frame_by_frame_with_the_bytes_of_the_whole(make, data_dir):
    if not (data_dir / "spoken_digits.npz").is_file():
        pytest.skip("spoken_digits.npz is not in the data folder")
    printed = make("speech", "EPOCHS=6")
    in_float, in_int8 = (float(share) for share in re.findall(r"([\d.]+) %", printed))
    assert in_float >= 96
    assert in_int8 >= in_float - 0.5
    assert "differ between whole recordings and frames: 0\n" in printed
    assert re.findall(r"heard (\d)", printed) == ["3", "7"]


def test_the_decoder_writes_characters_from_a_cache_with_the_bytes_of_the_whole(make, data_dir):
    if not all((data_dir / name).is_file() for name in ("sick_test.txt", "sts2015_test.tsv")):
        pytest.skip("the sentences are not in the data folder")
    printed = make("character_generation", "STEPS=8")
    in_float, in_int8 = (float(bits) for bits in re.findall(r"([\d.]+) bits per character", printed))
    assert in_float < 5.7
    assert in_int8 < in_float + 0.05
    assert "differ between whole sequences and steps: 0\n" in printed
    assert re.search(r"^a man is.{50}", printed, re.MULTILINE) and "library" in printed
